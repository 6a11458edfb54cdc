package onnx

import (
	"errors"
	"fmt"
	"slices"
)

var errInput = errors.New("its input is of a kind that is not supported")

func runConstant(n *node, _ []Tensor) (Tensor, error) {
	value := n.attributes["value"].tensor
	if value == nil {
		return Tensor{}, errors.New("a constant without a tensor is not supported")
	}
	return *value, nil
}

func runIdentity(_ *node, in []Tensor) (Tensor, error) { return in[0].share(in[0].Shape), nil }

func runShape(_ *node, in []Tensor) (Tensor, error) {
	out := Tensor{Shape: []int{len(in[0].Shape)}, Ints: make([]int64, len(in[0].Shape))}
	for i, dim := range in[0].Shape {
		out.Ints[i] = int64(dim)
	}
	return out, nil
}

func runCast(n *node, in []Tensor) (Tensor, error) {
	input := in[0]
	switch to := n.integer("to", 0); {
	case to == typeFloat && input.Floats != nil:
		return input.share(input.Shape), nil
	case to == typeFloat:
		out, err := newTensor(input.Shape)
		if err != nil {
			return Tensor{}, err
		}
		for i, value := range input.Ints {
			out.Floats[i] = float32(value)
		}
		for i, value := range input.bytes {
			out.Floats[i] = float32(int8(value)) //nolint:gosec // with its sign
		}
		return out, nil
	case to == typeInt64 && input.Ints != nil:
		return input, nil
	default:
		return Tensor{}, fmt.Errorf("a cast to the element type %d is not supported", to)
	}
}

func runGreater(_ *node, in []Tensor) (Tensor, error) {
	if in[0].Ints == nil || len(in[1].Ints) != 1 {
		return Tensor{}, errInput
	}
	out := Tensor{Shape: in[0].Shape, Ints: make([]int64, len(in[0].Ints))}
	for i, value := range in[0].Ints {
		if value > in[1].Ints[0] {
			out.Ints[i] = 1
		}
	}
	return out, nil
}

// wholeBinary is Add, Sub, Mul or Div of whole numbers, as they occur in computed shapes.
func wholeBinary(op string, a, b Tensor) (Tensor, error) {
	if a.Ints == nil || b.Ints == nil || len(a.Ints) != len(b.Ints) && len(b.Ints) != 1 {
		return Tensor{}, errInput
	}
	out := Tensor{Shape: a.Shape, Ints: make([]int64, len(a.Ints))}
	for i, x := range a.Ints {
		y := b.Ints[min(i, len(b.Ints)-1)]
		switch {
		case op == "Add":
			out.Ints[i] = x + y
		case op == "Sub":
			out.Ints[i] = x - y
		case op == "Mul":
			out.Ints[i] = x * y
		case y == 0:
			return Tensor{}, errors.New("a division by 0")
		default:
			out.Ints[i] = x / y
		}
	}
	return out, nil
}

// axis turns the number of a dimension, negative ones counting from the end, into an index.
func axis(number int64, dims int) (int, error) {
	if number < 0 {
		number += int64(dims)
	}
	if number < 0 || number >= int64(dims) {
		return 0, fmt.Errorf("there is no dimension %d of %d", number, dims)
	}
	return int(number), nil
}

// axesOf reads a list of dimensions.
func axesOf(numbers []int64, dims int) ([]int, error) {
	axes := make([]int, 0, len(numbers))
	for _, number := range numbers {
		at, err := axis(number, dims)
		if err != nil {
			return nil, err
		}
		axes = append(axes, at)
	}
	return axes, nil
}

// reshaped returns a tensor of another shape with the same numbers, of any kind.
func reshaped(t Tensor, shape []int) (Tensor, error) {
	if n, err := count(shape); err != nil || n != t.length() {
		return Tensor{}, fmt.Errorf("%d numbers do not fit the shape %v", t.length(), shape)
	}
	return t.share(shape), nil
}

