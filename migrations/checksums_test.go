package migrations_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"darkroom/migrations"
)

// checkReleased compares the files with the list of released ones, which is what `sha256sum *.sql` prints in this folder.
func checkReleased(list string, files fs.FS) error {
	for line := range strings.Lines(list) {
		sum, name, found := strings.Cut(strings.TrimSpace(line), "  ")
		if !found {
			return fmt.Errorf("checksums.txt: the line %q is not one of sha256sum", line)
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("a released migration is missing: %w", err)
		}
		if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != sum {
			return fmt.Errorf("%s was changed after its release: databases that have it would stay as they are; write a new migration instead", name)
		}
	}
	return nil
}

func TestReleasedMigrationsAreNotChanged(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("checksums.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkReleased(string(list), migrations.FS); err != nil {
		t.Error(err)
	}
}

func TestAChangedMigrationIsNoticed(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"00001_a.sql": file("select 1;\n")}
	const sum = "a1e5b574e27ded0ea5fbbb6b0bb4ceb24ac4c5a3a7ab73f79a3ea25dc8fd2f7c"
	right := fmt.Sprintf("%x  00001_a.sql\n", sha256.Sum256([]byte("select 1;\n")))
	for list, want := range map[string]string{
		right:                        "",
		sum + "  00001_a.sql\n":      "changed after its release",
		right + sum + "  gone.sql\n": "missing",
		"nonsense":                   "not one of sha256sum",
	} {
		err := checkReleased(list, files)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", list, err, want)
		}
	}
}
