// Package tile has the inner loops of neural nets in single precision: a product of small tiles from which convolutions and
// matrix products are made, and the activation SiLU. On amd64 with AVX2 and FMA they are written in assembler, elsewhere in
// plain Go; both give the same results but for rounding.
package tile

// A tile of a product has [Rows] rows and [Columns] columns.
const (
	Rows    = 6
	Columns = 16
)

// half is how many columns of a tile lie together in memory.
const half = Columns / 2

// Pack brings a matrix of rows times depth numbers, stored row by row, into the order that [Multiply] reads: panels of [Rows]
// rows, the last filled up with zeros, each panel column by column.
func Pack(matrix []float32, rows, depth int) []float32 {
	panels := (rows + Rows - 1) / Rows
	packed := make([]float32, panels*Rows*depth)
	for row := range rows {
		to := packed[row/Rows*Rows*depth+row%Rows:]
		for k, value := range matrix[row*depth : (row+1)*depth] {
			to[k*Rows] = value
		}
	}
	return packed
}

// Multiply adds to a tile of c, whose rows are stride apart, the product of a panel as packed by [Pack] and a tile of b. Row k of
// b's tile is two runs of half the columns each: the first begins at b[offsets[k]], the second delta after it. So a
// convolution reads its input where it lies.
//
// The caller sees to it that b is long enough for every offset, and that none is negative: the assembler does not look. It panics
// when c or the panel is too short.
func Multiply(c []float32, stride int, panel, b []float32, offsets []int32, delta int) {
	if len(offsets) == 0 {
		return
	}
	_ = c[(Rows-1)*stride+Columns-1]
	_ = panel[len(offsets)*Rows-1]
	multiply(c, stride, panel, b, offsets, delta)
}
