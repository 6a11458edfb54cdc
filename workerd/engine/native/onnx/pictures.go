package onnx

import (
	"errors"
	"fmt"
	"math"
)

// runDepthToSpace moves channels into squares of pixels.
func runDepthToSpace(n *node, in []Tensor) (Tensor, error) {
	input, b := in[0], int(n.integer("blocksize", 0))
	if len(input.Shape) != 4 || input.Floats == nil || n.attributes["mode"].text != "CRD" || b < 1 || b > 64 || input.Shape[1]%(b*b) != 0 {
		return Tensor{}, fmt.Errorf("an input of shape %v in blocks of %d is not supported", input.Shape, b)
	}
	height, width := input.Shape[2], input.Shape[3]
	out, err := newTensor([]int{input.Shape[0], input.Shape[1] / (b * b), height * b, width * b})
	if err != nil {
		return Tensor{}, err
	}
	// Channel c of the input holds the pixels y, x of every square in channel c/(b*b) of the output.
	for c := range input.Shape[0] * input.Shape[1] {
		from := input.Floats[c*height*width : (c+1)*height*width]
		square := c % (b * b)
		at := c/(b*b)*height*width*b*b + square/b*width*b + square%b
		for ; len(from) > 0; from = from[width:] {
			to := out.Floats[at:]
			for x, value := range from[:width] {
				to[x*b] = value
			}
			at += width * b * b
		}
	}
	return out, nil
}

// runResize enlarges pictures, mixing neighbours in proportion to their distance between the middles of pixels.
func runResize(n *node, in []Tensor) (Tensor, error) {
	if len(in) != 3 { // the second, which is not needed, is left out
		return Tensor{}, errInput
	}
	input, scales := in[0], in[2].Floats
	mode := n.attributes["coordinate_transformation_mode"].text
	if len(input.Shape) != 4 || input.Floats == nil || len(scales) != 4 || scales[0] != 1 || scales[1] != 1 ||
		!(scales[2] >= 1 && scales[2] <= 64 && scales[3] >= 1 && scales[3] <= 64) ||
		n.attributes["mode"].text != "linear" || mode != "half_pixel" {
		return Tensor{}, errors.New("only linear enlargements of pictures between the middles of pixels are supported")
	}
	small := plane{input.Shape[2], input.Shape[3]}
	large := plane{int(float64(small.height) * float64(scales[2])), int(float64(small.width) * float64(scales[3]))}
	out, err := newTensor([]int{input.Shape[0], input.Shape[1], large.height, large.width})
	if err != nil {
		return Tensor{}, err
	}
	if small.size() == 0 {
		return out, nil
	}
	rows, columns := neighbours(small.height, large.height, scales[2]), neighbours(small.width, large.width, scales[3])
	// Each row of the input is widened once: two are held, of which the next rows of the output are mixed.
	upper, lower := make([]float32, large.width), make([]float32, large.width)
	for c := range input.Shape[0] * input.Shape[1] {
		from := input.Floats[c*small.size() : (c+1)*small.size()]
		to := out.Floats[c*large.size() : (c+1)*large.size()]
		held := none
		for y, row := range rows {
			if row.first != held {
				held = row.first
				widen(upper, from[row.first*small.width:][:small.width], columns)
				widen(lower, from[row.second*small.width:][:small.width], columns)
			}
			line := to[y*large.width : (y+1)*large.width]
			for x, value := range upper {
				line[x] = value + (lower[x]-value)*row.share
			}
		}
	}
	return out, nil
}

// neighbour are the two pixels of the input between which a pixel of the output lies; share is that of the second.
type neighbour struct {
	first, second int
	share         float32
}

func neighbours(small, large int, scale float32) []neighbour {
	list := make([]neighbour, large)
	for i := range list {
		at := max(0, (float64(i)+0.5)/float64(scale)-0.5)
		first := min(int(math.Floor(at)), small-1)
		list[i] = neighbour{first, min(first+1, small-1), float32(at - float64(first))}
	}
	return list
}

func widen(to, from []float32, columns []neighbour) {
	for x, column := range columns {
		a := from[column.first]
		to[x] = a + (from[column.second]-a)*column.share
	}
}
