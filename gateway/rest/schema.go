package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// reloadAfter is how old the schema cache must be for an unknown name to make it read anew.
const reloadAfter = time.Second

// column is one of a table or of a function's rows. Type and default are SQL as the catalog gives it.
type column struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Default *string `json:"default"`
}

// relation is what has columns: a table, a view, or the rows of a function.
type relation struct {
	name    string
	Columns []column `json:"columns"`
	Key     []string `json:"key"`
	// alias has names that a column goes by besides its own.
	alias map[string]string
}

// find returns the column of that name.
func (r *relation) find(name string) (column, bool) {
	if other, ok := r.alias[name]; ok {
		name = other
	}
	for _, c := range r.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return column{}, false
}

type argument struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Optional bool   `json:"optional"`
}

type function struct {
	Name     string     `json:"name"`
	Args     []argument `json:"args"`
	Columns  []column   `json:"columns"` // of its rows; nil where it returns a value
	Set      bool       `json:"set"`
	Void     bool       `json:"void"`
	Volatile bool       `json:"volatile"`
}

func (f *function) argument(name string) (argument, bool) {
	for _, a := range f.Args {
		if a.Name == name {
			return a, true
		}
	}
	return argument{}, false
}

// schema is what there is at one moment.
type schema struct {
	tables    map[string]*relation
	functions map[string][]*function // overloads of a name
	read      time.Time
}

func (s *schema) tableNames() []string    { return slices.Sorted(maps.Keys(s.tables)) }
func (s *schema) functionNames() []string { return slices.Sorted(maps.Keys(s.functions)) }

// cache keeps the schema. It is read at the start, and again when somebody asks for what it does not have, once a second at most.
type cache struct {
	pool  *pgxpool.Pool
	mu    sync.Mutex
	known *schema
}

func openCache(ctx context.Context, pool *pgxpool.Pool) (*cache, error) {
	first, err := readSchema(ctx, pool)
	if err != nil {
		return nil, err
	}
	return &cache{pool: pool, known: first}, nil
}

// now returns the schema; has says whether what is asked for is in it.
func (c *cache) now(ctx context.Context, has func(*schema) bool) (*schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if has(c.known) || time.Since(c.known.read) < reloadAfter {
		return c.known, nil
	}
	fresh, err := readSchema(ctx, c.pool)
	if err != nil {
		return nil, err
	}
	c.known = fresh
	return fresh, nil
}

func readSchema(ctx context.Context, pool *pgxpool.Pool) (*schema, error) {
	var data []byte
	if err := pool.QueryRow(ctx, "select auth.describe_api()::text").Scan(&data); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	var said struct {
		Tables    map[string]*relation `json:"tables"`
		Functions []*function          `json:"functions"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	s := &schema{tables: said.Tables, functions: map[string][]*function{}, read: time.Now()}
	for name, table := range s.tables {
		table.name = name
	}
	for _, f := range said.Functions {
		s.functions[f.Name] = append(s.functions[f.Name], f)
	}
	return s, nil
}
