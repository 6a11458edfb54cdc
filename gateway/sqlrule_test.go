package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// touchesTable finds SQL that names a table. What follows "from" or "join" is fine when it is called: "from f(".
var touchesTable = regexp.MustCompile(`(?is)\binsert\s+into\b|\bupdate\s+(only\s+)?[\w."]+\s+(as\s+)?(\w+\s+)?set\b` +
	`|\bdelete\s+from\b|\b(truncate|copy|merge\s+into)\s+[\w."]+\s*(\(|from\b|to\b|using\b|;|$)` +
	`|\bselect\b.*?\b(from|join)\s+(only\s+|lateral\s+)?[\w."]+(\s*$|\s*[^\w."(\s]|\s+[^(\s])`)

func TestTouchesTableTellsTablesFromFunctions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"select * from claim_next_task($1, $2)":                        false,
		"select * from public.claim_next_task ($1)":                    false,
		"select status, error from get_task(task_id => $1) where true": false,
		"select complete_task($1)":                                     false,
		"select pg_notify('a', 'b')":                                   false,
		"listen task_events":                                           false,
		"Update the worker and set its name":                           false,
		"The task was deleted from the queue":                          false,
		"select * from tasks":                                          true,
		"select * from public.tasks where id = $1":                     true,
		"SELECT id\nFROM \"tasks\"\n":                                  true,
		"select * from f($1) join tasks on true":                       true,
		"select * from tasks, f($1)":                                   true,
		"insert into tasks values ($1)":                                true,
		"update tasks set status = $1":                                 true,
		"update only public.tasks as t set status = $1":                true,
		"delete from tasks where id = $1":                              true,
		"with gone as (delete\nfrom tasks returning *) select 1":       true,
		"truncate tasks":                                               true,
		"copy tasks from stdin":                                        true,
	} {
		if got := touchesTable.MatchString(text); got != want {
			t.Errorf("%q touches a table: %v, want %v", text, got, want)
		}
	}
}

// TestCommandsOnlyCallFunctions holds gateway and workerd to the contract: tables belong to the functions in sql/.
func TestCommandsOnlyCallFunctions(t *testing.T) {
	t.Parallel()
	files := 0
	for _, folder := range []string{".", "../workerd"} {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if path == "rest" {
				// The tables are what its callers ask for: it writes SQL as the caller, under row security, with names out of the schema only.
				return filepath.SkipDir
			}
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			positions := token.NewFileSet()
			file, err := parser.ParseFile(positions, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				literal, ok := node.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Error(err)
				} else if touchesTable.MatchString(text) {
					t.Errorf("%s: call a function of sql/ instead of writing SQL on a table: %s", positions.Position(literal.Pos()), literal.Value)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Error("no file was looked at")
	}
}
