package onnx_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"darkroom/workerd/engine/native/onnx"
)

// vectorsJSON is made by testdata/vectors.py.
//
//go:embed testdata/vectors.json
var vectorsJSON []byte

// vector is a small model and what PyTorch computes with it.
type vector struct {
	Name   string
	Model  []byte
	Inputs []onnx.Tensor
	Output onnx.Tensor
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	var list []vector
	if err := json.Unmarshal(vectorsJSON, &list); err != nil {
		tb.Fatal(err)
	}
	return list
}

func load(tb testing.TB, name string) *onnx.Model {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("..", "model", name+".onnx"))
	if err != nil {
		tb.Fatal(err)
	}
	model, err := onnx.Load(data)
	if err != nil {
		tb.Fatal(err)
	}
	return model
}

func same(t *testing.T, got, want onnx.Tensor) {
	t.Helper()
	if !slices.Equal(got.Shape, want.Shape) || len(got.Floats) != len(want.Floats) {
		t.Fatalf("got shape %v with %d numbers, want %v", got.Shape, len(got.Floats), want.Shape)
	}
	for i := range want.Floats {
		if off := math.Abs(float64(got.Floats[i] - want.Floats[i])); !(off <= 1e-5*(1+math.Abs(float64(want.Floats[i])))) {
			t.Fatalf("number %d: got %v, want %v", i, got.Floats[i], want.Floats[i])
		}
	}
}

func TestModelsGiveWhatPyTorchGives(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			model, err := onnx.Load(v.Model)
			if err != nil {
				t.Fatal(err)
			}
			// The second run finds used memory.
			for range 2 {
				outputs, err := model.Run(t.Context(), v.Inputs...)
				if err != nil {
					t.Fatal(err)
				}
				same(t, outputs[0], v.Output)
			}
		})
	}
}

func TestUnknownOperatorIsNamed(t *testing.T) {
	t.Parallel()
	data := strings.Replace(string(vectors(t)[0].Model), "\x04Conv", "\x04Cone", 1)
	if _, err := onnx.Load([]byte(data)); err == nil || !strings.Contains(err.Error(), `"Cone" is not supported`) {
		t.Errorf("got %v", err)
	}
}

func TestRunRefusesInputsThatDoNotFit(t *testing.T) {
	t.Parallel()
	model := load(t, "decoder")
	for name, inputs := range map[string][]onnx.Tensor{
		"none":           {},
		"other channels": {onnx.FloatTensor(make([]float32, 2*16*16), 1, 2, 16, 16)},
		"too short":      {onnx.FloatTensor(make([]float32, 3), 1, 8, 16, 16)},
		"too large":      {onnx.FloatTensor(nil, math.MaxInt, math.MaxInt)},
	} {
		if _, err := model.Run(t.Context(), inputs...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRunHeedsItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := load(t, "decoder").Run(ctx, onnx.FloatTensor(make([]float32, 8*16*16), 1, 8, 16, 16))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOneModelRunsInSeveralGoroutines(t *testing.T) {
	t.Parallel()
	model := load(t, "decoder")
	latent := func(i int) onnx.Tensor {
		numbers := make([]float32, 8*16*16)
		for k := range numbers {
			numbers[k] = float32(math.Sin(float64(k*(i+1)) / 9))
		}
		return onnx.FloatTensor(numbers, 1, 8, 16, 16)
	}
	run := func(i int) onnx.Tensor {
		outputs, err := model.Run(t.Context(), latent(i))
		if err != nil {
			t.Error(err)
			return onnx.Tensor{}
		}
		return outputs[0]
	}
	alone := []onnx.Tensor{run(0), run(1), run(2)}
	var running sync.WaitGroup
	for i := range 6 {
		running.Go(func() {
			if got := run(i % 3); !slices.Equal(got.Floats, alone[i%3].Floats) {
				t.Errorf("run %d gives something else than alone", i)
			}
		})
	}
	running.Wait()
}

func FuzzLoad(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Model)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := onnx.Load(data); err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}

func benchmark(b *testing.B, name string, gigaflop float64, inputs ...onnx.Tensor) {
	b.Helper()
	model := load(b, name)
	for b.Loop() {
		if _, err := model.Run(b.Context(), inputs...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(gigaflop*float64(b.N)/b.Elapsed().Seconds(), "GFLOP/s")
}

func BenchmarkFlow(b *testing.B) {
	benchmark(b, "flow", 0.64, onnx.FloatTensor(make([]float32, 8*16*16), 1, 8, 16, 16), onnx.FloatTensor([]float32{0.5}, 1), onnx.FloatTensor(make([]float32, 256), 1, 256))
}

func BenchmarkDecoder(b *testing.B) {
	benchmark(b, "decoder", 0.8, onnx.FloatTensor(make([]float32, 8*16*16), 1, 8, 16, 16))
}

func BenchmarkEnlarger(b *testing.B) {
	benchmark(b, "enlarger", 1.07, onnx.FloatTensor(make([]float32, 3*128*128), 1, 3, 128, 128))
}
