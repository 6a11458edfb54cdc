package worker_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"darkroom/workerd/engine/exec"
)

// beChild in the environment makes the test program be the program under an exec engine.
const beChild = "DARKROOM_TEST_BE_CHILD"

// child starts an engine that does single_image with this test program, and is taken for hung when it has been silent for so long.
func child(t *testing.T, hungAfter time.Duration) *exec.Engine {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	e, err := exec.New(t.Context(), "child", exec.Config{
		Command: []string{self}, Env: map[string]string{beChild: "1"}, Tasks: []string{"single_image"}, HungAfter: hungAfter,
	})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// childMain makes a picture for each task. What the param "do" says it does instead: in the first attempt, or in all that "always" do.
func childMain() {
	out := os.NewFile(3, "protocol")
	fmt.Fprintln(out, `{"type":"ready","protocol":1,"task_types":["single_image"],"slots":1,"device":"cpu"}`)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m struct {
			Type, ID string
			Attempt  int
			Params   struct{ Do, Always string }
			OutDir   string `json:"out_dir"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			panic(err)
		}
		if m.Type == "ping" {
			fmt.Fprintln(out, `{"type":"pong"}`)
		}
		if m.Type != "run" {
			continue
		}
		fmt.Fprintf(out, `{"type":"progress","id":%q,"value":1,"max":2,"phase":"painting"}`+"\n", m.ID)
		do := m.Params.Always
		if m.Attempt == 1 && do == "" {
			do = m.Params.Do
		}
		if err := misbehave(do, out, m.OutDir); err != nil {
			panic(err)
		}
		fmt.Fprintf(out, `{"type":"result","id":%q,"files":[{"path":"picture.png"}]}`+"\n", m.ID)
	}
}

func misbehave(do string, out *os.File, dir string) error {
	path := filepath.Join(dir, "picture.png")
	switch do {
	case "die":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hang":
		for { // without cgo Go ends a program that only blocks, as a deadlock
			time.Sleep(time.Hour)
		}
	case "garbage":
		fmt.Fprintln(out, "Segmentation fault (core dumped)")
	case "10 GB":
		if err := os.WriteFile(path, []byte("\x89PNG\r\n\x1a\n"), 0o600); err != nil {
			return err
		}
		return os.Truncate(path, 10<<30) // a file with a hole
	case "bomb":
		return os.WriteFile(path, pictureBomb(), 0o600)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return png.Encode(file, image.NewGray(image.Rect(0, 0, 64, 48)))
}
