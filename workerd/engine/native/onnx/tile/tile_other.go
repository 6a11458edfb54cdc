//go:build !amd64

package tile

func multiply(c []float32, stride int, panel, b []float32, offsets []int32, delta int) {
	multiplyPlain(c, stride, panel, b, offsets, delta)
}

// SiLU replaces each number x by x/(1+exp(-x)).
func SiLU(x []float32) { siluPlain(x) }
