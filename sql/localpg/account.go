package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the unprivileged user that runs the server when we are root. A nil account stands for the current user.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount chooses who runs the server: the current user; for root the owner of the existing data folder, else postgres, else nobody,
// because PostgreSQL refuses to run as root.
func serverAccount(dataDir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // documented
	}
	if uid, gid, err := owner(dataDir); err == nil && uid != 0 {
		name := "uid " + strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
			name = u.Username
		}
		return &account{name: name, uid: uid, gid: gid}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody: run as another user")
}

func owner(name string) (uid, gid uint32, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, 0, err //nolint:wrapcheck // names the file
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("%s: no owner known", name)
	}
	return stat.Uid, stat.Gid, nil
}

// CanReach says whether a cluster can be kept in the folder or below it: when we are root another user runs the server, who must get there.
func CanReach(dir string) bool {
	user, err := serverAccount("")
	return err == nil && user.canReach(dir) == nil
}

// canReach says, in one sentence, which folder on the way to dir is closed to the account. The last folder itself must be open too.
func (a *account) canReach(dir string) error {
	if a == nil {
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("looking for a folder: %w", err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && !a.mayEnter(info.Mode(), stat) {
			return fmt.Errorf("PostgreSQL refuses to run as root, and its user %s can't enter %s: use a folder that other users can reach instead of %s",
				a.name, at, dir)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func (a *account) mayEnter(mode fs.FileMode, stat *syscall.Stat_t) bool {
	switch {
	case stat.Uid == a.uid:
		return mode&0o100 != 0
	case stat.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// give makes the file or folder the account's own.
func (a *account) give(name string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(name, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("handing over to user %s: %w", a.name, err)
	}
	return nil
}

// procAttr starts a program as the account, in a session of its own so that Ctrl-C in the terminal reaches only us, and has it
// receive the signal when we die (Linux only; 0 = none).
func (a *account) procAttr(onParentDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	dieWithParent(attr, onParentDeath)
	return attr
}
