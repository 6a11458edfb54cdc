package onnx

import "slices"

// fuse replaces groups of nodes by one that does the same at once:
//
//   - x * Sigmoid(x) becomes SiLU;
//   - x * 1/Sqrt(ReduceMean(x*x) + e) becomes Norm, when the mean is taken over the channels;
//   - a SiLU of a convolution, and an Add to one, become part of the convolution.
func (m *Model) fuse() {
	f := fuser{m: m, by: map[int]*node{}, uses: map[int]int{}}
	for _, n := range m.nodes {
		f.by[n.out] = n
		for _, at := range n.in {
			f.uses[at]++
		}
	}
	for _, at := range m.outs {
		f.uses[at]++
	}
	for _, pass := range []func(*node){f.silu, f.norm, f.convolutionSiLU, f.convolutionAdd} {
		for _, n := range slices.Clone(m.nodes) {
			pass(n)
		}
	}
}

type fuser struct {
	m    *Model
	by   map[int]*node // nodes by the slot of their output
	uses map[int]int   // of slots
}

// made returns the node of the given operator that makes a value which nothing else uses, or nil.
func (f *fuser) made(op string, at int) *node {
	if n := f.by[at]; n != nil && n.op == op && f.uses[at] == 1 {
		return n
	}
	return nil
}

// replace turns n into another operator on the value x, instead of the nodes that are removed.
func (f *fuser) replace(n *node, op string, x int, removed ...*node) {
	n.op, n.run, n.in = op, operators[op].run, []int{x}
	f.remove(removed...)
}

func (f *fuser) remove(removed ...*node) {
	f.m.nodes = slices.DeleteFunc(f.m.nodes, func(n *node) bool { return slices.Contains(removed, n) })
}

func (f *fuser) silu(n *node) {
	if n.op != "Mul" || len(n.in) != 2 {
		return
	}
	for i, at := range n.in {
		x := n.in[1-i]
		if sigmoid := f.made("Sigmoid", at); sigmoid != nil && sigmoid.in[0] == x {
			f.replace(n, opSiLU, x, sigmoid)
			f.uses[x]--
			return
		}
	}
}

func (f *fuser) norm(n *node) {
	if n.op != "Mul" || len(n.in) != 2 {
		return
	}
	for i, at := range n.in {
		x := n.in[1-i]
		over := f.made("Div", at)
		if over == nil || !f.isOne(over.in[0]) {
			continue
		}
		root := f.made("Sqrt", over.in[1])
		if root == nil {
			continue
		}
		sum := f.made("Add", root.in[0])
		if sum == nil || len(f.m.values[sum.in[1]].Floats) != 1 {
			continue
		}
		mean := f.made("ReduceMean", sum.in[0])
		if mean == nil || !slices.Equal(mean.attributes["axes"].list, []int64{1}) || mean.integer("keepdims", 1) != 1 {
			continue
		}
		square := f.made("Mul", mean.in[0])
		if square == nil || !slices.Equal(square.in, []int{x, x}) {
			continue
		}
		n.attributes = map[string]attribute{"epsilon": {float: f.m.values[sum.in[1]].Floats[0]}}
		f.replace(n, opNorm, x, over, root, sum, mean, square)
		f.uses[x] -= 2
		return
	}
}

func (f *fuser) isOne(at int) bool {
	numbers := f.m.values[at].Floats
	return len(numbers) == 1 && numbers[0] == 1
}

func (f *fuser) convolutionSiLU(n *node) {
	if n.op != opSiLU {
		return
	}
	if conv := f.made("Conv", n.in[0]); conv != nil {
		conv.attributes[opSiLU] = attribute{number: 1}
		conv.out = n.out
		f.by[n.out] = conv
		f.remove(n)
	}
}

func (f *fuser) convolutionAdd(n *node) {
	if n.op != "Add" || len(n.in) != 2 {
		return
	}
	for _, i := range []int{1, 0} {
		conv, x := f.made("Conv", n.in[i]), n.in[1-i]
		if conv == nil || conv.integer(opSiLU, 0) == 1 || conv.integer(opPlus, 0) == 1 {
			continue
		}
		if len(conv.in) == 2 { // without a bias
			conv.in = append(conv.in, none)
		}
		// The convolution takes the place of the Add, since the other value may not be there before.
		conv.attributes[opPlus] = attribute{number: 1}
		n.op, n.run, n.in, n.attributes = conv.op, conv.run, slices.Concat(conv.in, []int{x}), conv.attributes
		f.remove(conv)
		return
	}
}
