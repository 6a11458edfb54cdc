package process

import "syscall"

// attributes puts a program into a process group of its own, and has the kernel end it when this process dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
