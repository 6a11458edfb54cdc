package params_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

func parse(t *testing.T, raw string) params.Params {
	t.Helper()
	p, err := params.Parse(json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseWantsAnObject(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "null", "[]", `"text"`, "{"} {
		if _, err := params.Parse(json.RawMessage(raw)); engine.ClassOf(err) != engine.BadInput {
			t.Errorf("%q: got %v", raw, err)
		}
	}
}

func TestLookupGoesThroughTheLevels(t *testing.T) {
	t.Parallel()
	p := parse(t, `{"a": null, "b": 2, "orchestrator_details": {"a": 3, "b": 4}, "full_orchestrator_payload": {"c": 5}}`)
	for _, test := range []struct {
		names []string
		want  int
		found bool
	}{
		{[]string{"a"}, 3, true},
		{[]string{"b"}, 2, true},
		{[]string{"c"}, 5, true},
		{[]string{"a", "b"}, 2, true},
		{[]string{"d"}, 0, false},
	} {
		var got int
		found, err := params.Lookup(p, &got, "a number", test.names...)
		if err != nil || got != test.want || found != test.found {
			t.Errorf("%v: got %d, %t, %v", test.names, got, found, err)
		}
	}
	var text string
	if _, err := params.Lookup(p, &text, "a text", "b"); engine.ClassOf(err) != engine.BadInput || engine.MessageOf(err) != "The param b must be a text." {
		t.Errorf("got %v", err)
	}
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{}`:                                  "",
		`{"prompt": "a cat"}`:                 "a cat",
		`{"base_prompt": "b", "prompt": "p"}`: "p",
		`{"orchestrator_details": {"base_prompt": "b"}}`: "b",
	} {
		if got, err := parse(t, raw).Prompt(); err != nil || got != want {
			t.Errorf("%s: got %q, %v", raw, got, err)
		}
	}
	if _, err := parse(t, `{"prompt": 1}`).Prompt(); engine.ClassOf(err) != engine.BadInput {
		t.Errorf("got %v", err)
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("2b9c6f0e-58a0-4b5a-9d5c-0f0d3c2b1a00")
	const derived = 0x62c368d2
	for raw, want := range map[string]int64{
		`{}`:                         derived,
		`{"seed": -1}`:               derived,
		`{"seed": 0}`:                0,
		`{"seed": 9007199254740993}`: 9007199254740993,
		`{"orchestrator_details":{"seed_base":7}}`: 7,
	} {
		if got, err := parse(t, raw).Seed(id); err != nil || got != want {
			t.Errorf("%s: got %#x, %v; want %#x", raw, got, err, want)
		}
	}
	if _, err := parse(t, `{"seed": "x"}`).Seed(id); engine.ClassOf(err) != engine.BadInput {
		t.Errorf("got %v", err)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]params.Size{
		`{}`:                            {},
		`{"resolution": "768x512"}`:     {Width: 768, Height: 512},
		`{"size": " 64 x 32 "}`:         {Width: 64, Height: 32},
		`{"width": 640, "height": 480}`: {Width: 640, Height: 480},
		`{"size": "64x64", "width": 1}`: {Width: 64, Height: 64},
		`{"orchestrator_details": {"parsed_resolution_wh": "902x508"}}`: {Width: 902, Height: 508},
	} {
		if got, err := parse(t, raw).Size(); err != nil || got != want {
			t.Errorf("%s: got %v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{
		`{"size": "64"}`, `{"size": "0x64"}`, `{"size": "-4x64"}`, `{"size": 64}`, `{"width": 64}`, `{"height": 64}`,
		`{"width": 64, "height": -1}`, `{"width": "64", "height": 64}`,
	} {
		if _, err := parse(t, raw).Size(); engine.ClassOf(err) != engine.BadInput {
			t.Errorf("%s: got %v", raw, err)
		}
	}
}

func TestQuoteCutsLongTexts(t *testing.T) {
	t.Parallel()
	if got, want := params.Quote("a\nb"), `"a\nb"`; got != want {
		t.Errorf("got %s", got)
	}
	if got := params.Quote(string(make([]rune, 100))); len([]rune(got)) > 200 {
		t.Errorf("got %d characters", len([]rune(got)))
	}
}
