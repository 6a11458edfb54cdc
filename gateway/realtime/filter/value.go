package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// kind is how values of a column are compared.
type kind int

const (
	other   kind = iota // only is.null
	text                // byte by byte
	number              // exactly
	double              // float4 and float8
	boolean             // false before true
	instant             // timestamptz
	id                  // uuid
)

func kindOf(typname string) kind {
	switch typname {
	case "text", "varchar", "bpchar", "name":
		return text
	case "int2", "int4", "int8", "numeric":
		return number
	case "float4", "float8":
		return double
	case "bool":
		return boolean
	case "timestamptz":
		return instant
	case "uuid":
		return id
	}
	return other
}

var (
	errOther  = errors.New("a column of this type can only be asked is.null")
	errNumber = errors.New("not a number")
)

// maxDigits bounds what a number may cost.
const maxDigits = 100

var plainNumber = regexp.MustCompile(`^[+-]?[0-9]*\.?[0-9]*$`)

// parse reads a value of the filter.
func (k kind) parse(value string) (any, error) {
	switch k {
	case text:
		return value, nil
	case number:
		n, err := exact(value)
		if err != nil {
			return nil, fmt.Errorf("%q is %w", value, err)
		}
		return n, nil
	case double:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is %w", value, errNumber)
		}
		return n, nil
	case boolean:
		switch strings.ToLower(value) {
		case "true", "t", "yes", "on", "1":
			return true, nil
		case "false", "f", "no", "off", "0":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither true nor false", value)
	case instant:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02"} {
			if at, err := time.Parse(layout, value); err == nil {
				return at, nil
			}
		}
		return nil, fmt.Errorf("%q is no time such as 2026-01-31T12:00:00Z", value)
	case id:
		n, err := uuid.Parse(value)
		if err != nil {
			return nil, fmt.Errorf("%q is no uuid", value)
		}
		return n, nil
	case other:
	}
	return nil, errOther
}

func exact(value string) (*big.Rat, error) {
	if len(value) > maxDigits || !plainNumber.MatchString(value) {
		return nil, errNumber
	}
	n, ok := new(big.Rat).SetString(value)
	if !ok {
		return nil, errNumber
	}
	return n, nil
}

// read reads a value of a row, as to_jsonb writes it.
func (k kind) read(data json.RawMessage) (any, error) {
	switch k {
	case number:
		return exact(string(data))
	case double:
		n, err := strconv.ParseFloat(strings.Trim(string(data), `"`), 64)
		if err != nil {
			return nil, errNumber
		}
		return n, nil
	case boolean:
		return string(data) == "true", nil
	case other:
		return nil, nil //nolint:nilnil // is.null asks no more than that it is there
	case text, instant, id:
	}
	var value string
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, fmt.Errorf("reading a text: %w", err)
	}
	return k.parse(value)
}

// compare orders two values of the kind.
func (k kind) compare(a, b any) int {
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string)) //nolint:forcetypeassert // both are of one kind
	case *big.Rat:
		return a.Cmp(b.(*big.Rat)) //nolint:forcetypeassert // the same
	case float64:
		return compareFloats(a, b.(float64)) //nolint:forcetypeassert // the same
	case bool:
		return order(a) - order(b.(bool)) //nolint:forcetypeassert // the same
	case time.Time:
		return a.Compare(b.(time.Time)) //nolint:forcetypeassert // the same
	case uuid.UUID:
		return strings.Compare(string(a[:]), uuidText(b.(uuid.UUID))) //nolint:forcetypeassert // the same
	}
	return 0
}

func uuidText(u uuid.UUID) string { return string(u[:]) }

// compareFloats orders NaN after all others, as PostgreSQL does.
func compareFloats(a, b float64) int {
	aNaN, bNaN := a != a, b != b
	switch {
	case aNaN || bNaN:
		return order(aNaN) - order(bNaN)
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func order(b bool) int {
	if b {
		return 1
	}
	return 0
}

// pattern makes the term a match with a regular expression.
func (t *term) pattern(expression string) error {
	if t.value != text {
		return errors.New("patterns are for columns of the type text")
	}
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return fmt.Errorf("not a regular expression: %w", err)
	}
	t.holds = func(have any) bool { return compiled.MatchString(have.(string)) } //nolint:forcetypeassert // by its kind
	return nil
}

// likePattern makes a regular expression of a LIKE pattern; * stands for %, as in PostgREST.
func likePattern(like string, ignoreCase bool) string {
	var b strings.Builder
	b.WriteString(`(?s`)
	if ignoreCase {
		b.WriteByte('i')
	}
	b.WriteString(`)\A`)
	escaped := false
	for _, r := range like {
		switch {
		case escaped:
			b.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '%', r == '*':
			b.WriteString(`.*`)
		case r == '_':
			b.WriteByte('.')
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

var errQuotes = errors.New("a quote is not closed")

// unquote takes the double quotes off a value that has them: in them \ stands before " and \.
func unquote(value string) (string, error) {
	if !strings.HasPrefix(value, `"`) {
		return value, nil
	}
	list, err := splitList(value)
	if err != nil {
		return "", err
	}
	if len(list) != 1 {
		return "", errors.New("a quoted value is followed by something else")
	}
	return list[0], nil
}

// splitList splits values at commas; each may be quoted.
func splitList(list string) ([]string, error) {
	var values []string
	for {
		var value strings.Builder
		if rest, quoted := strings.CutPrefix(list, `"`); quoted {
			closed := false
			for i := 0; i < len(rest) && !closed; i++ {
				switch {
				case rest[i] == '\\' && i+1 < len(rest):
					i++
					value.WriteByte(rest[i])
				case rest[i] == '"':
					closed = true
					list = rest[i+1:]
				default:
					value.WriteByte(rest[i])
				}
			}
			if !closed || list != "" && list[0] != ',' {
				return nil, errQuotes
			}
		} else {
			plain, _, _ := strings.Cut(list, ",")
			value.WriteString(plain)
			list = list[len(plain):]
		}
		values = append(values, value.String())
		if list == "" {
			return values, nil
		}
		list = list[1:]
	}
}
