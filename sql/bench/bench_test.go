package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The whole program, with the peers that need no npm, on few rows: what it measures here says nothing, but each scenario runs, every database keeps its
// rules, and the rows that were counted are the rows that were done.
func TestEveryScenarioRuns(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	o := options{peers: []string{"river", "naive"}, out: out, round: 20 * time.Millisecond, rounds: 1, scale: 0.001}
	for _, s := range scenarios {
		o.only = append(o.only, s.name)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	results, err := os.ReadFile(filepath.Join(out, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		if !strings.Contains(string(results), target.text) && !strings.HasPrefix(target.id, "wal/") { // not every PostgreSQL has pg_walinspect
			t.Errorf("nothing was measured for %q", target.text)
		}
	}
	for line := range strings.Lines(string(results)) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ".svg)"); ok {
			if _, err := os.Stat(filepath.Join(out, name[strings.LastIndex(name, "(")+1:]+".svg")); err != nil {
				t.Error(err)
			}
		}
	}
}
