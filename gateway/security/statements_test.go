package security_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// withoutTests are statements about what is not there, by the folder that would hold it.
var withoutTests = map[string]string{"S6": "gateway/realtime/socket.go", "S26": "gateway/realtime/socket.go"}

// The table "Security" of gateway/README.md has a row for each statement, and each test that it names is there. What a row names is a package's folder and
// a test in it.
func TestEachStatementHasItsTests(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile(`(?m)^\| (S\d+) \| [^|]+ \|([^|]*)\|$`).FindAllStringSubmatch(read(t, "gateway/README.md"), -1)
	found := map[string]map[string]bool{}
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row[1]] {
			t.Errorf("%s has two rows", row[1])
		}
		seen[row[1]] = true
		tests := regexp.MustCompile("`([\\w/]+) (\\w+)`").FindAllStringSubmatch(row[2], -1)
		if folder := withoutTests[row[1]]; folder != "" && len(tests) == 0 {
			if _, err := os.Stat(filepath.Join(root, folder)); err == nil {
				t.Errorf("%s has no test, and %s is there", row[1], folder)
			}
		} else if len(tests) == 0 {
			t.Errorf("%s has no test", row[1])
		}
		for _, test := range tests {
			if found[test[1]] == nil {
				found[test[1]] = map[string]bool{}
				if _, err := os.Stat(filepath.Join(root, test[1])); err == nil {
					found[test[1]] = testsOf(t, test[1])
				}
			}
			if !found[test[1]][test[2]] {
				t.Errorf("%s: %s has no test %s", row[1], test[1], test[2])
			}
		}
	}
	for n := 1; n <= 40; n++ {
		if name := fmt.Sprintf("S%d", n); !seen[name] {
			t.Errorf("%s has no row", name)
		}
	}
}
