package phoenix_test

import (
	"encoding/json"
	"strings"
	"testing"

	"darkroom/gateway/realtime/phoenix"
)

// The same message in both framings, read and answered as the clients want it.
func TestBothFramings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version      phoenix.Version
		frame, reply string
	}{
		{phoenix.V1, `{"topic":"realtime:x","event":"phx_join","payload":{"a":1},"ref":"2","join_ref":"2"}`, `{"topic":"realtime:x","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}`},
		{phoenix.V1, `{"topic":"realtime:x","event":"phx_join","payload":{"a":1},"ref":"2"}`, `{"topic":"realtime:x","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}`},
		{phoenix.V2, `["1","2","realtime:x","phx_join",{"a":1}]`, `["1","2","realtime:x","phx_reply",{"status":"ok","response":{}}]`},
		{phoenix.V2, `[null,2,"realtime:x","phx_join",{"a":1}]`, `[null,2,"realtime:x","phx_reply",{"status":"ok","response":{}}]`},
	} {
		m, err := c.version.Decode([]byte(c.frame))
		if err != nil || m.Topic != "realtime:x" || m.Event != phoenix.Join || string(m.Payload) != `{"a":1}` || m.Ref.Number() != 2 {
			t.Errorf("%s is read as %v, %v", c.frame, m, err)
			continue
		}
		if got := string(c.version.Answer(m, "ok", struct{}{})); got != c.reply {
			t.Errorf("%s is answered by %s", c.frame, got)
		}
	}
	for text, want := range map[string]phoenix.Version{"": phoenix.V1, "1.0.0": phoenix.V1, "2.0.0": phoenix.V2} {
		if got, known := phoenix.ParseVersion(text); !known || got != want {
			t.Errorf("vsn %q is %v", text, got)
		}
	}
	if _, known := phoenix.ParseVersion("3.0.0"); known {
		t.Error("vsn 3.0.0 is known")
	}
}

func TestFramesAroundSharedData(t *testing.T) {
	t.Parallel()
	const topic = `realtime:"x"`
	for version, want := range map[phoenix.Version][2]string{
		phoenix.V1: {
			`{"topic":"realtime:\"x\"","event":"postgres_changes","ref":null,"payload":{"ids":[1,22],"data":{"a":1}}}`,
			`{"topic":"realtime:\"x\"","event":"broadcast","ref":null,"payload":{"type":"broadcast","event":"e","payload":{"a":1}}}`,
		},
		phoenix.V2: {
			`[null,null,"realtime:\"x\"","postgres_changes",{"ids":[1,22],"data":{"a":1}}]`,
			`[null,null,"realtime:\"x\"","broadcast",{"type":"broadcast","event":"e","payload":{"a":1}}]`,
		},
	} {
		if got := string(version.ChangeFrame(topic).With([]int{1, 22}, []byte(`{"a":1}`))); got != want[0] || !json.Valid([]byte(got)) {
			t.Errorf("change: %s", got)
		}
		if got := string(version.BroadcastFrame(topic, "e").Around([]byte(`{"a":1}`))); got != want[1] || !json.Valid([]byte(got)) {
			t.Errorf("broadcast: %s", got)
		}
	}
}

// A broadcast in a binary frame, as the clients of 2.0.0 send every one.
func TestBinaryBroadcasts(t *testing.T) {
	t.Parallel()
	frame := func(encoding byte, payload string) []byte {
		return append([]byte{3, 1, 2, 10, 5, 2, encoding}, "112realtime:xevent{}"+payload...)
	}
	m, cast, err := phoenix.DecodeBinary(frame(1, `{"a":1}`))
	if err != nil || m.Topic != "realtime:x" || m.Event != phoenix.Broadcast || m.Ref.Number() != 12 || cast.Event != "event" || string(cast.Payload) != `{"a":1}` || cast.Raw {
		t.Errorf("%v, %v, %v", m, cast, err)
	}
	_, cast, err = phoenix.DecodeBinary(frame(0, "\x00\xff"))
	if err != nil || !cast.Raw || string(cast.Payload) != "\x00\xff" {
		t.Errorf("bytes: %v, %v", cast, err)
	}
	if got, binary := phoenix.V2.Relay("realtime:x", cast); !binary || string(got) != "\x04\x0a\x05\x00\x00realtime:xevent\x00\xff" {
		t.Errorf("bytes are relayed as %q", got)
	}
	if got, _ := phoenix.V1.Relay("realtime:x", cast); got != nil {
		t.Errorf("bytes in the framing 1.0.0: %q", got)
	}
	for _, bad := range []string{"", "\x03", "\x03\xff\xff\xff\xff\xff\x01", "\x04\x00\x00\x01\x01\x00\x01xe{}", string(frame(1, "no json")), "\x03\x00\x00\x00\x01\x00\x01e{}"} {
		if m, _, err := phoenix.DecodeBinary([]byte(bad)); err == nil {
			t.Errorf("%q is read as %v", bad, m)
		}
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	t.Parallel()
	for version, frames := range map[phoenix.Version][]string{
		phoenix.V1: {``, `[]`, `{}`, `{"topic":"x"}`, `{"topic":1,"event":"e"}`, `{"topic":"x","event":"e","ref":{}}`, `{"topic":"x","event":"e","ref":"` + strings.Repeat("1", 100) + `"}`},
		phoenix.V2: {``, `{}`, `[]`, `[null,null,"x","e"]`, `[null,null,"x","e",{},1]`, `[null,null,"","e",{}]`, `[null,null,1,"e",{}]`, `[[],null,"x","e",{}]`},
	} {
		for _, frame := range frames {
			if m, err := version.Decode([]byte(frame)); err == nil {
				t.Errorf("%v: %s is read as %v", version, frame, m)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`["1","2","realtime:x","phx_join",{"a":1}]`))
	f.Add([]byte(`{"topic":"realtime:x","event":"phx_join","payload":{"a":1},"ref":"2","join_ref":"2"}`))
	f.Fuzz(func(_ *testing.T, frame []byte) {
		for _, version := range []phoenix.Version{phoenix.V1, phoenix.V2} {
			if m, err := version.Decode(frame); err == nil {
				_ = version.Answer(m, "ok", struct{}{})
				_, _ = phoenix.ParseJoin(m.Payload)
			}
		}
		_, _, _ = phoenix.DecodeBinary(frame)
	})
}
