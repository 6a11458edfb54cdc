package filter_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/gateway/realtime/filter"
	"darkroom/sql/taskdbtest"
)

var columns = []filter.Column{ //nolint:gochecknoglobals // a table of the tests
	{"id", "uuid"}, {"name", "text"}, {"n", "int8"}, {"price", "numeric"}, {"ratio", "float8"}, {"done", "bool"}, {"at", "timestamptz"}, {"data", "jsonb"}, {"none", "text"},
}

const row = `{"id": "0c6386ad-acce-409c-a2a5-6db76e04aee2", "name": "Ada, \"the first\" (1)", "n": 9007199254740993, "price": 2.50, "ratio": 0.1, "done": true,
	"at": "2026-11-29T07:03:24.858144+00:00", "data": {"a": 1}, "none": null}`

// conditions are filters, and whether the row fits. PostgreSQL is asked the same: see TestFiltersMeanWhatSQLMeans.
var conditions = map[string]struct { //nolint:gochecknoglobals // two tests share it
	sql  string
	fits bool
}{
	"id=eq.0C6386AD-ACCE-409C-A2A5-6DB76E04AEE2":  {"id = '0C6386AD-ACCE-409C-A2A5-6DB76E04AEE2'", true},
	"id=neq.0c6386ad-acce-409c-a2a5-6db76e04aee2": {"id <> '0c6386ad-acce-409c-a2a5-6db76e04aee2'", false},
	"id=gt.0c6386ad-acce-409c-a2a5-6db76e04aee1":  {"id > '0c6386ad-acce-409c-a2a5-6db76e04aee1'", true},
	`name=eq."Ada, \"the first\" (1)"`:            {`name = 'Ada, "the first" (1)'`, true},
	`name=eq.Ada, "the first" (1)`:                {`name = 'Ada, "the first" (1)'`, true},
	`name=not.eq.Ada`:                             {`not name = 'Ada'`, true},
	`name=in.(Bob,"Ada, \"the first\" (1)")`:      {`name in ('Bob', 'Ada, "the first" (1)')`, true},
	`name=not.in.(Bob,Cleo)`:                      {`not name in ('Bob', 'Cleo')`, true},
	"name=like.Ada%":                              {"name like 'Ada%'", true},
	"name=like.*first*":                           {"name like '%first%'", true},
	"name=like.A_a%":                              {"name like 'A_a%'", true},
	"name=like.ada%":                              {"name like 'ada%'", false},
	"name=ilike.ada%":                             {"name ilike 'ada%'", true},
	`name=like.A\%`:                               {`name like 'A\%'`, false},
	"name=match.^Ada":                             {"name ~ '^Ada'", true},
	"name=match.^ada":                             {"name ~ '^ada'", false},
	"name=imatch.^ada":                            {"name ~* '^ada'", true},
	"name=lt.B":                                   {`name collate "C" < 'B'`, true},
	"n=eq.9007199254740993":                       {"n = 9007199254740993", true},
	"n=eq.9007199254740992":                       {"n = 9007199254740992", false}, // the same as a float
	"n=gte.9007199254740993":                      {"n >= 9007199254740993", true},
	"n=lt.0":                                      {"n < 0", false},
	"price=eq.2.5":                                {"price = 2.5", true},
	"price=lte.2.4999":                            {"price <= 2.4999", false},
	"ratio=gt.0.05":                               {"ratio > 0.05", true},
	"done=is.true":                                {"done is true", true},
	"done=is.false":                               {"done is false", false},
	"done=is.unknown":                             {"done is unknown", false},
	"done=eq.t":                                   {"done = 't'", true},
	"done=not.is.false":                           {"done is not false", true},
	"at=gt.2026-11-29T08:00:00+01:00":             {"at > '2026-11-29T08:00:00+01:00'", true},
	"at=lt.2026-11-29":                            {"at < '2026-11-29'", false},
	"data=not.is.null":                            {"data is not null", true},
	"none=is.null":                                {"none is null", true},
	"none=eq.x":                                   {"none = 'x'", false},
	"none=not.eq.x":                               {"not none = 'x'", false}, // neither is true of null
	"none=neq.x":                                  {"none <> 'x'", false},
	"none=not.in.(x)":                             {"not none in ('x')", false},
	"none=isdistinct.x":                           {"none is distinct from 'x'", true},
	"none=not.isdistinct.x":                       {"not none is distinct from 'x'", false},
	"name=isdistinct.x":                           {"name is distinct from 'x'", true},
	"n=gt.1,name=like.A%":                         {"n > 1 and name like 'A%'", true},
	"n=gt.1,name=like.B%":                         {"n > 1 and name like 'B%'", false},
	`n=in.(1,9007199254740993),name=neq."a,n=eq.1",done=is.true`: {`n in (1, 9007199254740993) and name <> 'a,n=eq.1' and done is true`, true},
}

