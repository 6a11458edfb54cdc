package tile

import "math"

// multiplyPlain is [Multiply] in plain Go. It goes through the tile in parts of 2 rows and 4 columns, whose sums stay in registers.
func multiplyPlain(c []float32, stride int, panel, b []float32, offsets []int32, delta int) {
	for column := 0; column < Columns; column += 4 {
		shift := column
		if column >= half {
			shift = delta + column - half
		}
		for row := 0; row < Rows; row += 2 {
			part := panel[row:]
			var s00, s01, s02, s03, s10, s11, s12, s13 float32
			for k, offset := range offsets {
				values := b[int(offset)+shift:][:4:4]
				weights := part[k*Rows:][:2:2]
				w0, w1 := weights[0], weights[1]
				s00 += w0 * values[0]
				s01 += w0 * values[1]
				s02 += w0 * values[2]
				s03 += w0 * values[3]
				s10 += w1 * values[0]
				s11 += w1 * values[1]
				s12 += w1 * values[2]
				s13 += w1 * values[3]
			}
			upper := c[row*stride+column:][:4:4]
			lower := c[(row+1)*stride+column:][:4:4]
			upper[0] += s00
			upper[1] += s01
			upper[2] += s02
			upper[3] += s03
			lower[0] += s10
			lower[1] += s11
			lower[2] += s12
			lower[3] += s13
		}
	}
}

// siluPlain is [SiLU] in plain Go.
func siluPlain(x []float32) {
	for i, value := range x {
		x[i] = float32(float64(value) / (1 + math.Exp(-float64(value))))
	}
}
