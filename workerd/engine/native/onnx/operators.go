package onnx

import (
	"errors"
	"fmt"
	"math"

	"darkroom/workerd/engine/native/onnx/tile"
)

// Operators that fuse makes, and the attributes by which it marks a convolution. ONNX has none of these names.
const (
	opSiLU = "darkroom.SiLU"
	opNorm = "darkroom.Norm"
	opPlus = "darkroom.Plus"
)

// operators are all that is supported, with how many inputs each needs at least. They follow version 15 of the operator set.
var operators map[string]struct {
	run   operator
	least int
}

func init() { //nolint:gochecknoinits // a literal would refer to itself: convolutions add by an operator
	operators = map[string]struct {
		run   operator
		least int
	}{
		"Add":          {runBinaryNode, 2},
		"Cast":         {runCast, 1},
		"Concat":       {runConcat, 1},
		"Constant":     {runConstant, 0},
		"Conv":         {runConv, 2},
		"Cos":          {each(math.Cos), 1},
		"DepthToSpace": {runDepthToSpace, 1},
		"Div":          {runBinaryNode, 2},
		"Exp":          {each(math.Exp), 1},
		"Gather":       {runGather, 2},
		"Gemm":         {runGemm, 2},
		"Greater":      {runGreater, 2},
		"Identity":     {runIdentity, 1},
		"Mul":          {runBinaryNode, 2},
		"ReduceMean":   {runReduce, 1},
		"ReduceSum":    {runReduce, 1},
		"Reshape":      {runReshape, 2},
		"Resize":       {runResize, 1},
		"Shape":        {runShape, 1},
		"Sigmoid":      {each(func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }), 1},
		"Sin":          {each(math.Sin), 1},
		"Slice":        {runSlice, 3},
		"Sqrt":         {each(math.Sqrt), 1},
		"Squeeze":      {runSqueeze, 2},
		"Sub":          {runBinaryNode, 2},
		"Transpose":    {runTranspose, 1},
		"Unsqueeze":    {runUnsqueeze, 2},
		opNorm:         {runNorm, 1},
		opSiLU:         {runSiLU, 1},
	}
}

var errFloats = errors.New("it wants numbers in single precision")

func (n *node) integer(name string, missing int64) int64 {
	if value, ok := n.attributes[name]; ok {
		return value.number
	}
	return missing
}

func (n *node) list(name string, missing []int64) []int64 {
	if value, ok := n.attributes[name]; ok {
		return value.list
	}
	return missing
}

// each is an operator that maps number by number.
func each(f func(float64) float64) operator {
	return func(n *node, in []Tensor) (Tensor, error) {
		if in[0].Floats == nil {
			return Tensor{}, errFloats
		}
		out, err := n.overwritten(in, 0)
		if err != nil {
			return Tensor{}, err
		}
		for i, x := range in[0].Floats {
			out.Floats[i] = float32(f(float64(x)))
		}
		return out, nil
	}
}

func runSiLU(n *node, in []Tensor) (Tensor, error) {
	if in[0].Floats == nil {
		return Tensor{}, errFloats
	}
	out, err := n.overwritten(in, 0)
	if err != nil {
		return Tensor{}, err
	}
	copy(out.Floats, in[0].Floats)
	tile.SiLU(out.Floats)
	return out, nil
}

// runNorm divides by the root mean square over the channels.
func runNorm(n *node, in []Tensor) (Tensor, error) {
	input := in[0]
	if input.Floats == nil || len(input.Shape) < 2 {
		return Tensor{}, errFloats
	}
	out, err := n.overwritten(in, 0)
	if err != nil {
		return Tensor{}, err
	}
	channels, area := input.Shape[1], 1
	for _, dim := range input.Shape[2:] {
		area *= dim
	}
	epsilon := n.attributes["epsilon"].float
	scale := make([]float32, area)
	for from := 0; from+channels*area <= len(input.Floats) && channels*area > 0; from += channels * area {
		clear(scale)
		picture, to := input.Floats[from:from+channels*area], out.Floats[from:from+channels*area]
		for at := 0; at < len(picture); at += area {
			line := picture[at : at+area]
			for i := range scale {
				scale[i] += line[i] * line[i]
			}
		}
		for i, sum := range scale {
			scale[i] = float32(1 / math.Sqrt(float64(sum/float32(channels)+epsilon)))
		}
		for at := 0; at < len(picture); at += area {
			line, target := picture[at:at+area], to[at:at+area]
			for i, s := range scale {
				target[i] = line[i] * s
			}
		}
	}
	return out, nil
}

func runBinaryNode(n *node, in []Tensor) (Tensor, error) {
	if in[0].Floats == nil && in[1].Floats == nil {
		return wholeBinary(n.op, in[0], in[1])
	}
	// The output may lie where an input lay that has its shape.
	for i := range 2 {
		if in[i].Floats != nil && covers(in[i].Shape, in[1-i].Shape) {
			out, err := n.overwritten(in, i)
			if err != nil {
				return Tensor{}, err
			}
			return out, binaryInto(n.op, out, in[0], in[1])
		}
	}
	return runBinary(n.op, in[0], in[1])
}

