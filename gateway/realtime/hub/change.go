package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
	"darkroom/gateway/realtime/filter"
)

// Change is an event on its way to subscribers, who share it: what is made of it is made once. While it is handed over the hub's lock protects it.
type Change struct {
	*eventlog.Event

	Place eventlog.Position // after it

	row    filter.Row // what filters see, once one asked
	rowErr error
	forms  [forms][]byte
}

// Form is one text that is made of an event.
type Form int

// The forms. What they are is the receivers' business.
const (
	FormChange Form = iota
	FormBroadcast
	FormStream
)

const forms = 3

// Bytes returns a form of the event, which build makes when somebody first asks.
func (c *Change) Bytes(form Form, build func(*eventlog.Event) []byte) []byte {
	if c.forms[form] == nil {
		c.forms[form] = build(c.Event)
	}
	return c.forms[form]
}

// subject is what a reader must be allowed to see: the project, or of what belongs to none the user.
func (c *Change) subject() uuid.UUID {
	if c.Project == uuid.Nil {
		return c.Owner
	}
	return c.Project
}

// fields are the columns that filters see: the new row, of a deletion the old one.
func (c *Change) fields() (filter.Row, error) {
	if c.row == nil && c.rowErr == nil {
		data := c.Record
		if c.Kind == eventlog.Delete {
			data = c.Old
		}
		if err := json.Unmarshal(data, &c.row); err != nil {
			c.rowErr = fmt.Errorf("reading the row of an event: %w", err)
		}
	}
	return c.row, c.rowErr
}

// Binding is one thing that a subscription is to.
type Binding struct {
	ID      int           // what the receiver knows it by
	Table   string        // of Tables; "" for all of them
	Tables  []string      // that there are
	Kind    eventlog.Kind // "" for all
	Project uuid.UUID     // only of this one; uuid.Nil for all that the caller may see
	Filter  *filter.Filter
}

// keys are where the index has it.
func (b *Binding) keys(who identity.Identity) []key {
	tables := b.Tables
	if b.Table != "" {
		tables = []string{b.Table}
	}
	keys := make([]key, len(tables))
	for i, table := range tables {
		keys[i] = key{table: table, project: b.Project}
		if b.Project == uuid.Nil && who.Role != identity.Service {
			keys[i].owner = who.Subject
		}
	}
	return keys
}

// fits tells whether an event is what the binding is to.
func (b *Binding) fits(c *Change) (fits bool, err error) {
	if b.Kind != "" && b.Kind != c.Kind {
		return false, nil
	}
	if b.Filter == nil {
		return true, nil
	}
	defer func() { // a filter is a subscriber's; it must not take others with it
		if thrown := recover(); thrown != nil {
			fits, err = false, fmt.Errorf("panic: %v", thrown) //nolint:err113 // for the log
		}
	}()
	row, err := c.fields()
	if err != nil {
		return false, err
	}
	return b.Filter.Matches(row)
}

// mine tells which bindings of a subscription an event is for, outside of the index.
func (s *Sub) mine(c *Change) (ids []int, err error) {
	for i := range s.bindings {
		b := &s.bindings[i]
		switch {
		case b.Table != "" && b.Table != c.Table, b.Table == "" && !slices.Contains(b.Tables, c.Table):
			continue
		case b.Project != uuid.Nil && b.Project != c.Project:
			continue
		}
		fits, err := b.fits(c)
		if err != nil {
			return nil, errors.Join(ErrFilter, err)
		}
		if fits {
			ids = append(ids, b.ID)
		}
	}
	return ids, nil
}
