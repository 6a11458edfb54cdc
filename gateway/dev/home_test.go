package dev

import (
	"os"
	"path/filepath"
	"testing"
)

// PostgreSQL does not run as root, and its user can't enter root's own folder, where a newcomer's checkout lies in a container.
func TestAClosedCheckoutHasItsHomeElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	checkout, err := os.MkdirTemp("", "darkroom-checkout-") //nolint:usetesting // its folder is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(checkout) })
	t.Chdir(checkout)
	inside := filepath.Join(checkout, DefaultHome)
	for _, c := range []struct {
		mode       os.FileMode
		home, want string
	}{
		{0o700, DefaultHome, closedHome + checkout},
		{0o700, inside, inside}, // was named, and is an error
		{0o755, DefaultHome, inside},
	} {
		if err := os.Chmod(checkout, c.mode); err != nil {
			t.Fatal(err)
		}
		if home, err := choose(c.home); err != nil || home != c.want {
			t.Errorf("%s in a folder of mode %o: got %s, %v, want %s", c.home, c.mode, home, err, c.want)
		}
	}
}