func runReshape(n *node, in []Tensor) (Tensor, error) {
	if in[1].Ints == nil || n.integer("allowzero", 0) != 0 {
		return Tensor{}, errInput
	}
	shape, rest, free := make([]int, len(in[1].Ints)), 1, none
	for i, dim := range in[1].Ints {
		switch {
		case dim == 0 && i < len(in[0].Shape):
			shape[i] = in[0].Shape[i]
		case dim == -1 && free == none:
			free = i
			continue
		case dim <= 0 || dim > MaxNumbers:
			return Tensor{}, fmt.Errorf("the shape %v is not possible", in[1].Ints)
		default:
			shape[i] = int(dim)
		}
		if rest *= shape[i]; rest > MaxNumbers {
			return Tensor{}, fmt.Errorf("the shape %v is too large", in[1].Ints)
		}
	}
	if free != none {
		if rest == 0 {
			return Tensor{}, fmt.Errorf("the shape %v is not possible", in[1].Ints)
		}
		shape[free] = in[0].length() / rest
	}
	return reshaped(in[0], shape)
}

func runSqueeze(_ *node, in []Tensor) (Tensor, error) {
	axes, err := axesOf(in[1].Ints, len(in[0].Shape))
	if err != nil {
		return Tensor{}, err
	}
	var shape []int
	for i, dim := range in[0].Shape {
		if !slices.Contains(axes, i) {
			shape = append(shape, dim)
		}
	}
	return reshaped(in[0], shape)
}

func runUnsqueeze(_ *node, in []Tensor) (Tensor, error) {
	dims := len(in[0].Shape) + len(in[1].Ints)
	axes, err := axesOf(in[1].Ints, dims)
	if err != nil {
		return Tensor{}, err
	}
	left := in[0].Shape
	shape := make([]int, dims)
	for i := range shape {
		switch {
		case slices.Contains(axes, i):
			shape[i] = 1
		case len(left) == 0:
			return Tensor{}, fmt.Errorf("the dimensions %v do not fit", axes)
		default:
			shape[i], left = left[0], left[1:]
		}
	}
	return reshaped(in[0], shape)
}

// around splits a shape at a dimension: how many numbers lie before and after it.
func around(shape []int, at int) (before, after int) {
	before, after = 1, 1
	for _, dim := range shape[:at] {
		before *= dim
	}
	for _, dim := range shape[at+1:] {
		after *= dim
	}
	return before, after
}

func runConcat(n *node, in []Tensor) (Tensor, error) {
	at, err := axis(n.integer("axis", 0), len(in[0].Shape))
	if err != nil {
		return Tensor{}, err
	}
	shape := slices.Clone(in[0].Shape)
	shape[at] = 0
	for _, t := range in {
		if t.Floats == nil || len(t.Shape) != len(shape) {
			return Tensor{}, errInput
		}
		for i, dim := range t.Shape {
			if i != at && dim != shape[i] {
				return Tensor{}, fmt.Errorf("the shapes %v and %v do not fit", in[0].Shape, t.Shape)
			}
		}
		shape[at] += t.Shape[at]
	}
	out, err := newTensor(shape)
	if err != nil {
		return Tensor{}, err
	}
	before, after := around(shape, at)
	to := out.Floats
	for i := range before {
		for _, t := range in {
			run := t.Shape[at] * after
			copy(to, t.Floats[i*run:(i+1)*run])
			to = to[run:]
		}
	}
	return out, nil
}

func runSlice(_ *node, in []Tensor) (Tensor, error) {
	input := in[0]
	if len(in) > 4 && len(in[4].Ints) > 0 && (len(in[4].Ints) != 1 || in[4].Ints[0] != 1) ||
		len(in) < 4 || input.Floats == nil || len(in[1].Ints) != 1 || len(in[2].Ints) != 1 || len(in[3].Ints) != 1 {
		return Tensor{}, errors.New("only slices of one dimension, one by one, are supported")
	}
	at, err := axis(in[3].Ints[0], len(input.Shape))
	if err != nil {
		return Tensor{}, err
	}
	dim := int64(input.Shape[at])
	bound := func(x int64) int {
		if x < 0 {
			x += dim
		}
		return int(min(max(x, 0), dim))
	}
	start, end := bound(in[1].Ints[0]), bound(in[2].Ints[0])
	shape := slices.Clone(input.Shape)
	shape[at] = max(0, end-start)
	out, err := newTensor(shape)
	if err != nil {
		return Tensor{}, err
	}
	before, after := around(input.Shape, at)
	run := shape[at] * after
	for i := range before {
		copy(out.Floats[i*run:(i+1)*run], input.Floats[(i*input.Shape[at]+start)*after:])
	}
	return out, nil
}

