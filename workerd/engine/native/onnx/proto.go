package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of ONNX as onnx.proto (github.com/onnx/onnx, IR version 8) numbers their fields; only what is needed here is read.

type graphProto struct {
	nodes           []nodeProto
	initializers    []tensorProto
	inputs, outputs []string
}

type nodeProto struct {
	op, name        string
	inputs, outputs []string
	attributes      map[string]attribute
}

// attribute is the value of an attribute; one of its fields is set.
type attribute struct {
	float  float32
	number int64
	text   string
	tensor *Tensor
	list   []int64
}

type tensorProto struct {
	name   string
	tensor Tensor
}

// Element types of TensorProto that occur in models.
const (
	typeFloat = 1
	typeInt8  = 3
	typeInt32 = 6
	typeInt64 = 7
	typeBool  = 9
)

var errCut = errors.New("the message is cut short or damaged")

// fields calls each for every field of a message: value for varints and fixed32, data for what has a length.
func fields(message []byte, each func(number int, value uint64, data []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errCut
		}
		message = message[n:]
		var value uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(message)
		case protowire.Fixed32Type:
			var fixed uint32
			fixed, n = protowire.ConsumeFixed32(message)
			value = uint64(fixed)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(message)
		default: // groups and 64-bit fields, which no field in use has
			if n = protowire.ConsumeFieldValue(number, kind, message); n >= 0 {
				message = message[n:]
				continue
			}
		}
		if n < 0 {
			return errCut
		}
		message = message[n:]
		if err := each(int(number), value, data); err != nil {
			return err
		}
	}
	return nil
}

// parse reads a ModelProto.
func parse(model []byte) (*graphProto, error) {
	var graph *graphProto
	err := fields(model, func(number int, _ uint64, data []byte) error {
		if number != 7 { // graph
			return nil
		}
		graph = &graphProto{}
		return graph.parse(data)
	})
	if err != nil {
		return nil, fmt.Errorf("read the ONNX model: %w", err)
	}
	if graph == nil {
		return nil, errors.New("read the ONNX model: it has no graph")
	}
	return graph, nil
}

func (g *graphProto) parse(message []byte) error {
	return fields(message, func(number int, _ uint64, data []byte) error {
		switch number {
		case 1:
			node := nodeProto{attributes: map[string]attribute{}}
			if err := node.parse(data); err != nil {
				return err
			}
			g.nodes = append(g.nodes, node)
		case 5:
			initializer, err := parseTensor(data)
			if err != nil {
				return err
			}
			g.initializers = append(g.initializers, initializer)
		case 11:
			return appendName(&g.inputs, data)
		case 12:
			return appendName(&g.outputs, data)
		}
		return nil
	})
}

// appendName reads the name of a ValueInfoProto. Types and shapes are not needed: they come with the values.
func appendName(names *[]string, message []byte) error {
	return fields(message, func(number int, _ uint64, data []byte) error {
		if number == 1 {
			*names = append(*names, string(data))
		}
		return nil
	})
}

func (n *nodeProto) parse(message []byte) error {
	return fields(message, func(number int, _ uint64, data []byte) error {
		switch number {
		case 1:
			n.inputs = append(n.inputs, string(data))
		case 2:
			n.outputs = append(n.outputs, string(data))
		case 3:
			n.name = string(data)
		case 4:
			n.op = string(data)
		case 5:
			return n.parseAttribute(data)
		}
		return nil
	})
}

func (n *nodeProto) parseAttribute(message []byte) error {
	var name string
	var value attribute
	err := fields(message, func(number int, v uint64, data []byte) error {
		switch number {
		case 1:
			name = string(data)
		case 2:
			value.float = math.Float32frombits(uint32(v)) //nolint:gosec // a fixed32
		case 3:
			value.number = int64(v) //nolint:gosec // two's complement, as protobuf writes it
		case 4:
			value.text = string(data)
		case 5:
			tensor, err := parseTensor(data)
			if err != nil {
				return err
			}
			value.tensor = &tensor.tensor
		case 8:
			var err error
			value.list, err = appendVarints(value.list, v, data)
			return err
		}
		return nil
	})
	n.attributes[name] = value
	return err
}

// appendVarints reads a repeated field of whole numbers, packed or one by one.
func appendVarints(list []int64, value uint64, packed []byte) ([]int64, error) {
	if packed == nil {
		return append(list, int64(value)), nil //nolint:gosec // two's complement, as protobuf writes it
	}
	for len(packed) > 0 {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return nil, errCut
		}
		list = append(list, int64(v)) //nolint:gosec // two's complement, as protobuf writes it
		packed = packed[n:]
	}
	return list, nil
}

func parseTensor(message []byte) (tensorProto, error) {
	var t tensorProto
	var kind uint64
	var dims, ints []int64
	var floats []float32
	var raw []byte
	isRaw := false
	err := fields(message, func(number int, value uint64, data []byte) (err error) {
		switch number {
		case 1:
			dims, err = appendVarints(dims, value, data)
		case 2:
			kind = value
		case 4:
			if data == nil {
				floats = append(floats, math.Float32frombits(uint32(value))) //nolint:gosec // a fixed32
			}
			for ; len(data) >= 4; data = data[4:] {
				floats = append(floats, math.Float32frombits(binary.LittleEndian.Uint32(data)))
			}
		case 5, 7:
			ints, err = appendVarints(ints, value, data)
		case 8:
			t.name = string(data)
		case 9:
			raw, isRaw = data, true
		}
		return err
	})
	if err != nil {
		return t, err
	}
	for _, dim := range dims {
		if dim < 0 || dim > MaxNumbers {
			return t, fmt.Errorf("the tensor %q has the dimension %d", t.name, dim)
		}
		t.tensor.Shape = append(t.tensor.Shape, int(dim))
	}
	switch {
	case kind == typeFloat && isRaw:
		t.tensor.Floats = make([]float32, len(raw)/4)
		for i := range t.tensor.Floats {
			t.tensor.Floats[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	case kind == typeFloat:
		t.tensor.Floats = floats
	case kind == typeInt64 && isRaw:
		t.tensor.Ints = make([]int64, len(raw)/8)
		for i := range t.tensor.Ints {
			t.tensor.Ints[i] = int64(binary.LittleEndian.Uint64(raw[8*i:])) //nolint:gosec // two's complement
		}
	case kind == typeInt64:
		t.tensor.Ints = ints
	case kind == typeInt8 && isRaw:
		t.tensor.bytes = raw
	default:
		return t, fmt.Errorf("the tensor %q has the element type %d (raw: %t), which is not supported", t.name, kind, isRaw)
	}
	if want, err := count(t.tensor.Shape); err != nil || want != t.tensor.length() {
		return t, fmt.Errorf("the tensor %q of shape %v has %d numbers", t.name, t.tensor.Shape, t.tensor.length())
	}
	return t, nil
}
