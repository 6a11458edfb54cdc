package tile

import "golang.org/x/sys/cpu"

// fast says whether the assembler can run on this machine.
var fast = cpu.X86.HasAVX2 && cpu.X86.HasFMA

//go:noescape
func multiplyAVX2(c *float32, stride uintptr, panel, b *float32, offsets *int32, delta uintptr, depth int)

//go:noescape
func siluAVX2(x *float32, eights int)

func multiply(c []float32, stride int, panel, b []float32, offsets []int32, delta int) {
	if fast {
		multiplyAVX2(&c[0], uintptr(stride)*4, &panel[0], &b[0], &offsets[0], uintptr(delta)*4, len(offsets))
		return
	}
	multiplyPlain(c, stride, panel, b, offsets, delta)
}

// SiLU replaces each number x by x/(1+exp(-x)).
func SiLU(x []float32) {
	if eights := len(x) / 8; fast && eights > 0 {
		siluAVX2(&x[0], eights)
		x = x[eights*8:]
	}
	siluPlain(x)
}
