package media

import "syscall"

// processAttributes puts a program into a process group of its own, and has the kernel end it when this process dies.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
