package onnx

import (
	"errors"
	"fmt"
	"slices"

	"darkroom/workerd/engine/native/onnx/tile"
)

const (
	// depthBlock is how many products are summed at a time, so that what is read again stays in the nearest cache: as many as 32
	// channels of a 3x3 convolution have.
	depthBlock = 288
	// tilesBlock is how many tiles of the output are computed before the next part of the weights is read.
	tilesBlock = 16
)

// convolution is a node Conv or Gemm with its weights in the order of package tile. A Gemm is a convolution of pictures that are
// as wide as there are rows.
type convolution struct {
	rows          int // output channels
	channels      int // of the input
	height, width int // of the kernel
	pads          [4]int
	blocks        []block
	bias          []float32 // one for each row
	silu, plus    bool
}

// block is a part of the weights: depth columns of all rows.
type block struct {
	from, depth int
	panels      []float32
}

func newConvolution(n *node, values []Tensor) (*convolution, error) {
	weights := values[n.in[1]]
	c := &convolution{silu: n.integer(opSiLU, 0) == 1, plus: n.integer(opPlus, 0) == 1 && len(n.in) == 4}
	var err error
	if n.op == "Conv" {
		err = c.likeConv(n, weights)
	} else {
		err = c.likeGemm(n, weights)
	}
	if err != nil {
		return nil, err
	}
	if len(weights.Floats) == 0 || len(weights.Floats) != c.rows*c.depth() {
		return nil, fmt.Errorf("weights of shape %v are not supported", weights.Shape)
	}
	for from := 0; from < c.depth(); from += depthBlock {
		part := block{from: from, depth: min(depthBlock, c.depth()-from)}
		matrix := make([]float32, 0, c.rows*part.depth)
		for row := range c.rows {
			matrix = append(matrix, weights.Floats[row*c.depth()+from:][:part.depth]...)
		}
		part.panels = tile.Pack(matrix, c.rows, part.depth)
		c.blocks = append(c.blocks, part)
	}
	c.bias = make([]float32, c.rows)
	if len(n.in) > 2 && n.in[2] != none {
		bias := values[n.in[2]].Floats
		if len(bias) != c.rows {
			return nil, fmt.Errorf("%d biases for %d rows are not supported", len(bias), c.rows)
		}
		copy(c.bias, bias)
	}
	return c, nil
}

func (c *convolution) depth() int { return c.channels * c.height * c.width }

func (c *convolution) likeConv(n *node, weights Tensor) error {
	ones := []int64{1, 1}
	pads := n.list("pads", []int64{0, 0, 0, 0})
	plain := n.integer("group", 1) == 1 && slices.Equal(n.list("dilations", ones), ones) && slices.Equal(n.list("strides", ones), ones)
	if !plain || n.attributes["auto_pad"].text != "" || len(weights.Shape) != 4 || len(pads) != 4 {
		return errors.New("only convolutions of two dimensions without groups, strides and dilations are supported")
	}
	for i, pad := range pads {
		if pad < 0 || pad > 64 {
			return fmt.Errorf("a margin of %d is not supported", pad)
		}
		c.pads[i] = int(pad)
	}
	c.rows, c.channels, c.height, c.width = weights.Shape[0], weights.Shape[1], weights.Shape[2], weights.Shape[3]
	return nil
}

func (c *convolution) likeGemm(n *node, weights Tensor) error {
	alpha, beta := n.attributes["alpha"], n.attributes["beta"]
	if n.integer("transB", 0) != 1 || n.integer("transA", 0) != 0 || alpha.float != 1 || beta.float != 1 || len(weights.Shape) != 2 {
		return errors.New("only Gemm with alpha 1, beta 1 and B transposed is supported")
	}
	c.rows, c.channels, c.height, c.width = weights.Shape[0], weights.Shape[1], 1, 1
	return nil
}

