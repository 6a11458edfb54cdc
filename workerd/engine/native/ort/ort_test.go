package ort

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"darkroom/workerd/engine/native/onnx"
)

func TestLibrariesInOrder(t *testing.T) { //nolint:paralleltest // the environment is changed
	cache, folder := t.TempDir(), t.TempDir()
	t.Setenv("ORT_LIB", "")
	t.Setenv("DARKROOM_CACHE", cache)
	t.Setenv("LD_LIBRARY_PATH", folder)
	t.Setenv("DYLD_LIBRARY_PATH", folder)
	fetched, err := installed()
	if err != nil {
		t.Skipf("no library can be fetched here: %v", err)
	}
	own := filepath.Join(folder, filepath.Base(fetched))
	for _, path := range []string{fetched, own} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := libraries(); len(got) < 2 || got[0] != fetched || got[1] != own {
		t.Errorf("got %v, want %s and %s first", got, fetched, own)
	}
	if again, err := Install(t.Context(), io.Discard); err != nil || again != fetched {
		t.Errorf("what is installed is fetched again: %s, %v", again, err)
	}
	t.Setenv("ORT_LIB", "/elsewhere")
	if got := libraries(); !slices.Equal(got, []string{"/elsewhere"}) {
		t.Errorf("ORT_LIB is one of several: %v", got)
	}
}

// open is [Open], or skips the test where there is no library.
func open(t *testing.T) *Runtime {
	t.Helper()
	words, err := os.ReadFile(filepath.Join("..", "model", "words.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(Options{Threads: 1, Probe: words, Log: func(line string, err error) { t.Logf("%s: %v", line, err) }})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoCgo) {
		t.Skipf("%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// flow has the inputs of the largest net.
func flow(count int) []onnx.Tensor {
	latents, conditions := make([]float32, count*8*16*16), make([]float32, count*256)
	for i := range latents {
		latents[i] = float32(math.Sin(float64(i)))
	}
	return []onnx.Tensor{
		onnx.FloatTensor(latents, count, 8, 16, 16),
		onnx.FloatTensor(slices.Repeat([]float32{0.3}, count), count),
		onnx.FloatTensor(conditions, count, 256),
	}
}

func TestBothRunTheSame(t *testing.T) {
	t.Parallel()
	r := open(t)
	data, err := os.ReadFile(filepath.Join("..", "model", "flow.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := r.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := onnx.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := theirs.Run(t.Context(), flow(3)...)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ours.Run(t.Context(), flow(3)...)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Shape, want[0].Shape) {
		t.Fatalf("shapes %v and %v", got.Shape, want[0].Shape)
	}
	for i, x := range got.Floats {
		if y := want[0].Floats[i]; math.Abs(float64(x-y)) > 1e-3*(1+math.Abs(float64(y))) {
			t.Fatalf("number %d: %v and %v", i, x, y)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := open(t)
	data, err := os.ReadFile(filepath.Join("..", "model", "flow.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	net, err := r.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := net.Run(ctx, flow(1)...); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := net.Run(t.Context(), flow(1)[0]); err == nil {
		t.Error("a run without all inputs is no error")
	}
}
