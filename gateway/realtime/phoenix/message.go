// Package phoenix reads and writes the messages of Supabase's realtime clients: Phoenix channels in the framings 1.0.0 and 2.0.0.
//
// Source: the clients @supabase/realtime-js 2.11.2 (1.0.0) and 2.119.1 with @supabase/phoenix 0.4.5 (2.0.0).
package phoenix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Version is a framing: what the client names as vsn.
type Version int

// The framings.
const (
	V1 Version = 1 // objects: {topic, event, payload, ref, join_ref}
	V2 Version = 2 // arrays: [join_ref, ref, topic, event, payload], and binary broadcasts
)

// ParseVersion reads the vsn of a connection's URL; none is 1.0.0, as Phoenix has it.
func ParseVersion(vsn string) (Version, bool) {
	switch vsn {
	case "", "1.0.0":
		return V1, true
	case "2.0.0":
		return V2, true
	}
	return 0, false
}

// Events of channels.
const (
	Join        = "phx_join"
	Leave       = "phx_leave"
	Reply       = "phx_reply"
	Close       = "phx_close" // the channel ends for good
	Error       = "phx_error" // the client joins again by itself
	Heartbeat   = "heartbeat"
	AccessToken = "access_token"
	Broadcast   = "broadcast"
	Presence    = "presence"
	System      = "system"
	Changes     = "postgres_changes"
	// Socket is the topic of heartbeats.
	Socket = "phoenix"
	// TopicPrefix stands before the name that an app gives a channel.
	TopicPrefix = "realtime:"
)

// Ref is the number that a client gives a message, as it wrote it: a text or a number; nil is none.
type Ref json.RawMessage

