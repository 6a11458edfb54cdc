package eventlog

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Kind is what happened to a row.
type Kind string

// The kinds.
const (
	Insert Kind = "INSERT"
	Update Kind = "UPDATE"
	Delete Kind = "DELETE"
)

// Event is one change of one row. It is shared by all who receive it and never changed.
type Event struct {
	ID      int64     // grows with each change of the same row; across rows it is no order
	At      time.Time // of the change
	Owner   uuid.UUID // whose row it is
	Project uuid.UUID // uuid.Nil: of no project, such as credits
	Table   string    // of the schema public
	Kind    Kind
	Row     string          // its id; of credit_ledger owner/seq
	Record  json.RawMessage // the row after the change; nil after a delete
	Old     json.RawMessage // update: an object with the id; delete: the row as it was; insert: nil
}

// Position says which events have been seen: all that the snapshot Seen shows, and of those that Upto shows, the ones up to number After. It outlives
// connections, gateways and restarts, and means nothing in another database.
type Position struct {
	Epoch string // the history of the database that it is of
	Seen  string // a pg_snapshot
	Upto  string // a pg_snapshot, where a read is half done; else ""
	After int64  // with Upto
	Floor int64  // all unseen events have greater numbers
}

// errPosition says that a text is no position.
var errPosition = errors.New("not a position in the event log")

const (
	positionSeparator = "~"
	positionShort     = 3 // parts: epoch, floor, seen
	positionLong      = 5 // and upto, after
)

// String is the position as a text of letters, digits and -~:, for [ParsePosition].
func (p Position) String() string {
	parts := []string{p.Epoch, strconv.FormatInt(p.Floor, 10), p.Seen}
	if p.Upto != "" {
		parts = append(parts, p.Upto, strconv.FormatInt(p.After, 10))
	}
	return strings.Join(parts, positionSeparator)
}

// ParsePosition reads what [Position.String] wrote.
func ParsePosition(text string) (Position, error) {
	const most = 64 << 10
	parts := strings.Split(text, positionSeparator)
	if len(text) > most || len(parts) != positionShort && len(parts) != positionLong || parts[0] == "" || !isSnapshot(parts[2]) {
		return Position{}, errPosition
	}
	floor, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return Position{}, errPosition
	}
	p := Position{Epoch: parts[0], Floor: floor, Seen: parts[2]}
	if len(parts) == positionLong {
		p.Upto = parts[3]
		if p.After, err = strconv.ParseInt(parts[4], 10, 64); err != nil || !isSnapshot(p.Upto) {
			return Position{}, errPosition
		}
	}
	return p, nil
}

// isSnapshot tells whether a text is a pg_snapshot, xmin:xmax:xip,xip,... with rising numbers.
func isSnapshot(text string) bool {
	parts := strings.Split(text, ":")
	if len(parts) != 3 { //nolint:mnd // xmin, xmax, list
		return false
	}
	low, err := strconv.ParseUint(parts[0], 10, 64)
	high, errHigh := strconv.ParseUint(parts[1], 10, 64)
	if err != nil || errHigh != nil || low == 0 || high < low {
		return false
	}
	if parts[2] == "" {
		return true
	}
	for number := range strings.SplitSeq(parts[2], ",") {
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || n < low || n >= high {
			return false
		}
		low = n + 1
	}
	return true
}

// bounds are the first and the last transaction number of a snapshot that is one.
func bounds(snapshot string) (low, high uint64) {
	first, rest, _ := strings.Cut(snapshot, ":")
	second, _, _ := strings.Cut(rest, ":")
	low, _ = strconv.ParseUint(first, 10, 64)
	high, _ = strconv.ParseUint(second, 10, 64)
	return low, high
}

// older tells whether one snapshot of a database was taken before another, or shows the same: on one primary the later shows all that the earlier does.
func older(snapshot, other string) bool {
	low, high := bounds(snapshot)
	otherLow, otherHigh := bounds(other)
	switch {
	case high != otherHigh:
		return high < otherHigh
	case low != otherLow:
		return low < otherLow
	}
	return strings.Count(snapshot, ",") >= strings.Count(other, ",") // transactions that had not ended
}

// Within is the position after one event of a batch that begins at p and ends at end.
func (p Position) Within(end Position, e *Event) Position {
	upto := end.Seen
	if end.Upto != "" {
		upto = end.Upto
	}
	return Position{Epoch: p.Epoch, Seen: p.Seen, Upto: upto, After: e.ID, Floor: p.Floor}
}