// covers says whether combining with the other shape gives the first one.
func covers(shape, other []int) bool {
	both, err := broadcast(shape, other)
	if err != nil || len(both) != len(shape) {
		return false
	}
	for i := range both {
		if both[i] != shape[i] {
			return false
		}
	}
	return true
}

// runBinary is Add, Sub, Mul or Div of numbers in single precision.
func runBinary(op string, a, b Tensor) (Tensor, error) {
	shape, err := broadcast(a.Shape, b.Shape)
	if err != nil {
		return Tensor{}, err
	}
	out, err := newTensor(shape)
	if err != nil {
		return Tensor{}, err
	}
	return out, binaryInto(op, out, a, b)
}

func binaryInto(op string, out, a, b Tensor) error {
	if a.Floats == nil || b.Floats == nil {
		return errFloats
	}
	run := binaries[op]
	walk(out.Shape, a.Shape, b.Shape, func(at, atA, atB, n, stepA, stepB int) {
		run(out.Floats[at:at+n], a.Floats[atA:], b.Floats[atB:], stepA, stepB)
	})
	return nil
}

// binaries combine two runs of numbers.
var binaries = map[string]func(out, a, b []float32, stepA, stepB int){
	"Add": runs(
		func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x + b[i]
			}
		},
		func(out, a []float32, b float32) {
			for i, x := range a {
				out[i] = x + b
			}
		}, nil),
	"Mul": runs(
		func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x * b[i]
			}
		},
		func(out, a []float32, b float32) {
			for i, x := range a {
				out[i] = x * b
			}
		}, nil),
	"Sub": runs(
		func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x - b[i]
			}
		},
		func(out, a []float32, b float32) {
			for i, x := range a {
				out[i] = x - b
			}
		},
		func(out []float32, a float32, b []float32) {
			for i, x := range b {
				out[i] = a - x
			}
		}),
	"Div": runs(
		func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x / b[i]
			}
		},
		func(out, a []float32, b float32) {
			for i, x := range a {
				out[i] = x / b
			}
		},
		func(out []float32, a float32, b []float32) {
			for i, x := range b {
				out[i] = a / x
			}
		}),
}

// runs chooses the loop by what moves along: both, only the first, or only the second number. Without a loop for the last the
// order does not matter.
func runs(both func(out, a, b []float32), first func(out, a []float32, b float32), second func(out []float32, a float32, b []float32),
) func(out, a, b []float32, stepA, stepB int) {
	return func(out, a, b []float32, stepA, stepB int) {
		n := len(out)
		switch {
		case stepA == 1 && stepB == 1:
			both(out, a[:n], b[:n])
		case stepA == 1:
			first(out, a[:n], b[0])
		case stepB == 1 && second == nil:
			first(out, b[:n], a[0])
		case stepB == 1:
			second(out, a[0], b[:n])
		default: // one number each
			both(out[:1], a[:1], b[:1])
		}
	}
}

// walk goes through a shape and two that are broadcast to it, run by run: where the run begins in each, its length, and whether
// the two move along (1) or stay (0).
func walk(shape, a, b []int, each func(at, atA, atB, n, stepA, stepB int)) {
	// Dimensions that both move along or both stay in are one dimension.
	type dimension struct{ size, stepA, stepB int }
	var dims []dimension
	sizeA, sizeB := 1, 1
	for i := range shape {
		i = len(shape) - 1 - i
		d := dimension{size: shape[i]}
		if j := i - len(shape) + len(a); j >= 0 && a[j] != 1 {
			d.stepA = sizeA
			sizeA *= a[j]
		}
		if j := i - len(shape) + len(b); j >= 0 && b[j] != 1 {
			d.stepB = sizeB
			sizeB *= b[j]
		}
		if d.size == 1 {
			continue
		}
		if last := len(dims) - 1; last >= 0 && d.stepA == dims[last].stepA*dims[last].size && d.stepB == dims[last].stepB*dims[last].size {
			dims[last].size *= d.size
			continue
		}
		dims = append(dims, d)
	}
	if len(dims) == 0 {
		dims = []dimension{{size: 1}}
	}
	for _, d := range dims {
		if d.size == 0 {
			return
		}
	}
	inner := dims[0]
	counts := make([]int, len(dims))
	at, atA, atB := 0, 0, 0
	for {
		each(at, atA, atB, inner.size, inner.stepA, inner.stepB)
		at += inner.size
		level := 1
		for ; level < len(dims); level++ {
			atA, atB = atA+dims[level].stepA, atB+dims[level].stepB
			counts[level]++
			if counts[level] < dims[level].size {
				break
			}
			atA, atB = atA-dims[level].stepA*dims[level].size, atB-dims[level].stepB*dims[level].size
			counts[level] = 0
		}
		if level == len(dims) {
			return
		}
	}
}

// broadcast is the shape that two shapes are combined to.
func broadcast(a, b []int) ([]int, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	shape := append([]int(nil), a...)
	for i, dim := range b {
		at := len(a) - len(b) + i
		switch {
		case dim == shape[at] || dim == 1:
		case shape[at] == 1:
			shape[at] = dim
		default:
			return nil, fmt.Errorf("the shapes %v and %v do not fit", a, b)
		}
	}
	return shape, nil
}
