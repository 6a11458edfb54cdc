//go:build !cgo

package ort

import (
	"context"

	"darkroom/workerd/engine/native/onnx"
)

// Runtime is the loaded library; without cgo there is none.
type Runtime struct{}

// Open returns [ErrNoCgo].
func Open(Options) (*Runtime, error) { return nil, ErrNoCgo }

// Device is never called: there is no Runtime.
func (*Runtime) Device() string { return "" }

// CUDA is never called: there is no Runtime.
func (*Runtime) CUDA() bool { return false }

// Load is never called: there is no Runtime.
func (*Runtime) Load([]byte) (*Net, error) { return nil, ErrNoCgo }

// Net is a model that is ready to run; without cgo there is none.
type Net struct{}

// Run is never called: there is no Net.
func (*Net) Run(context.Context, ...onnx.Tensor) (onnx.Tensor, error) { return onnx.Tensor{}, ErrNoCgo }

// Close is never called: there is no Net.
func (*Net) Close() error { return ErrNoCgo }
