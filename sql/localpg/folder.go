package localpg

// The folders of a cluster, and what is made in them before the server starts.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFolder makes the folders, locks a kept one, and starts the guard that cleans up behind us.
func (s *Server) openFolder() error {
	var err error
	if s.config.Dir != "" {
		if err = s.openKept(); err != nil {
			return err
		}
	}
	if s.user, err = serverAccount(s.data); err != nil {
		return err
	}
	if s.config.Dir != "" {
		if err := s.user.canReach(filepath.Dir(s.data)); err != nil {
			return err
		}
	}
	base, err := s.temporaryBase()
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(base, "darkroom-pg-")
	if err != nil {
		return fmt.Errorf("a temporary folder: %w", err)
	}
	signal := "INT"
	if s.config.Dir == "" {
		signal = "QUIT"
	}
	if s.guard, err = startGuard(signal, temporary); err != nil {
		return errors.Join(err, os.RemoveAll(temporary))
	}
	if err := s.user.give(temporary); err != nil {
		return err
	}
	s.sockets = temporary
	if s.config.Dir == "" {
		s.data = filepath.Join(temporary, dataName)
		s.log = filepath.Join(temporary, logName)
	}
	return nil
}

// openKept makes the kept folder and takes its lock.
func (s *Server) openKept() error {
	dir, err := filepath.Abs(s.config.Dir)
	if err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}
	perm := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		perm = 0o711 // the server's user must pass
	}
	if err := os.MkdirAll(dir, perm); err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}
	s.data = filepath.Join(dir, dataName)
	s.log = filepath.Join(dir, logName)
	if uid, _, err := owner(s.data); err == nil && os.Geteuid() != 0 && int(uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user: run as that user or as root, or use another folder", s.data)
	}

	name := filepath.Join(dir, ownerName)
	if s.owner, err = tryLock(name); err != nil {
		return err
	}
	if s.owner == nil {
		by := ""
		if pid, err := os.ReadFile(name); err == nil && len(pid) > 0 {
			by = " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		return fmt.Errorf("%s is in use by another program%s: end that or use another folder", dir, by)
	}
	if err := s.owner.Truncate(0); err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}
	if _, err := s.owner.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}

	// The lock is ours, so what lies half made was left by a killed program.
	unfinished, err := filepath.Glob(filepath.Join(globEscape(dir), newPrefix+"*"))
	if err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}
	for _, path := range unfinished {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("the data folder: %w", err)
		}
	}
	return nil
}

// globEscape quotes what filepath.Glob takes for a pattern.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// temporaryBase chooses where the socket's folder, and a temporary cluster, go. Its path is short, since that of a socket is limited to about 100 bytes.
func (s *Server) temporaryBase() (string, error) {
	var candidates []string
	if s.config.Dir == "" && !s.config.Durable && freeBytes(ramDisk) >= minRAMDisk {
		candidates = append(candidates, ramDisk)
	}
	candidates = append(candidates, os.TempDir(), "/tmp")
	for _, dir := range candidates {
		if abs, err := filepath.Abs(dir); err == nil && len(abs) <= maxSocketDir && unix.Access(abs, unix.W_OK|unix.X_OK) == nil &&
			s.user.canReach(abs) == nil {
			return abs, nil
		}
	}
	return "", fmt.Errorf("no usable temporary folder (tried %s): set TMPDIR to one with a short path that all users can reach", strings.Join(candidates, ", "))
}

func freeBytes(dir string) uint64 {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0
	}
	return stat.Bavail * uint64(stat.Bsize) //nolint:gosec // a block's size is positive
}

// findBinaries looks for PostgreSQL of the version that made the cluster, or any.
func (s *Server) findBinaries(ctx context.Context) error {
	opts := FindOptions{Log: s.config.Log}
	version, err := os.ReadFile(filepath.Join(s.data, "PG_VERSION"))
	if err == nil {
		if opts.Major, err = strconv.Atoi(strings.TrimSpace(string(version))); err != nil {
			return fmt.Errorf("%s is damaged: its PG_VERSION says %q", s.data, version)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the data folder: %w", err)
	}
	finder := newFinder(opts, s.user)
	if s.config.Binaries.Dir != "" {
		s.binaries, err = finder.check(ctx, s.config.Binaries.Dir)
	} else {
		s.binaries, err = finder.find(ctx)
	}
	if err != nil && opts.Major != 0 {
		return fmt.Errorf("%s was made by PostgreSQL %d and opens with no other major version (move it away to begin with an empty one): %w",
			s.data, opts.Major, err)
	}
	return err
}

// initialise makes the cluster if there is none: beside its place, then renamed, so that a killed attempt leaves nothing half made.
func (s *Server) initialise(ctx context.Context) error {
	dir := filepath.Dir(s.data)
	passwordFile := filepath.Join(dir, passwordName)
	protected := s.config.Dir != "" || s.host != ""
	if _, err := os.Stat(s.data); err == nil {
		password, err := os.ReadFile(passwordFile)
		if err != nil {
			return fmt.Errorf("the password of the database is lost (put the file back, or move %s away to begin with an empty one): %w", s.data, err)
		}
		s.password = strings.TrimSpace(string(password))
		return nil
	}

	if s.config.Dir != "" {
		fmt.Fprintf(s.config.Log, "making a database cluster with PostgreSQL %s in %s\n", s.binaries.Version, dir)
	}
	fresh, err := os.MkdirTemp(dir, newPrefix)
	if err != nil {
		return fmt.Errorf("making the cluster: %w", err)
	}
	defer os.RemoveAll(fresh)
	if err := s.user.give(fresh); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + fresh, "--username=" + superuser, "--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if protected {
		s.password = rand.Text()
		if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o600); err != nil {
			return fmt.Errorf("the password of the database: %w", err)
		}
		forInitdb := filepath.Join(s.sockets, passwordName+".init")
		if err := os.WriteFile(forInitdb, []byte(s.password+"\n"), 0o600); err != nil {
			return fmt.Errorf("the password of the database: %w", err)
		}
		defer os.Remove(forInitdb)
		if err := s.user.give(forInitdb); err != nil {
			return err
		}
		args = append(args, "--auth=scram-sha-256", "--pwfile="+forInitdb)
	} else {
		args = append(args, "--auth=trust") // the socket's folder is closed to other users
	}
	if !s.durable() {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.binaries.Dir, "initdb"), args...)
	cmd.Dir = "/"
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = s.user.procAttr(syscall.SIGKILL)
	runtime.LockOSThread() // the signal at our death is tied to this thread
	out, err := cmd.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("making the cluster: %w: %s", err, lastLine(string(out)))
	}
	if err := os.Rename(fresh, s.data); err != nil {
		return fmt.Errorf("making the cluster: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes a rename in the folder last.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("making the cluster: %w", err)
	}
	defer file.Close()
	if err := file.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("making the cluster: %w", err)
	}
	return nil
}
