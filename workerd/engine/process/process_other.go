//go:build unix && !linux

package process

import "syscall"

// attributes puts a program into a process group of its own. When this process dies the program ends too, since its pipes
// break.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
