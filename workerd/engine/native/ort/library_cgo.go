//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	binding "github.com/yalue/onnxruntime_go"

	"darkroom/workerd/engine/native/onnx"
)

// Runtime is the loaded library with its way to run models.
type Runtime struct {
	options Options
	device  string
	cuda    bool
}

// library is the one library that a process has.
var library struct {
	sync.Mutex

	path   string // "" until one was found that can be loaded
	loaded bool
}

// Open finds a library that can be loaded, or uses the one that was found, and chooses the device. For the CPU the library is loaded
// again with the first model, so that it takes no memory of a worker without work.
func Open(options Options) (*Runtime, error) {
	path, err := find()
	if err != nil {
		return nil, err
	}
	r := &Runtime{options: options, device: "cpu (ONNX Runtime)"}
	if !hasCUDA(path) {
		return r, nil
	}
	r.cuda = true
	probe, err := r.Load(options.Probe)
	if err != nil {
		options.Log("ONNX Runtime cannot use a GPU, so it works on the CPU", err)
		r.cuda = false
		return r, nil
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	r.device = "cuda:0"
	return r, nil
}

// find gives the path of the first library that can be loaded.
func find() (string, error) {
	library.Lock()
	defer library.Unlock()
	if library.path != "" {
		return library.path, nil
	}
	var failed []error
	for _, path := range libraries() {
		// The binding calls what is no file by the name of a wrong library; say what it is.
		if !isFile(path) {
			failed = append(failed, fmt.Errorf("%s: %w", path, os.ErrNotExist))
			continue
		}
		binding.SetSharedLibraryPath(path)
		if err := binding.InitializeEnvironment(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", path, err))
			continue
		}
		if err := binding.DestroyEnvironment(); err != nil {
			return "", fmt.Errorf("close ONNX Runtime: %w", err)
		}
		library.path = path
		return path, nil
	}
	if len(failed) > 0 {
		return "", fmt.Errorf("load ONNX Runtime: %w", errors.Join(failed...))
	}
	return "", ErrNotFound
}

// load loads the library that was found, unless it is loaded.
func load() error {
	library.Lock()
	defer library.Unlock()
	if library.loaded {
		return nil
	}
	if err := binding.InitializeEnvironment(); err != nil {
		return fmt.Errorf("load ONNX Runtime: %w", err)
	}
	library.loaded = true
	return nil
}

// Device is what models run on, such as "cpu (ONNX Runtime)" or "cuda:0".
func (r *Runtime) Device() string { return r.device }

// CUDA says whether models run on a GPU.
func (r *Runtime) CUDA() bool { return r.cuda }

// Net is a model that is ready to run, in several goroutines at once.
type Net struct {
	session *binding.DynamicAdvancedSession
}

// Load reads a model with one output.
func (r *Runtime) Load(model []byte) (*Net, error) {
	if err := load(); err != nil {
		return nil, err
	}
	inputs, outputs, err := binding.GetInputOutputInfoWithONNXData(model)
	if err != nil {
		return nil, fmt.Errorf("read the model: %w", err)
	}
	options, err := r.sessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { _ = options.Destroy() }()
	session, err := binding.NewDynamicAdvancedSessionWithONNXData(model, names(inputs), names(outputs), options)
	if err != nil {
		return nil, fmt.Errorf("load the model: %w", err)
	}
	return &Net{session: session}, nil
}

func names(infos []binding.InputOutputInfo) []string {
	list := make([]string, len(infos))
	for i, info := range infos {
		list[i] = info.Name
	}
	return list
}

func (r *Runtime) sessionOptions() (*binding.SessionOptions, error) {
	options, err := binding.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("configure ONNX Runtime: %w", err)
	}
	err = errors.Join(
		options.SetIntraOpNumThreads(r.options.Threads),
		options.SetLogSeverityLevel(binding.LoggingLevelError),
		// Threads without work would otherwise spin for a while.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
	)
	if err == nil && r.cuda {
		err = useCUDA(options)
	}
	if err != nil {
		_ = options.Destroy()
		return nil, fmt.Errorf("configure ONNX Runtime: %w", err)
	}
	return options, nil
}

func useCUDA(options *binding.SessionOptions) error {
	cuda, err := binding.NewCUDAProviderOptions()
	if err != nil {
		return fmt.Errorf("use CUDA: %w", err)
	}
	defer func() { _ = cuda.Destroy() }()
	// TF32 would round what the other devices do not.
	if err := cuda.Update(map[string]string{"device_id": "0", "use_tf32": "0"}); err != nil {
		return fmt.Errorf("use CUDA: %w", err)
	}
	if err := options.AppendExecutionProviderCUDA(cuda); err != nil {
		return fmt.Errorf("use CUDA: %w", err)
	}
	return nil
}

// Run computes the output for inputs in the order of the model. It ends soon after ctx does, with the error of ctx.
func (n *Net) Run(ctx context.Context, inputs ...onnx.Tensor) (onnx.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return onnx.Tensor{}, fmt.Errorf("run the model: %w", err)
	}
	values := make([]binding.Value, 0, len(inputs))
	defer func() {
		for _, value := range values {
			_ = value.Destroy()
		}
	}()
	for _, input := range inputs {
		value, err := toValue(input)
		if err != nil {
			return onnx.Tensor{}, err
		}
		values = append(values, value)
	}
	options, err := binding.NewRunOptions()
	if err != nil {
		return onnx.Tensor{}, fmt.Errorf("run the model: %w", err)
	}
	defer func() { _ = options.Destroy() }()
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = options.Terminate()
	})
	outputs := make([]binding.Value, 1)
	err = n.session.RunWithOptions(values, outputs, options)
	if !stop() {
		<-terminated
	}
	if outputs[0] != nil {
		defer func() { _ = outputs[0].Destroy() }()
	}
	if stopped := ctx.Err(); stopped != nil {
		return onnx.Tensor{}, fmt.Errorf("run the model: %w", stopped)
	}
	if err != nil {
		return onnx.Tensor{}, fmt.Errorf("run the model: %w", err)
	}
	output, ok := outputs[0].(*binding.Tensor[float32])
	if !ok {
		return onnx.Tensor{}, errors.New("run the model: its output is not of numbers in single precision")
	}
	var shape []int
	for _, dim := range output.GetShape() {
		shape = append(shape, int(dim))
	}
	return onnx.FloatTensor(append([]float32(nil), output.GetData()...), shape...), nil
}

func toValue(input onnx.Tensor) (binding.Value, error) {
	var shape binding.Shape
	for _, dim := range input.Shape {
		shape = append(shape, int64(dim))
	}
	var value binding.Value
	var err error
	if input.Floats != nil {
		value, err = binding.NewTensor(shape, input.Floats)
	} else {
		value, err = binding.NewTensor(shape, input.Ints)
	}
	if err != nil {
		return nil, fmt.Errorf("pass a tensor of shape %v to ONNX Runtime: %w", input.Shape, err)
	}
	return value, nil
}

// Close frees the model's memory. The model must not run.
func (n *Net) Close() error {
	if err := n.session.Destroy(); err != nil {
		return fmt.Errorf("close the model: %w", err)
	}
	return nil
}
