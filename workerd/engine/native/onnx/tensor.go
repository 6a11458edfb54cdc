package onnx

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// MaxNumbers bounds the numbers of one tensor, so that a damaged model cannot take all memory.
const MaxNumbers = 1 << 27

// Tensor is an array of numbers with a shape, the last dimension varying fastest. Either Floats or Ints is set.
type Tensor struct {
	Shape  []int
	Floats []float32
	Ints   []int64 // also booleans

	bytes []byte   // weights of 8 bits with a sign, until they are cast
	store *storage // of Floats while a model runs; nil for what is not given back
}

// FloatTensor returns a tensor of the given shape that holds numbers.
func FloatTensor(numbers []float32, shape ...int) Tensor {
	return Tensor{Shape: shape, Floats: numbers}
}

// length is the number of numbers.
func (t *Tensor) length() int { return max(len(t.Floats), len(t.Ints), len(t.bytes)) }

// count is the number of numbers of a shape.
func count(shape []int) (int, error) {
	n := 1
	for _, dim := range shape {
		high, low := bits.Mul64(uint64(n), uint64(dim)) //nolint:gosec // not negative
		if dim < 0 || high != 0 || low > MaxNumbers {
			return 0, fmt.Errorf("a tensor of shape %v is too large", shape)
		}
		n = int(low)
	}
	return n, nil
}

// storage is memory that several tensors may share: a reshaped tensor and its origin.
type storage struct {
	numbers []float32
	users   atomic.Int32
}

// pools hold free memory by size: pool i has slices of 2^i numbers. The garbage collector empties them when nothing runs.
var pools [28]sync.Pool

// newTensor returns a tensor whose numbers are not set.
func newTensor(shape []int) (Tensor, error) {
	n, err := count(shape)
	if err != nil {
		return Tensor{}, err
	}
	class := bits.Len(uint(max(n, 1) - 1))
	store, ok := pools[class].Get().(*storage)
	if !ok {
		store = &storage{numbers: make([]float32, 1<<class)}
	}
	store.users.Store(1)
	return Tensor{Shape: shape, Floats: store.numbers[:n:n], store: store}, nil
}

// share returns a tensor of another shape with the same numbers.
func (t *Tensor) share(shape []int) Tensor {
	if t.store != nil {
		t.store.users.Add(1)
	}
	shared := *t
	shared.Shape = shape
	return shared
}

// release gives the memory back when no other tensor uses it.
func (t *Tensor) release() {
	if t.store != nil && t.store.users.Add(-1) == 0 {
		pools[bits.Len(uint(len(t.store.numbers)-1))].Put(t.store)
	}
	*t = Tensor{}
}

// alone says whether nothing else uses the memory, so that it may be overwritten.
func (t *Tensor) alone() bool { return t.store != nil && t.store.users.Load() == 1 }
