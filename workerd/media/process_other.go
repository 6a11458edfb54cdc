//go:build unix && !linux

package media

import "syscall"

// processAttributes puts a program into a process group of its own. When this process dies the program ends too, since
// its pipes break.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
