package phoenix

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxBindings bounds what one channel subscribes to.
const maxBindings = 100

// Binding is one subscription to changes, as the client asked for it. What was absent stays absent in the echo: clients compare with ===.
type Binding struct {
	ID     int     `json:"id"`
	Event  string  `json:"event"`
	Schema *string `json:"schema,omitempty"`
	Table  *string `json:"table,omitempty"`
	Filter *string `json:"filter,omitempty"`
}

// JoinRequest is the payload of a phx_join.
type JoinRequest struct {
	Bindings []Binding
	Token    string // "" when the client sent none
	Ack      bool   // answer broadcasts
	Self     bool   // and send them back
}

// ParseJoin reads the payload of a phx_join. Its errors are for the app to read: they name what is wrong or not served.
func ParseJoin(payload json.RawMessage) (JoinRequest, error) {
	var said struct {
		Config struct {
			Broadcast struct {
				Ack    bool            `json:"ack"`
				Self   bool            `json:"self"`
				Replay json.RawMessage `json:"replay"`
			} `json:"broadcast"`
			Presence struct {
				Enabled bool `json:"enabled"`
			} `json:"presence"`
			Changes []struct {
				Event  string          `json:"event"`
				Schema *string         `json:"schema"`
				Table  *string         `json:"table"`
				Filter *string         `json:"filter"`
				Select json.RawMessage `json:"select"`
			} `json:"postgres_changes"`
		} `json:"config"`
		Token *string `json:"access_token"`
	}
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &said); err != nil {
			return JoinRequest{}, fmt.Errorf("the join cannot be read: %w", err)
		}
	}
	request := JoinRequest{Ack: said.Config.Broadcast.Ack, Self: said.Config.Broadcast.Self}
	if said.Token != nil {
		request.Token = *said.Token
	}
	switch {
	case said.Config.Presence.Enabled:
		return JoinRequest{}, errors.New("presence is not served here")
	case isSet(said.Config.Broadcast.Replay):
		return JoinRequest{}, errors.New("replay of broadcasts is not served here: changes are replayed by themselves after a lost connection")
	case len(said.Config.Changes) > maxBindings:
		return JoinRequest{}, fmt.Errorf("a channel has at most %d postgres_changes", maxBindings)
	}
	for i, c := range said.Config.Changes {
		switch strings.ToUpper(c.Event) {
		case "*", "INSERT", "UPDATE", "DELETE":
		default:
			return JoinRequest{}, fmt.Errorf("postgres_changes has no event %q: *, INSERT, UPDATE, DELETE", c.Event)
		}
		if isSet(c.Select) {
			return JoinRequest{}, errors.New("select in postgres_changes is not served here: rows come whole")
		}
		request.Bindings = append(request.Bindings, Binding{ID: i + 1, Event: c.Event, Schema: c.Schema, Table: c.Table, Filter: c.Filter})
	}
	return request, nil
}

func isSet(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }
