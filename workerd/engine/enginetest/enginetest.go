// Package enginetest is the suite that every engine must pass, whatever makes its pictures and videos.
package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"darkroom/workerd/engine"
)

const (
	// freeWithin is how soon after a cancel the slot must be free.
	freeWithin = time.Second
	// patience bounds everything that is waited for.
	patience = 2 * time.Minute
)

// Subject is an engine under test with tasks for it. A function that makes a task must give it an OutDir of its own, such
// as t.TempDir().
type Subject struct {
	Engine engine.Engine
	// Good makes a task that succeeds within seconds.
	Good func(t *testing.T) engine.Task
	// Long makes a task that reports progress above 0 and then goes on for several seconds.
	Long func(t *testing.T) engine.Task
	// Bad makes, by name, tasks that can never succeed.
	Bad map[string]func(t *testing.T) engine.Task
}

// Run runs the suite. It watches goroutines, so the caller must not be a parallel test.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	t.Run("info is complete and constant", subject.info)
	t.Run("health is good", subject.health)
	t.Run("health heeds its context", subject.healthStopped)
	t.Run("a good task gives its files", subject.good)
	t.Run("a cancelled task frees its slot within a second", subject.cancelled)
	t.Run("a task past its deadline ends as timeout", subject.late)
	t.Run("a task cancelled before its start does nothing", subject.stillborn)
	t.Run("as many tasks as slots run at once", subject.parallel)
	t.Run("a type it does not do is bad input", subject.foreign)
	for name, task := range subject.Bad {
		t.Run("bad input: "+name, func(t *testing.T) { subject.bad(t, task(t)) })
	}
}

func (s Subject) info(t *testing.T) {
	info := s.Engine.Info()
	if info.Name == "" || info.Device == "" || info.Slots < 1 || len(info.TaskTypes) == 0 {
		t.Errorf("incomplete: %+v", info)
	}
	if !slices.IsSorted(info.TaskTypes) {
		t.Errorf("task types are not sorted: %v", info.TaskTypes)
	}
	if again := s.Engine.Info(); again.Name != info.Name || !slices.Equal(again.TaskTypes, info.TaskTypes) || again.Slots != info.Slots {
		t.Errorf("not constant: %+v, then %+v", info, again)
	}
	if task := s.Good(t); !slices.Contains(info.TaskTypes, task.Type) {
		t.Errorf("it does %s without saying so: %v", task.Type, info.TaskTypes)
	}
}

func (s Subject) health(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Engine.Health(ctx); err != nil {
		t.Error(err)
	}
}

func (s Subject) healthStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := engine.ClassOf(s.Engine.Health(ctx)); got != engine.Cancelled {
		t.Errorf("got class %q, want %q", got, engine.Cancelled)
	}
}

func (s Subject) good(t *testing.T) {
	t.Helper()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	task := s.Good(t)
	sink := newSink(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := s.Engine.Run(ctx, task, sink)
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, task, result)
	sink.checkEnd()
}

// checkResult checks the files of a result, and that nothing else lies in OutDir.
func checkResult(t *testing.T, task engine.Task, result engine.Result) {
	t.Helper()
	want := make([]string, 0, len(result.Files))
	counts := map[engine.Role]int{}
	for _, file := range result.Files {
		counts[file.Role]++
		inside, err := filepath.Rel(task.OutDir, file.Path)
		if err != nil || !filepath.IsLocal(inside) {
			t.Errorf("%s lies outside the output folder %s", file.Path, task.OutDir)
		}
		want = append(want, inside)
		if info, err := os.Lstat(file.Path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			t.Errorf("%s is no file with content: %v", file.Path, err)
		}
		kind, _, _ := strings.Cut(file.MediaType, "/")
		if kind != "image" && kind != "video" {
			t.Errorf("%s has the media type %q", file.Path, file.MediaType)
		}
		if file.Role == engine.Thumbnail && file.MediaType != "image/jpeg" {
			t.Errorf("the thumbnail is %s", file.MediaType)
		}
	}
	if counts[engine.Output] != 1 || counts[engine.Thumbnail] > 1 || len(counts) > 2 {
		t.Errorf("roles of the files: %v", counts)
	}
	if got := filesIn(t, task.OutDir); !slices.Equal(got, sorted(want)) {
		t.Errorf("the output folder holds %v, the result names %v", got, want)
	}
	if _, err := json.Marshal(result.Metadata); err != nil {
		t.Errorf("the metadata cannot be written as JSON: %v", err)
	}
}

func (s Subject) cancelled(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	task, sink := s.Long(t), newSink(t)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Engine.Run(ctx, task, sink)
		ended <- err
	}()
	select {
	case <-sink.moving:
	case err := <-ended:
		t.Fatalf("the long task ended before it was cancelled: %v", err)
	case <-time.After(patience):
		t.Fatal("the long task shows no progress")
	}
	start := time.Now()
	cancel()
	select {
	case err := <-ended:
		if took := time.Since(start); took > freeWithin {
			t.Errorf("it ended %v after the cancel; at most %v", took, freeWithin)
		}
		checkError(t, err, engine.Cancelled)
	case <-time.After(patience):
		t.Fatal("it goes on after the cancel")
	}
	s.good(t)
}

func (s Subject) late(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := s.Engine.Run(ctx, s.Long(t), newSink(t))
	checkError(t, err, engine.Timeout)
}

func (s Subject) stillborn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	task := s.Good(t)
	_, err := s.Engine.Run(ctx, task, newSink(t))
	checkError(t, err, engine.Cancelled)
	if files := filesIn(t, task.OutDir); len(files) != 0 {
		t.Errorf("it left %v", files)
	}
}

func (s Subject) parallel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var running sync.WaitGroup
	for range s.Engine.Info().Slots {
		task, sink := s.Good(t), newSink(t)
		running.Go(func() {
			result, err := s.Engine.Run(ctx, task, sink)
			if err != nil {
				t.Error(err)
				return
			}
			checkResult(t, task, result)
		})
	}
	running.Wait()
}

func (s Subject) foreign(t *testing.T) {
	task := s.Good(t)
	task.Type = "no_such_type"
	s.bad(t, task)
}

func (s Subject) bad(t *testing.T, task engine.Task) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.Engine.Run(ctx, task, newSink(t))
	checkError(t, err, engine.BadInput)
	if message := engine.MessageOf(err); strings.Contains(message, task.OutDir) || strings.Contains(message, os.TempDir()) {
		t.Errorf("the message shows a local path: %s", message)
	}
}

// checkError checks the class of an error, and that it has a sentence for people.
func checkError(t *testing.T, err error, want engine.Class) {
	t.Helper()
	var failure *engine.Error
	if !errors.As(err, &failure) {
		t.Fatalf("got the error %v, which is no *engine.Error", err)
	}
	if failure.Class != want {
		t.Errorf("got class %q, want %q: %v", failure.Class, want, err)
	}
	if !strings.HasSuffix(failure.Message, ".") || strings.Contains(failure.Message, "\n") {
		t.Errorf("the message is not one sentence: %q", failure.Message)
	}
}

// sink checks progress as it comes.
type sink struct {
	t      testing.TB
	moving chan struct{} // closed at the first progress above 0

	mu   sync.Mutex
	last engine.Progress
}

func newSink(t testing.TB) *sink {
	t.Helper()
	return &sink{t: t, moving: make(chan struct{})}
}

func (s *sink) Progress(progress engine.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if math.IsNaN(progress.Value) || math.IsNaN(progress.Max) || progress.Value < s.last.Value || progress.Max <= 0 || progress.Value > progress.Max {
		s.t.Errorf("progress went from %+v to %+v", s.last, progress)
	}
	if progress.Phase == "" {
		s.t.Error("progress without a phase")
	}
	if s.last.Value == 0 && progress.Value > 0 {
		close(s.moving)
	}
	s.last = progress
}

func (s *sink) Preview(data []byte, mediaType string) {
	if len(data) == 0 || !strings.HasPrefix(mediaType, "image/") {
		s.t.Errorf("a preview of %d bytes of %q", len(data), mediaType)
	}
}

func (s *sink) Log(line string) {
	if strings.Contains(line, "\n") {
		s.t.Errorf("a log line with a line break: %q", line)
	}
}

func (s *sink) checkEnd() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.Value != s.last.Max || s.last.Max == 0 {
		s.t.Errorf("progress ended at %+v", s.last)
	}
}

// filesIn lists all files below a folder.
func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		inside, err := filepath.Rel(dir, path)
		if err != nil {
			return fmt.Errorf("name %s: %w", path, err)
		}
		files = append(files, inside)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sorted(files)
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}
