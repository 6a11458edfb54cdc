package install

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// CanApt says whether this process may install Debian's packages.
func CanApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0 && runtime.GOOS == "linux"
}

// Apt installs Debian's package of that name, and says so on log. Processes that install at the same time wait for one another;
// the package lists are refreshed when the package can't be installed without. When ctx ends, apt-get finishes what it unpacks: cut short,
// it would refuse to install anything until somebody has repaired that by hand.
func Apt(ctx context.Context, log io.Writer, name string) error {
	cache, err := CacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // other users run what lies here
		return fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cache, "apt.lock"))
	if err != nil {
		return err
	}
	defer unlock()

	_, _ = fmt.Fprintf(log, "%s is not installed: running apt-get install %s\n", name, name)
	for _, args := range [][]string{{"install"}, {"update"}, {"install"}} {
		if args[0] == "install" {
			args = append(args, "--yes", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=300", name)
		}
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "UCF_FORCE_CONFFOLD=1")
		cmd.Cancel = func() error { // it heeds that while it downloads, and then only at its end
			_, _ = fmt.Fprintln(log, "apt-get finishes what it unpacks")
			return cmd.Process.Signal(os.Interrupt)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in the terminal would reach dpkg, which does not finish
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLine(string(out)))
		} else if args[0] == "install" {
			return nil
		}
	}
	return err
}
