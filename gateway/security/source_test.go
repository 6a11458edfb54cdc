package security_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the folder of the module, seen from this one.
const root = "../.."

// grepSource returns the lines of the gateway's, workerd's and the database package's Go files, but tests, that match.
func grepSource(t *testing.T, pattern string) (findings []string) {
	t.Helper()
	files := 0
	find := regexp.MustCompile(pattern)
	for _, folder := range []string{"gateway", "workerd", "sql/taskdb"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i, line := range strings.Split(string(data), "\n") {
				if text, _, _ := strings.Cut(line, "//"); find.MatchString(text) {
					findings = append(findings, fmt.Sprintf("%s:%d: %s", path, i+1, strings.TrimSpace(line)))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 50 {
		t.Fatalf("only %d files were looked at", files)
	}
	return findings
}
