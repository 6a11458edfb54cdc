// Package onnx reads models in the ONNX format and runs them in plain Go. It knows the operators that the export of the native
// engine's nets uses; another one is an error when a model is loaded. Convolutions run in the assembler of package tile where
// the machine has what it takes.
package onnx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Model is a loaded model. It may run in several goroutines at once.
type Model struct {
	inputs, outputs []string
	nodes           []*node
	values          []Tensor // constants by slot; empty where a value is made while running
	inSlots, outs   []int
}

// node is one operator of a model.
type node struct {
	op         string
	attributes map[string]attribute
	in         []int // slots; none for an input that is left out
	out        int
	run        operator
	dies       []int // slots that nothing needs after this node
	conv       *convolution
}

// none is the slot of an input that is left out.
const none = -1

// operator computes the output of a node. What it returns is new or shares its memory with an input.
type operator func(n *node, in []Tensor) (Tensor, error)

// Load reads a model. Whatever depends on constants alone is computed at once.
func Load(model []byte) (*Model, error) {
	graph, err := parse(model)
	if err != nil {
		return nil, err
	}
	m := &Model{outputs: graph.outputs}
	slots := map[string]int{}
	slot := func(name string) int {
		number, ok := slots[name]
		if !ok {
			number = len(m.values)
			slots[name] = number
			m.values = append(m.values, Tensor{})
		}
		return number
	}
	known := map[int]bool{} // slots that have a value before the next node runs
	for _, initializer := range graph.initializers {
		at := slot(initializer.name)
		m.values[at], known[at] = initializer.tensor, true
	}
	constant := maps.Clone(known)
	for _, name := range graph.inputs {
		if at := slot(name); !known[at] {
			m.inputs, m.inSlots = append(m.inputs, name), append(m.inSlots, at)
			known[at] = true
		}
	}
	for _, from := range graph.nodes {
		n, err := newNode(from, slot)
		if err != nil {
			return nil, err
		}
		fold := true
		for _, at := range n.in {
			if at != none && !known[at] {
				return nil, fmt.Errorf("load the ONNX model: the node %q needs a value before it is made", from.name)
			}
			fold = fold && (at == none || constant[at])
		}
		if known[n.out] {
			return nil, fmt.Errorf("load the ONNX model: the node %q makes a value that there is", from.name)
		}
		known[n.out] = true
		if !fold {
			m.nodes = append(m.nodes, n)
			continue
		}
		constant[n.out] = true
		value, err := n.compute(m.values)
		if err != nil {
			return nil, fmt.Errorf("load the ONNX model: %s %q: %w", from.op, from.name, err)
		}
		m.values[n.out] = value
	}
	for _, name := range m.outputs {
		at := slot(name)
		if !known[at] {
			return nil, fmt.Errorf("load the ONNX model: nothing makes its output %q", name)
		}
		m.outs = append(m.outs, at)
	}
	if len(m.outputs) == 0 {
		return nil, errors.New("load the ONNX model: it has no output")
	}
	m.fuse()
	if err := m.prepare(constant); err != nil {
		return nil, fmt.Errorf("load the ONNX model: %w", err)
	}
	return m, nil
}

func newNode(from nodeProto, slot func(string) int) (*node, error) {
	run, ok := operators[from.op]
	if !ok {
		return nil, fmt.Errorf("load the ONNX model: its operator %q is not supported", from.op)
	}
	if len(from.outputs) != 1 || from.outputs[0] == "" {
		return nil, fmt.Errorf("load the ONNX model: %s %q has %d outputs, and only one is supported", from.op, from.name, len(from.outputs))
	}
	if least := run.least; len(from.inputs) < least {
		return nil, fmt.Errorf("load the ONNX model: %s %q has %d inputs of at least %d", from.op, from.name, len(from.inputs), least)
	}
	n := &node{op: from.op, attributes: from.attributes, run: run.run}
	for i, name := range from.inputs {
		at := none
		if name != "" {
			at = slot(name)
		} else if i < run.least {
			return nil, fmt.Errorf("load the ONNX model: %s %q lacks its input %d", from.op, from.name, i)
		}
		n.in = append(n.in, at)
	}
	n.out = slot(from.outputs[0])
	return n, nil
}

// prepare brings weights into the order in which they are used, forgets constants that nothing needs any more and notes where
// values die.
func (m *Model) prepare(constant map[int]bool) error {
	uses := map[int]int{}
	for _, n := range m.nodes {
		for _, at := range n.in {
			uses[at]++
		}
	}
	for _, n := range m.nodes {
		if n.op != "Conv" && n.op != "Gemm" {
			continue
		}
		if !constant[n.in[1]] || len(n.in) > 2 && n.in[2] != none && !constant[n.in[2]] {
			return fmt.Errorf("%s with weights that are no constants is not supported", n.op)
		}
		var err error
		if n.conv, err = newConvolution(n, m.values); err != nil {
			return fmt.Errorf("%s: %w", n.op, err)
		}
		uses[n.in[1]]--
		n.in[1] = none
	}
	for at := range m.values {
		if uses[at] == 0 && !slices.Contains(m.outs, at) {
			m.values[at] = Tensor{}
		}
	}
	last := map[int]*node{}
	for _, n := range m.nodes {
		for _, at := range n.in {
			if at != none && !constant[at] && !slices.Contains(m.outs, at) && !slices.Contains(m.inSlots, at) {
				last[at] = n
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(last)) {
		last[at].dies = append(last[at].dies, at)
	}
	return nil
}

// Inputs are the names of what [Model.Run] wants, in its order.
func (m *Model) Inputs() []string { return m.inputs }

// Run computes the outputs for inputs, which are given in the order of [Model.Inputs] and are not changed. It ends within milliseconds
// of the end of ctx, with the error of ctx.
func (m *Model) Run(ctx context.Context, inputs ...Tensor) ([]Tensor, error) {
	if len(inputs) != len(m.inputs) {
		return nil, fmt.Errorf("run the model: it has %d inputs %v, and %d were given", len(m.inputs), m.inputs, len(inputs))
	}
	values := slices.Clone(m.values)
	for i, input := range inputs {
		if n, err := count(input.Shape); err != nil || n != input.length() {
			return nil, fmt.Errorf("run the model: the input %s of shape %v has %d numbers", m.inputs[i], input.Shape, input.length())
		}
		input.store = nil
		values[m.inSlots[i]] = input
	}
	for _, n := range m.nodes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("run the model: %w", err)
		}
		value, err := n.compute(values)
		if err != nil {
			return nil, fmt.Errorf("run the model: %s: %w", n.op, err)
		}
		values[n.out] = value
		for _, at := range n.dies {
			values[at].release()
		}
	}
	outputs := make([]Tensor, len(m.outs))
	for i, at := range m.outs {
		outputs[i] = values[at]
		outputs[i].store = nil
	}
	return outputs, nil
}

// compute runs one node.
func (n *node) compute(values []Tensor) (Tensor, error) {
	in := make([]Tensor, len(n.in))
	for i, at := range n.in {
		if at != none {
			in[i] = values[at]
		}
	}
	return n.run(n, in)
}

// overwritten returns a tensor of the shape of input i for the node's output: that input itself when nothing needs it any more.
func (n *node) overwritten(in []Tensor, i int) (Tensor, error) {
	if in[i].alone() && slices.Contains(n.dies, n.in[i]) {
		return in[i].share(in[i].Shape), nil
	}
	return newTensor(in[i].Shape)
}
