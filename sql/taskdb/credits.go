package taskdb

import (
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// Credits is an amount in thousandths of a credit: exact, as the database keeps it (numeric with 3 decimals).
// In JSON it is a number of credits, e.g. 2.5.
type Credits int64

const perCredit = 1000

// WholeCredits is n credits.
func WholeCredits(n int64) Credits { return Credits(n * perCredit) }

var errNotCredits = errors.New("taskdb: not an amount of credits with at most 3 decimals")

// ParseCredits reads a decimal number such as "2.5", without exponent. More than 3 decimals are an error.
func ParseCredits(text string) (Credits, error) {
	if text == "" || len(text) > 30 || strings.Trim(text, "-0123456789.") != "" {
		return 0, fmt.Errorf("%w: %q", errNotCredits, text)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, fmt.Errorf("%w: %q", errNotCredits, text)
	}
	r.Mul(r, big.NewRat(perCredit, 1))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, fmt.Errorf("%w: %q", errNotCredits, text)
	}
	return Credits(r.Num().Int64()), nil
}

// String is the number of credits without trailing zeros.
func (c Credits) String() string {
	text := big.NewRat(int64(c), perCredit).FloatString(3)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// MarshalJSON writes a JSON number of credits.
func (c Credits) MarshalJSON() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON reads a JSON number of credits.
func (c *Credits) UnmarshalJSON(data []byte) error {
	parsed, err := ParseCredits(string(data))
	*c = parsed
	return err
}

// ScanNumeric reads a numeric column.
func (c *Credits) ScanNumeric(v pgtype.Numeric) error {
	if !v.Valid {
		*c = 0
		return nil
	}
	text, err := v.Value()
	if err != nil {
		return fmt.Errorf("taskdb: numeric: %w", err)
	}
	s, _ := text.(string)
	parsed, err := ParseCredits(s)
	*c = parsed
	return err
}

// NumericValue writes a numeric parameter.
func (c Credits) NumericValue() (pgtype.Numeric, error) {
	return pgtype.Numeric{Int: big.NewInt(int64(c)), Exp: -3, Valid: true}, nil
}