// runGather takes entries along the first dimension.
func runGather(n *node, in []Tensor) (Tensor, error) {
	data, indices := in[0], in[1]
	if n.integer("axis", 0) != 0 || len(data.Shape) == 0 || indices.Ints == nil || data.bytes != nil {
		return Tensor{}, errInput
	}
	shape := slices.Concat(indices.Shape, data.Shape[1:])
	size, err := count(shape)
	if err != nil {
		return Tensor{}, err
	}
	_, run := around(data.Shape, 0)
	var out Tensor
	if data.Floats == nil {
		out = Tensor{Shape: shape, Ints: make([]int64, size)}
	} else if out, err = newTensor(shape); err != nil {
		return Tensor{}, err
	}
	for i, index := range indices.Ints {
		at, err := axis(index, data.Shape[0])
		if err != nil {
			return Tensor{}, err
		}
		if data.Floats == nil {
			copy(out.Ints[i*run:(i+1)*run], data.Ints[at*run:])
		} else {
			copy(out.Floats[i*run:(i+1)*run], data.Floats[at*run:])
		}
	}
	return out, nil
}

func runTranspose(n *node, in []Tensor) (Tensor, error) {
	input := in[0]
	dims := len(input.Shape)
	perm, err := axesOf(n.list("perm", nil), dims)
	if err != nil {
		return Tensor{}, err
	}
	if input.Floats == nil || len(perm) != dims {
		return Tensor{}, errInput
	}
	shape, steps, seen := make([]int, dims), make([]int, dims), make([]bool, dims)
	for i, from := range perm {
		if seen[from] {
			return Tensor{}, fmt.Errorf("the order %v is not possible", perm)
		}
		seen[from] = true
		shape[i] = input.Shape[from]
		_, steps[i] = around(input.Shape, from)
	}
	out, err := newTensor(shape)
	if err != nil {
		return Tensor{}, err
	}
	counts, at := make([]int, dims), 0
	for i := range out.Floats {
		out.Floats[i] = input.Floats[at]
		for level := dims - 1; level >= 0; level-- {
			at += steps[level]
			counts[level]++
			if counts[level] < shape[level] {
				break
			}
			at -= steps[level] * shape[level]
			counts[level] = 0
		}
	}
	return out, nil
}

// runReduce is ReduceMean, which has its dimensions as an attribute, or ReduceSum, which has them as an input.
func runReduce(n *node, in []Tensor) (Tensor, error) {
	input, numbers := in[0], n.list("axes", nil)
	if len(in) > 1 {
		numbers = in[1].Ints
	}
	axes, err := axesOf(numbers, len(input.Shape))
	if err != nil {
		return Tensor{}, err
	}
	if len(axes) != 1 || input.Floats == nil {
		return Tensor{}, errors.New("only means and sums over one dimension are supported")
	}
	at := axes[0]
	shape := slices.Clone(input.Shape)
	shape[at] = 1
	if n.integer("keepdims", 1) == 0 {
		shape = slices.Delete(shape, at, at+1)
	}
	out, err := newTensor(shape)
	if err != nil {
		return Tensor{}, err
	}
	clear(out.Floats)
	before, after := around(input.Shape, at)
	dim := input.Shape[at]
	for i := range before {
		sums := out.Floats[i*after : (i+1)*after]
		for k := range dim {
			for j, value := range input.Floats[(i*dim+k)*after:][:after] {
				sums[j] += value
			}
		}
		if n.op == "ReduceMean" {
			for j := range sums {
				sums[j] /= float32(dim)
			}
		}
	}
	return out, nil
}
