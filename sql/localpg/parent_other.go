//go:build !linux

package localpg

import "syscall"

// dieWithParent does nothing where the kernel has no such signal: the guard alone ends the server there.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
