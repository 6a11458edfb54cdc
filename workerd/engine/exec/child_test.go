package exec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// testChild is the program under a test's engine: this test binary, when the variable of this name says how to behave.
const testChild = "DARKROOM_TEST_CHILD"

// worker is a child that does what the params of its tasks say, its faults included.
type worker struct {
	mu     sync.Mutex
	out    io.Writer
	cancel map[string]chan struct{}
}

func (w *worker) send(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	w.raw(append(line, '\n'))
}

func (w *worker) raw(line []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.out.Write(line)
}

// childMain is the main function of the child. mode says what is special about its start.
func childMain(mode string) {
	ready := map[string]any{"type": "ready", "protocol": 1, "task_types": []string{"other", "paint"}, "slots": 2, "device": "test:0"}
	w := &worker{out: os.NewFile(3, "protocol"), cancel: map[string]chan struct{}{}}
	if mode, file, ok := strings.Cut(mode, "|"); ok { // it leaves a mark for each start
		mark, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(mark, mode)
		mark.Close()
		childMain(mode)
		return
	}
	switch mode {
	case "good":
	case "stdout":
		fmt.Fprintln(os.Stdout, "Loading pipeline components...")
		fmt.Fprintln(os.Stdout, `{"loss": 0.5}`)
		w.out = os.Stdout
	case "chatty":
		fmt.Fprintln(os.Stdout, "Loading pipeline components...")
		go func() {
			for {
				fmt.Fprintln(os.Stdout, `{"type": "result", "id": "stdout is no channel"}`, strings.Repeat("#", 2000))
				fmt.Fprintf(os.Stderr, "\r%3d%%|###", time.Now().Second())
				time.Sleep(time.Millisecond)
			}
		}()
	case "exit":
		fmt.Fprintln(os.Stderr, "ModuleNotFoundError: No module named 'torch'")
		os.Exit(1)
	case "mute":
		forever()
	case "version 2":
		ready["protocol"] = 2
	case "other tasks":
		ready["task_types"] = []string{"other"}
	case "one slot":
		delete(ready, "slots")
	case "garbage":
		w.raw([]byte("hello\n"))
	case "endless line":
		w.raw(bytes.Repeat([]byte("x"), 2<<20))
	default:
		panic(mode)
	}
	w.send(ready)
	in := bufio.NewReaderSize(os.Stdin, maxLine)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var m runOrder
		if err := json.Unmarshal(line, &m); err != nil {
			panic(err)
		}
		switch m.Type {
		case "run":
			cancel := make(chan struct{})
			w.cancel[m.ID] = cancel
			var params struct {
				Do string `json:"do"`
			}
			if err := json.Unmarshal(m.Params, &params); err != nil {
				panic(err)
			}
			if params.Do == "hang" { // all of it
				forever()
			}
			go w.do(params.Do, m, cancel)
		case "cancel":
			if cancel := w.cancel[m.ID]; cancel != nil {
				close(cancel)
				delete(w.cancel, m.ID)
			}
		case "ping":
			w.send(map[string]any{"type": "pong"})
		}
	}
}

// picture is a PNG.
func picture() []byte {
	var data bytes.Buffer
	if err := png.Encode(&data, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		panic(err)
	}
	return data.Bytes()
}