// runConv is the operator Conv.
func runConv(n *node, in []Tensor) (Tensor, error) {
	c, input := n.conv, in[0]
	if c == nil {
		return Tensor{}, errors.New("a convolution of constants is not supported")
	}
	if len(input.Shape) != 4 || input.Shape[1] != c.channels || input.Floats == nil {
		return Tensor{}, fmt.Errorf("an input of shape %v does not fit %d channels", input.Shape, c.channels)
	}
	inner := plane{input.Shape[2] + c.pads[0] + c.pads[2], input.Shape[3] + c.pads[1] + c.pads[3]}
	outer := plane{inner.height - c.height + 1, inner.width - c.width + 1}
	if outer.height < 1 || outer.width < 1 {
		return Tensor{}, fmt.Errorf("an input of shape %v is smaller than the kernel", input.Shape)
	}
	padded, err := newTensor([]int{c.channels, inner.height, inner.width})
	if err != nil {
		return Tensor{}, err
	}
	defer padded.release()
	output, err := newTensor([]int{input.Shape[0], c.rows, outer.height, outer.width})
	if err != nil {
		return Tensor{}, err
	}
	var plus Tensor
	if c.plus {
		plus = in[3]
		if whole := slices.Equal(plus.Shape, output.Shape); !whole && !slices.Equal(plus.Shape, append([]int{1}, output.Shape[1:]...)) {
			plus = Tensor{} // its shape is of a kind that is added afterwards
		}
	}
	job := c.job(inner, outer)
	size, from := c.rows*outer.size(), c.channels*input.Shape[2]*input.Shape[3]
	for i := range input.Shape[0] {
		picture := input.Floats[i*from : (i+1)*from]
		if c.pads != [4]int{} {
			pad(padded.Floats, picture, plane{input.Shape[2], input.Shape[3]}, inner, c.pads)
			picture = padded.Floats
		}
		to := output.Floats[i*size : (i+1)*size]
		c.begin(to, plus.Floats, i)
		job.multiply(to, picture)
		if c.silu {
			tile.SiLU(to)
		}
	}
	if c.plus && plus.Floats == nil {
		defer output.release()
		return runBinary("Add", output, in[3])
	}
	return output, nil
}

// begin sets an output picture to what the products are added to: the bias, and the picture of plus where it is not empty.
func (c *convolution) begin(to, plus []float32, picture int) {
	area := len(to) / c.rows
	if len(plus) > len(to) {
		plus = plus[picture*len(to):]
	}
	for row, bias := range c.bias {
		line := to[row*area : (row+1)*area]
		if len(plus) == 0 {
			for i := range line {
				line[i] = bias
			}
			continue
		}
		for i, value := range plus[row*area:][:len(line)] {
			line[i] = value + bias
		}
	}
}

// runGemm is the operator Gemm: the rows of its input become the pixels of one picture.
func runGemm(n *node, in []Tensor) (Tensor, error) {
	c, input := n.conv, in[0]
	if c == nil {
		return Tensor{}, errors.New("a product of constants is not supported")
	}
	if len(input.Shape) != 2 || input.Shape[1] != c.channels || input.Floats == nil {
		return Tensor{}, fmt.Errorf("an input of shape %v does not fit weights of %d columns", input.Shape, c.channels)
	}
	rows := input.Shape[0]
	turned, err := newTensor([]int{c.channels, rows})
	if err != nil {
		return Tensor{}, err
	}
	defer turned.release()
	product, err := newTensor([]int{c.rows, rows})
	if err != nil {
		return Tensor{}, err
	}
	defer product.release()
	output, err := newTensor([]int{rows, c.rows})
	if err != nil {
		return Tensor{}, err
	}
	transpose(turned.Floats, input.Floats, rows, c.channels)
	c.begin(product.Floats, nil, 0)
	line := plane{1, rows}
	c.job(line, line).multiply(product.Floats, turned.Floats)
	transpose(output.Floats, product.Floats, c.rows, rows)
	return output, nil
}

// transpose writes a matrix of rows times columns numbers column by column.
func transpose(to, from []float32, rows, columns int) {
	for row := range rows {
		for column, value := range from[row*columns : (row+1)*columns] {
			to[column*rows+row] = value
		}
	}
}

