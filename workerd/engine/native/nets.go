package native

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"darkroom/workerd/engine/native/onnx"
	"darkroom/workerd/engine/native/ort"
)

// models are the trained nets, as train/export.py writes them.
//
//go:embed model
var models embed.FS

func model(file string) ([]byte, error) {
	data, err := models.ReadFile("model/" + file)
	if err != nil {
		return nil, fmt.Errorf("read the native engine's model: %w", err)
	}
	return data, nil
}

// net is a model that is ready to run, in several goroutines at once.
type net interface {
	Run(ctx context.Context, inputs ...onnx.Tensor) (onnx.Tensor, error)
	Close() error
}

// backend is what runs the nets.
type backend interface {
	// Load reads a model.
	Load(model []byte) (net, error)
	// Device is as in [engine.Info].
	Device() string
	// Name is that of the setting.
	Name() string
	// Workers is how many runs should go on at once for one task.
	Workers() int
}

// Backends that can be set.
const (
	BackendAuto = "auto"        // ONNX Runtime where it is found, else plain Go
	BackendGo   = "go"          // plain Go, with a little assembler on amd64
	BackendORT  = "onnxruntime" // ONNX Runtime, see package ort
)

// newBackend chooses what runs the nets.
func newBackend(name string, threads int, log *slog.Logger) (backend, error) {
	if name == BackendGo {
		return plainGo{workers: threads}, nil
	}
	probe, err := model("words.onnx")
	if err != nil {
		return nil, err
	}
	runtime, err := ort.Open(ort.Options{
		Threads: threads, Probe: probe,
		Log: func(line string, err error) { log.Warn(line, "error", err) },
	})
	switch {
	case err == nil:
		return onnxRuntime{runtime}, nil
	case name == BackendAuto && (errors.Is(err, ort.ErrNotFound) || errors.Is(err, ort.ErrNoCgo)):
		log.Info("the nets run in plain Go", "reason", err)
	case name == BackendAuto && os.Getenv("ORT_LIB") == "":
		log.Warn("the nets run in plain Go, since ONNX Runtime does not load", "error", err)
	default:
		return nil, fmt.Errorf("the native engine cannot use ONNX Runtime: %w", err)
	}
	return plainGo{workers: threads}, nil
}

// plainGo runs nets with package onnx: each run on one core, and several at once.
type plainGo struct{ workers int }

func (plainGo) Device() string { return "cpu" }
func (plainGo) Name() string   { return BackendGo }
func (b plainGo) Workers() int { return b.workers }
func (plainGo) Load(model []byte) (net, error) {
	loaded, err := onnx.Load(model)
	return plainNet{loaded}, err
}

type plainNet struct{ *onnx.Model }

func (n plainNet) Run(ctx context.Context, inputs ...onnx.Tensor) (onnx.Tensor, error) {
	outputs, err := n.Model.Run(ctx, inputs...)
	if err != nil {
		return onnx.Tensor{}, err
	}
	return outputs[0], nil
}

func (plainNet) Close() error { return nil }

// onnxRuntime runs nets with package ort, which spreads one run over the cores.
type onnxRuntime struct{ *ort.Runtime }

func (onnxRuntime) Name() string { return BackendORT }
func (onnxRuntime) Workers() int { return 1 }
func (b onnxRuntime) Load(model []byte) (net, error) {
	loaded, err := b.Runtime.Load(model)
	if err != nil {
		return nil, err
	}
	return loaded, nil
}

// nets are the model, loaded when it is first used.
type nets struct {
	backend    backend
	vocabulary *vocabulary

	mu     sync.Mutex
	loaded map[string]net
	closed bool
}

func newNets(backend backend) (*nets, error) {
	list, err := model("vocabulary.txt")
	if err != nil {
		return nil, err
	}
	return &nets{backend: backend, vocabulary: newVocabulary(string(list)), loaded: map[string]net{}}, nil
}

// net returns a net of the model by name.
func (n *nets) net(name string) (net, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errors.New("the native engine is closed")
	}
	if loaded, ok := n.loaded[name]; ok {
		return loaded, nil
	}
	data, err := model(name + ".onnx")
	if err != nil {
		return nil, err
	}
	loaded, err := n.backend.Load(data)
	if err != nil {
		return nil, fmt.Errorf("load the net %s: %w", name, err)
	}
	n.loaded[name] = loaded
	return loaded, nil
}

// close frees the nets. None may run.
func (n *nets) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	var failed []error
	for _, loaded := range n.loaded {
		failed = append(failed, loaded.Close())
	}
	n.loaded = nil
	return errors.Join(failed...)
}

// run computes the output of one net.
func (n *nets) run(ctx context.Context, name string, inputs ...onnx.Tensor) ([]float32, error) {
	net, err := n.net(name)
	if err != nil {
		return nil, err
	}
	output, err := net.Run(ctx, inputs...)
	if err != nil {
		return nil, fmt.Errorf("run the net %s: %w", name, err)
	}
	return output.Floats, nil
}

// condition turns the numbers of words, which may be none, into what the flow wants.
func (n *nets) condition(ctx context.Context, words []int64) ([]float32, error) {
	numbers := make([]int64, mostWords)
	copy(numbers, words)
	return n.run(ctx, "words", onnx.Tensor{Shape: []int{1, mostWords}, Ints: numbers})
}

// velocity gives the direction in which latents move at time t, 1 being noise and 0 a picture. There is one condition for each latent.
func (n *nets) velocity(ctx context.Context, latents []float32, t float32, conditions []float32) ([]float32, error) {
	count := len(latents) / latentNumbers
	return n.run(ctx, "flow",
		onnx.FloatTensor(latents, count, latentChannels, latentSide, latentSide),
		onnx.FloatTensor(slices.Repeat([]float32{t}, count), count),
		onnx.FloatTensor(conditions, count, conditionWidth))
}

// encode turns pictures, three channels each, from -1 to 1, into latents.
func (n *nets) encode(ctx context.Context, pictures []float32) ([]float32, error) {
	count := len(pictures) / (3 * pictureSide * pictureSide)
	return n.run(ctx, "encoder", onnx.FloatTensor(pictures, count, 3, pictureSide, pictureSide))
}

// decode turns latents into pictures.
func (n *nets) decode(ctx context.Context, latents []float32) ([]float32, error) {
	pictures, err := n.run(ctx, "decoder", onnx.FloatTensor(latents, len(latents)/latentNumbers, latentChannels, latentSide, latentSide))
	for i, value := range pictures {
		pictures[i] = min(max(value, -1), 1)
	}
	return pictures, err
}

// enlarge makes one picture four times as wide and high.
func (n *nets) enlarge(ctx context.Context, p planes) (planes, error) {
	numbers, err := n.run(ctx, "enlarger", onnx.FloatTensor(p.numbers, 1, 3, p.height, p.width))
	return planes{width: p.width * enlargement, height: p.height * enlargement, numbers: numbers}, err
}

// each calls work for runs of at most [batch] of count items, as many at once as the backend likes.
func (n *nets) each(ctx context.Context, count int, work func(ctx context.Context, from, to int) error) error {
	workers := n.backend.Workers()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	size := min(batch, (count+workers-1)/workers)
	for from := 0; from < count; from += size {
		group.Go(func() error { return work(ctx, from, min(from+size, count)) })
	}
	return group.Wait() //nolint:wrapcheck // an error of work
}