// do does a task.
func (w *worker) do(what string, m runOrder, cancel <-chan struct{}) {
	output := filepath.Join(m.OutDir, "output.png")
	result := func(path string) {
		w.send(map[string]any{
			"type": "result", "id": m.ID, "files": []map[string]any{{"path": path, "media_type": "image/png"}},
			"metadata": map[string]any{"pid": os.Getpid(), "environment": os.Environ(), "inputs": m.Inputs, "attempt": m.Attempt},
		})
	}
	fail := func(fields map[string]any) {
		fields["type"], fields["id"] = "error", m.ID
		w.send(fields)
	}
	progress := func(value, most any) {
		w.send(map[string]any{"type": "progress", "id": m.ID, "value": value, "max": most, "phase": "Painting"})
	}
	write := func(path string, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			panic(err)
		}
	}
	outside := filepath.Join(filepath.Dir(m.OutDir), "outside.png")
	switch what {
	case "good":
		for i := range 4 {
			progress(i, 4)
		}
		w.send(map[string]any{"type": "preview", "id": m.ID, "data": picture(), "media_type": "image/png"})
		w.send(map[string]any{"type": "preview", "id": m.ID, "data": []byte("no picture"), "media_type": "image/png"})
		w.send(map[string]any{"type": "log", "id": m.ID, "message": "two\nlines"})
		w.send(map[string]any{"type": "log", "message": "of nobody"})
		w.send(map[string]any{"type": "of the future", "id": 5})
		write(output, picture())
		result("output.png")
	case "long":
		for i := 1; ; i++ {
			progress(i, 1_000_000)
			select {
			case <-cancel:
				fail(map[string]any{"code": "cancelled"})
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	case "late result", "late result twice": // it ends while it is told to stop
		progress(1, 2)
		<-cancel
		write(output, picture())
		result(output)
		if what == "late result twice" {
			result(output)
		}
	case "disobey":
		progress(1, 2)
		forever()
	case "backwards":
		for _, value := range []int{3, 1, 9, -1, 4} {
			progress(value, 5)
		}
		progress(0, 0)
		write(output, picture())
		result(output)
	case "flood":
		line := fmt.Appendf(nil, "{\"type\":\"progress\",\"id\":%q,\"value\":1,\"max\":2}\n", m.ID)
		for range 100 {
			w.raw(bytes.Repeat(line, 1000))
		}
		for range 10_000 {
			w.send(map[string]any{"type": "log", "id": m.ID, "message": "again"})
		}
		write(output, picture())
		result(output)
	case "die":
		progress(1, 2)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "leave a grandchild":
		fifo, err := os.OpenFile(filepath.Join(m.OutDir, "fifo"), os.O_WRONLY, 0)
		if err != nil {
			panic(err)
		}
		grandchild := osexec.Command("sleep", "1000")
		grandchild.Stdout, grandchild.Stderr, grandchild.ExtraFiles = fifo, os.Stderr, []*os.File{os.NewFile(3, "")}
		if err := grandchild.Start(); err != nil {
			panic(err)
		}
		os.Exit(3)
	case "garbage":
		w.raw([]byte("\x00\xff no JSON at all\n"))
	case "half a line":
		w.raw([]byte(`{"type":"result","id":"`))
		os.Exit(0)
	case "wrong kind":
		w.send(map[string]any{"type": "progress", "id": m.ID, "value": "half"})
	case "100 MB line":
		for range 100 {
			w.raw(bytes.Repeat([]byte("x"), 1<<20))
		}
	case "wrong id":
		w.send(map[string]any{"type": "result", "id": "00000000-0000-0000-0000-000000000000"})
	case "twice":
		write(output, picture())
		result(output)
		result(output)
	case "outside":
		write(outside, picture())
		result(outside)
	case "dots":
		write(outside, picture())
		result("../outside.png")
	case "link":
		write(outside, picture())
		if err := os.Symlink(outside, output); err != nil {
			panic(err)
		}
		result(output)
	case "linked folder":
		if err := os.Symlink(filepath.Dir(m.OutDir), filepath.Join(m.OutDir, "folder")); err != nil {
			panic(err)
		}
		write(outside, picture())
		result("folder/outside.png")
	case "missing":
		result(output)
	case "empty":
		write(output, nil)
		result(output)
	case "folder":
		result(m.OutDir)
	case "pipe":
		if err := syscall.Mkfifo(output, 0o600); err != nil {
			panic(err)
		}
		result(output)
	case "10 GB":
		write(output, picture())
		if err := os.Truncate(output, 10<<30); err != nil {
			panic(err)
		}
		result(output)
	case "no picture":
		write(output, []byte("<html>"))
		result(output)
	case "no files":
		w.send(map[string]any{"type": "result", "id": m.ID})
	case "two outputs":
		write(output, picture())
		w.send(map[string]any{"type": "result", "id": m.ID, "files": []map[string]any{{"path": output}, {"path": output}}})
	case "role":
		write(output, picture())
		w.send(map[string]any{"type": "result", "id": m.ID, "files": []map[string]any{{"path": output, "role": "secret"}}})
	case "png thumbnail":
		write(output, picture())
		w.send(map[string]any{"type": "result", "id": m.ID, "files": []map[string]any{{"path": output, "role": "thumbnail"}}})
	case "bad input":
		fail(map[string]any{"code": "bad_input", "message": fmt.Sprintf("[Errno 2] No such file: '%s/x/y.png'", m.OutDir), "retryable": true})
	case "oom":
		fail(map[string]any{"code": "oom", "message": "CUDA out of memory. Tried to allocate 2 GiB."})
	case "own timeout":
		fail(map[string]any{"code": "timeout", "message": "It took too long"})
	case "own cancel":
		fail(map[string]any{"code": "cancelled"})
	case "unknown code":
		fail(map[string]any{"code": "E1234", "message": "Broken\nin two lines"})
	case "never again":
		fail(map[string]any{"code": "E1234", "message": "Never.", "retryable": false})
	case "no message":
		fail(map[string]any{"code": "failed"})
	default:
		fail(map[string]any{"code": "bad_input", "message": "Unknown."})
	}
}

// forever waits. It may be the only thing that a program does: without cgo Go would end one that only blocks, as a deadlock.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}