// plane is a height and a width in pixels.
type plane struct{ height, width int }

func (p plane) size() int { return p.height * p.width }

// pad copies the channels of a picture into larger ones with margins of zeros.
func pad(to, from []float32, small, large plane, pads [4]int) {
	clear(to)
	for channel := 0; len(from) > 0; channel++ {
		at := channel*large.size() + pads[0]*large.width + pads[1]
		for range small.height {
			copy(to[at:], from[:small.width])
			from = from[small.width:]
			at += large.width
		}
	}
}

// job multiplies the weights of a convolution with pictures of one size.
type job struct {
	*convolution
	inner, outer plane
	offsets      []int32 // of the products within the input, for the first pixel
	direct       bool    // tiles are read where they lie
	packed       []float32
	straight     []int32 // offsets into packed
}

func (c *convolution) job(inner, outer plane) *job {
	j := &job{convolution: c, inner: inner, outer: outer, offsets: make([]int32, 0, c.depth())}
	for channel := range c.channels {
		for y := range c.height {
			for x := range c.width {
				j.offsets = append(j.offsets, int32(channel*inner.size()+y*inner.width+x)) //nolint:gosec // below MaxNumbers
			}
		}
	}
	// Half a tile must lie in one row of the input.
	j.direct = outer.size()%tile.Columns == 0 && (outer.width%(tile.Columns/2) == 0 || inner.width == outer.width)
	if !j.direct {
		j.packed = make([]float32, depthBlock*tile.Columns)
		j.straight = make([]int32, depthBlock)
		for k := range j.straight {
			j.straight[k] = int32(k * tile.Columns)
		}
	}
	return j
}

// place is where pixel i of the output begins to read the input.
func (j *job) place(i int) int { return i/j.outer.width*j.inner.width + i%j.outer.width }

// multiply adds the products to an output picture.
func (j *job) multiply(to, from []float32) {
	area := j.outer.size()
	for first := 0; first < area; first += tilesBlock * tile.Columns {
		last := min(area, first+tilesBlock*tile.Columns)
		for _, part := range j.blocks {
			offsets := j.offsets[part.from : part.from+part.depth]
			for pixel := first; pixel < last; pixel += tile.Columns {
				if !j.direct {
					j.pack(from, offsets, pixel)
					j.column(to, j.packed, &part, j.straight[:part.depth], tile.Columns/2, pixel)
					continue
				}
				at := j.place(pixel)
				j.column(to, from[at:], &part, offsets, j.place(pixel+tile.Columns/2)-at, pixel)
			}
		}
	}
}

// column adds one tile of each panel.
func (j *job) column(to, b []float32, part *block, offsets []int32, delta, pixel int) {
	area := j.outer.size()
	step := tile.Rows * part.depth
	for row, at := 0, 0; row < j.rows; row, at = row+tile.Rows, at+step {
		panel := part.panels[at : at+step]
		if row+tile.Rows <= j.rows && pixel+tile.Columns <= area {
			tile.Multiply(to[row*area+pixel:], area, panel, b, offsets, delta)
			continue
		}
		var edge [tile.Rows * tile.Columns]float32
		tile.Multiply(edge[:], tile.Columns, panel, b, offsets, delta)
		for y := range min(tile.Rows, j.rows-row) {
			line := to[(row+y)*area+pixel : min((row+y)*area+pixel+tile.Columns, (row+y+1)*area)]
			for x := range line {
				line[x] += edge[y*tile.Columns+x]
			}
		}
	}
}

// pack copies what a tile reads. Pixels beyond the last read zeros.
func (j *job) pack(from []float32, offsets []int32, pixel int) {
	var places [tile.Columns]int
	columns := min(tile.Columns, j.outer.size()-pixel)
	for x := range columns {
		places[x] = j.place(pixel + x)
	}
	for k, offset := range offsets {
		to := j.packed[k*tile.Columns : (k+1)*tile.Columns]
		for x, place := range places[:columns] {
			to[x] = from[place+int(offset)]
		}
		clear(to[columns:])
	}
}