func TestFilters(t *testing.T) {
	t.Parallel()
	var fields filter.Row
	if err := json.Unmarshal([]byte(row), &fields); err != nil {
		t.Fatal(err)
	}
	for text, want := range conditions {
		f, err := filter.Parse(text, columns)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := f.Matches(fields); err != nil || got != want.fits {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// The same conditions, by PostgreSQL, on the same row.
func TestFiltersMeanWhatSQLMeans(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.NewEmpty(t)
	for text, want := range conditions {
		var got bool
		err := pg.Pool.QueryRow(t.Context(), `select coalesce(`+want.sql+`, false) from jsonb_to_record($1::jsonb)
			as r (id uuid, name text, n int8, price numeric, ratio float8, done bool, at timestamptz, data jsonb, none text)`, row).Scan(&got)
		if err != nil || got != want.fits {
			t.Errorf("%s: PostgreSQL says %v, %v", text, got, err)
		}
	}
}

func TestWhatIsNoFilterIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "name", "name=", "name=eq", "name=like", "=eq.1", "name=between.1", "id=eq.1", "n=eq.x", "n=eq.1e9", "n=eq.0x10", "n=eq.", "done=eq.maybe", "done=is.maybe", "n=is.true",
		"at=eq.yesterday", "data=eq.1", "n=like.1%", "name=match.(", "name=in.a,b", "name=in.(a", `name=in.("a)`, `name=eq."a`, `name=eq."a"b`,
		"name=in.(" + strings.Repeat("a,", 100) + "a)", strings.Repeat("n=gt.1,", 40) + "n=gt.1", "name=eq." + strings.Repeat("a", 9000), "n=eq." + strings.Repeat("9", 200),
	} {
		if _, err := filter.Parse(text, columns); err == nil {
			t.Errorf("%.60q is taken", text)
		}
	}
	if _, err := filter.Parse("nope=eq.1", columns); !errors.Is(err, filter.ErrColumn) {
		t.Errorf("an unknown column: %v", err)
	}
}

// A row that cannot be compared is an error, of this filter alone.
func TestARowThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	for text, row := range map[string]filter.Row{
		"price=gt.1": {"price": json.RawMessage(`"NaN"`)}, "name=eq.x": {"name": json.RawMessage(`1`)}, "id=eq." + uuid.NewString(): {"id": json.RawMessage(`"x"`)},
		"ratio=gt.1": {"ratio": json.RawMessage(`{}`)},
	} {
		f, err := filter.Parse(text, columns)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.Matches(row); err == nil || got {
			t.Errorf("%s of %s: %v, %v", text, row, got, err)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	for text, want := range map[string][2]bool{ // found, alone
		"id=eq." + id.String(): {true, true}, "n=gt.1,id=eq." + id.String(): {true, false}, "id=neq." + id.String(): {}, "id=not.eq." + id.String(): {},
		"id=in.(" + id.String() + ")": {}, "n=gt.1": {},
	} {
		f, err := filter.Parse(text, columns)
		if err != nil {
			t.Fatal(err)
		}
		if value, alone := f.Equal("id"); (value == any(id)) != want[0] || alone != want[1] {
			t.Errorf("%s: %v, %v", text, value, alone)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for text := range conditions {
		f.Add(text)
	}
	var fields filter.Row
	if err := json.Unmarshal([]byte(row), &fields); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := filter.Parse(text, columns)
		if err != nil {
			return
		}
		if _, err := parsed.Matches(fields); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