// Number is the number in a ref, and 0 where there is none.
func (r Ref) Number() int64 {
	n, err := strconv.ParseInt(string(bytes.Trim(r, `"`)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// UnmarshalJSON takes a text, a number or null.
func (r *Ref) UnmarshalJSON(data []byte) error {
	const longest = 64
	switch {
	case string(data) == "null":
		*r = nil
		return nil
	case len(data) > longest || data[0] != '"' && data[0] != '-' && (data[0] < '0' || data[0] > '9'):
		return errRef
	}
	*r = append(Ref(nil), data...)
	return nil
}

// MarshalJSON writes it as it was.
func (r Ref) MarshalJSON() ([]byte, error) {
	if r == nil {
		return []byte("null"), nil
	}
	return r, nil
}

var (
	errRef     = errors.New("a ref is a short text or number")
	errMessage = errors.New("not a message of this framing")
)

// Message is what a client sends.
type Message struct {
	JoinRef Ref
	Ref     Ref
	Topic   string
	Event   string
	Payload json.RawMessage
}

const arrayLength = 5 // of the framing 2.0.0

// Decode reads a text frame.
func (v Version) Decode(frame []byte) (Message, error) {
	var m Message
	if v == V1 {
		object := struct {
			JoinRef *Ref            `json:"join_ref"`
			Ref     *Ref            `json:"ref"`
			Topic   *string         `json:"topic"`
			Event   *string         `json:"event"`
			Payload json.RawMessage `json:"payload"`
		}{JoinRef: &m.JoinRef, Ref: &m.Ref, Topic: &m.Topic, Event: &m.Event}
		if err := json.Unmarshal(frame, &object); err != nil {
			return Message{}, fmt.Errorf("%w: %w", errMessage, err)
		}
		m.Payload = object.Payload
	} else {
		parts := []any{&m.JoinRef, &m.Ref, &m.Topic, &m.Event, &m.Payload}
		var array []json.RawMessage
		if err := json.Unmarshal(frame, &array); err != nil {
			return Message{}, fmt.Errorf("%w: %w", errMessage, err)
		}
		if len(array) != arrayLength {
			return Message{}, errMessage
		}
		for i, part := range parts {
			if err := json.Unmarshal(array[i], part); err != nil {
				return Message{}, fmt.Errorf("%w: %w", errMessage, err)
			}
		}
	}
	if m.Topic == "" || m.Event == "" {
		return Message{}, errMessage
	}
	return m, nil
}

// Kinds of binary frames.
const (
	pushKind  = 3 // a client's broadcast
	relayKind = 4 // of the server to its receivers
)

// Cast is a broadcast. Either Payload is JSON, or Raw says that it is bytes.
type Cast struct {
	Event   string
	Payload []byte
	Raw     bool
}

// DecodeBinary reads a binary frame: a broadcast by a client, the only one that clients send. Its parts are as long as the bytes after the kind say:
// join_ref, ref, topic, event, metadata; one more byte says whether the payload is JSON (1) or bytes (0).
func DecodeBinary(frame []byte) (Message, Cast, error) {
	const head = 7
	if len(frame) < head || frame[0] != pushKind {
		return Message{}, Cast{}, errMessage
	}
	rest := frame[head:]
	parts := make([]string, 0, head)
	for _, size := range frame[1:6] {
		if len(rest) < int(size) {
			return Message{}, Cast{}, errMessage
		}
		parts = append(parts, string(rest[:size]))
		rest = rest[size:]
	}
	cast := Cast{Event: parts[3], Payload: bytes.Clone(rest), Raw: frame[6] == 0}
	if parts[2] == "" || cast.Event == "" || !cast.Raw && !json.Valid(rest) {
		return Message{}, Cast{}, errMessage
	}
	return Message{JoinRef: quoteRef(parts[0]), Ref: quoteRef(parts[1]), Topic: parts[2], Event: Broadcast}, cast, nil
}

// ParseCast reads the payload of a broadcast in a text frame.
func ParseCast(payload json.RawMessage) (Cast, error) {
	var said struct {
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(payload, &said); err != nil || said.Event == "" {
		return Cast{}, errMessage
	}
	if said.Payload == nil {
		said.Payload = json.RawMessage("{}")
	}
	return Cast{Event: said.Event, Payload: said.Payload}, nil
}

// Relay is the frame that hands a broadcast to a receiver; binary says which kind of frame it is. Nil: this framing cannot carry it.
func (v Version) Relay(topic string, cast Cast) (frame []byte, binary bool) {
	const longest = 255
	switch {
	case !cast.Raw:
		return v.BroadcastFrame(topic, cast.Event).Around(cast.Payload), false
	case v == V1 || len(topic) > longest || len(cast.Event) > longest:
		return nil, false
	}
	frame = append(frame, relayKind, byte(len(topic)), byte(len(cast.Event)), 0, 0) //nolint:gosec // checked above
	return append(append(append(frame, topic...), cast.Event...), cast.Payload...), true
}

func quoteRef(text string) Ref {
	if text == "" {
		return nil
	}
	return Ref(quote(text))
}

func quote(text string) []byte {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err) // a text is always JSON
	}
	return data
}

// Answer is the reply to a message: status "ok" or "error", and what comes with it.
func (v Version) Answer(m Message, status string, response any) []byte {
	return v.encode(m.JoinRef, m.Ref, m.Topic, Reply, struct {
		Status   string `json:"status"`
		Response any    `json:"response"`
	}{status, response})
}

// Push is a message of the server's own. joinRef says which joining of the topic it is for; a client that has joined anew ignores it.
func (v Version) Push(joinRef Ref, topic, event string, payload any) []byte {
	ref := Ref(nil)
	if v == V1 && (event == Close || event == Error) {
		ref = joinRef // where the older clients look
	}
	return v.encode(joinRef, ref, topic, event, payload)
}

func (v Version) encode(joinRef, ref Ref, topic, event string, payload any) []byte {
	var message any = []any{joinRef, ref, topic, event, payload}
	if v == V1 {
		message = struct {
			Topic   string `json:"topic"`
			Event   string `json:"event"`
			Payload any    `json:"payload"`
			Ref     Ref    `json:"ref"`
		}{topic, event, payload, ref}
	}
	data, err := json.Marshal(message)
	if err != nil {
		panic(err) // of what we make ourselves
	}
	return data
}

// Frame makes the messages of one kind for one channel around data that all its receivers share.
type Frame struct{ head, tail []byte }

// ChangeFrame is for postgres_changes on a topic.
func (v Version) ChangeFrame(topic string) Frame {
	if v == V1 {
		return Frame{append(append([]byte(`{"topic":`), quote(topic)...), `,"event":"postgres_changes","ref":null,"payload":{"ids":[`...), []byte(`}}`)}
	}
	return Frame{append(append([]byte(`[null,null,`), quote(topic)...), `,"postgres_changes",{"ids":[`...), []byte(`}]`)}
}

// With is the message for the bindings with these ids; data is JSON.
func (f Frame) With(ids []int, data []byte) []byte {
	const idLength = 4
	message := make([]byte, 0, len(f.head)+len(ids)*idLength+len(`],"data":`)+len(data)+len(f.tail))
	message = append(message, f.head...)
	for i, id := range ids {
		if i > 0 {
			message = append(message, ',')
		}
		message = strconv.AppendInt(message, int64(id), 10)
	}
	message = append(message, `],"data":`...)
	message = append(message, data...)
	return append(message, f.tail...)
}

// BroadcastFrame is for broadcasts of an event on a topic.
func (v Version) BroadcastFrame(topic, event string) Frame {
	payload := append(append([]byte(`{"type":"broadcast","event":`), quote(event)...), `,"payload":`...)
	if v == V1 {
		return Frame{append(append(append([]byte(`{"topic":`), quote(topic)...), `,"event":"broadcast","ref":null,"payload":`...), payload...), []byte(`}}`)}
	}
	return Frame{append(append(append([]byte(`[null,null,`), quote(topic)...), `,"broadcast",`...), payload...), []byte(`}]`)}
}

// Around is the message with that payload, which is JSON.
func (f Frame) Around(payload []byte) []byte {
	return bytes.Join([][]byte{f.head, payload, f.tail}, nil)
}
