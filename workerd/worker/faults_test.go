package worker_test

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image/png"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/worker"
)

// pictureBomb is a PNG of 50,000 x 50,000 black pixels: 300 kB of zeros that decode to 2.5 GB.
func pictureBomb() []byte {
	const (
		side   = 50_000
		length = side * (1 + side/8) // a bit a pixel, after the byte of each row that names the filter
		pieces = 200
	)
	// A piece of zeros after zeros always looks the same, so it is squeezed once.
	var data bytes.Buffer
	squeeze, _ := flate.NewWriter(&data, flate.BestSpeed)
	zeros := make([]byte, length/pieces)
	_, _ = squeeze.Write(zeros)
	_ = squeeze.Flush()
	first := data.Len()
	_, _ = squeeze.Write(zeros)
	_ = squeeze.Flush()
	piece := slices.Clone(data.Bytes()[first:])
	for range pieces - 2 {
		data.Write(piece)
	}
	_ = squeeze.Close()
	rows := append([]byte{0x78, 0x01}, data.Bytes()...)                                // RFC 1950
	rows = binary.BigEndian.AppendUint32(rows, uint32(len(zeros)*pieces%65_521)<<16|1) // its checksum of zeros

	header := binary.BigEndian.AppendUint32(nil, side)
	header = append(binary.BigEndian.AppendUint32(header, side), 1, 0, 0, 0, 0)
	file := []byte("\x89PNG\r\n\x1a\n")
	for _, chunk := range []struct {
		kind string
		data []byte
	}{{"IHDR", header}, {"IDAT", rows}, {"IEND", nil}} {
		file = binary.BigEndian.AppendUint32(file, uint32(len(chunk.data)))
		body := append([]byte(chunk.kind), chunk.data...)
		file = append(file, body...)
		file = binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(body))
	}
	return file
}

// paint makes a task whose child misbehaves.
func (b *bundle) paint(t *testing.T, params map[string]any) taskdb.Task {
	t.Helper()
	params["prompt"] = "a cat"
	return b.create(t, "single_image", params)
}

func TestAnEngineThatGoesWrongOnceLosesNoTask(t *testing.T) {
	t.Parallel()
	for do, reason := range map[string]string{
		"die":     "The engine's program ended",
		"hang":    "The engine's program",
		"garbage": "The engine's program",
	} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := b.run(t, nil, child(t, time.Second))
			task := b.paint(t, map[string]any{"do": do})
			failed := b.eventually(t, task.ID, "failed once", func(task taskdb.Task) bool { return task.FailedAttempts == 1 })
			if !strings.HasPrefix(*failed.ErrorMessage, reason) {
				t.Errorf("the row says %q", *failed.ErrorMessage)
			}
			t.Logf("the row says %q", *failed.ErrorMessage)
			done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
			if done.Attempt != 2 || b.settled(t, task.ID) != 1 || done.ThumbnailURL == nil {
				t.Errorf("attempt %d, %d charges, %+v", done.Attempt, b.settled(t, task.ID), done)
			}
			b.eventuallySaid(t, r, "child", worker.Up)
		})
	}
}

func TestAResultThatIsOfNoUseFailsItsTaskAndCostsNothing(t *testing.T) {
	t.Parallel()
	for do, want := range map[string]string{
		"10 GB": "The engine made a file larger than 4 GiB. (attempt 3 of 3)",
		"bomb":  "The engine's result cannot be used. The file has 50000x50000 pixels; at most 33 million can be used. (attempt 3 of 3)",
	} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.run(t, nil, child(t, patience))
			task := b.paint(t, map[string]any{"always": do})
			failed := b.eventually(t, task.ID, "Failed", inStatus(taskdb.StatusFailed))
			if *failed.ErrorMessage != want || b.settled(t, task.ID) != 0 {
				t.Errorf("%d charges: %q", b.settled(t, task.ID), *failed.ErrorMessage)
			}
			next := b.paint(t, map[string]any{})
			b.eventually(t, next.ID, "Complete: the engine goes on", inStatus(taskdb.StatusComplete))
		})
	}
}

func TestThePictureBombIsAPicture(t *testing.T) {
	t.Parallel()
	bomb := pictureBomb()
	config, err := png.DecodeConfig(bytes.NewReader(bomb))
	must(t, err)
	at := bytes.Index(bomb, []byte("IDAT"))
	size := binary.BigEndian.Uint32(bomb[at-4:])
	rows, err := zlib.NewReader(bytes.NewReader(bomb[at+4 : at+4+int(size)]))
	must(t, err)
	n, err := io.Copy(io.Discard, rows)
	if err != nil || n != 50_000*6_251 || config.Width != 50_000 || len(bomb) > 1<<20 {
		t.Errorf("%d bytes that give %d: %+v %v", len(bomb), n, config, err)
	}
}

func TestAPictureBombIsNotDecodedAsAnInput(t *testing.T) {
	t.Parallel()
	b := setup(t)
	info, err := b.bucket.Put(t.Context(), storage.UploadKey(b.owner, "bomb.png"), bytes.NewReader(pictureBomb()), 16<<20)
	must(t, err)
	var runs atomic.Int64
	b.run(t, nil, &fake{types: []string{"single_image"}, run: func(context.Context, engine.Task, engine.Sink) error {
		runs.Add(1)
		return nil
	}})
	task := b.paint(t, map[string]any{"image": info.Key})
	failed := b.eventually(t, task.ID, "Failed", inStatus(taskdb.StatusFailed))
	if !strings.Contains(*failed.ErrorMessage, "50000 x 50000 pixels; at most 33 million can be used") || runs.Load() != 0 || b.settled(t, task.ID) != 0 {
		t.Errorf("%d runs, %d charges: %q", runs.Load(), b.settled(t, task.ID), *failed.ErrorMessage)
	}
}

func TestAFullDiskGivesTheTaskBack(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("the device that is always full is Linux's")
	}
	b := setup(t)
	var full atomic.Bool
	full.Store(true)
	e := &fake{types: []string{"single_image"}, run: func(_ context.Context, task engine.Task, _ engine.Sink) error {
		if full.Load() {
			if err := os.WriteFile("/dev/full", []byte("x"), 0o600); err != nil {
				return fmt.Errorf("writing into %s: %w", task.OutDir, err)
			}
		}
		return nil
	}}
	b.run(t, nil, e)
	task := b.image(t)
	failed := b.eventually(t, task.ID, "given back", func(task taskdb.Task) bool { return task.FailedAttempts == 1 })
	if *failed.ErrorMessage != "The worker's disk is full; the task will be tried again." {
		t.Errorf("%q", *failed.ErrorMessage)
	}
	full.Store(false)
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if b.settled(t, task.ID) != 1 {
		t.Errorf("attempt %d, %d charges", done.Attempt, b.settled(t, task.ID))
	}
}

// listening is a log that rings when a message is written.
type listening struct {
	message string
	heard   chan<- struct{}
}

func (l listening) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(l.message)) {
		select {
		case l.heard <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func TestAResultOutlivesAStorageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dir := t.TempDir()
	bucket, err := storage.Open(t.Context(), (&url.URL{Scheme: "file", Path: dir}).String())
	must(t, err)
	t.Cleanup(func() { must(t, bucket.Close()) })
	var runs atomic.Int64
	refused := make(chan struct{}, 1)
	b.run(t, func(c *worker.Config) {
		c.Bucket = bucket
		c.Log = slog.New(slog.NewTextHandler(listening{"the result could not be written yet", refused}, nil))
	}, &fake{types: []string{"single_image"}, run: func(context.Context, engine.Task, engine.Sink) error {
		runs.Add(1)
		return nil
	}})
	inTheWay := filepath.Join(dir, b.owner.String()) // a file where a folder should be
	must(t, os.WriteFile(inTheWay, nil, 0o600))
	task := b.image(t)
	for range 2 {
		await(t, "a try in vain", refused)
	}
	if got := b.task(t, task.ID); got.Status != taskdb.StatusInProgress {
		t.Errorf("%s", got.Status)
	}
	must(t, os.Remove(inTheWay))
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if runs.Load() != 1 || done.Attempt != 1 || b.settled(t, task.ID) != 1 {
		t.Errorf("%d runs, attempt %d, %d charges", runs.Load(), done.Attempt, b.settled(t, task.ID))
	}
}

func TestWhatAnEngineMadeIsLookedAt(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "secret.png")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	for name, test := range map[string]struct {
		give func(task engine.Task) (engine.Result, error)
		want string
	}{
		"nothing": {func(engine.Task) (engine.Result, error) { return engine.Result{}, nil }, "The engine's result cannot be used. It has no output."},
		"a link that leads outside": {func(task engine.Task) (engine.Result, error) {
			path := filepath.Join(task.OutDir, "a.png")
			err := os.Symlink(outside, path)
			return engine.Result{Files: []engine.File{{Path: path, Role: engine.Output}}}, err
		}, "The engine's result cannot be used. A file of it is not there, or none."},
		"a file outside": {func(engine.Task) (engine.Result, error) {
			return engine.Result{Files: []engine.File{{Path: outside, Role: engine.Output}}}, nil
		}, "The engine's result cannot be used. A file of it does not lie in the folder for results."},
		"an empty file": {
			func(task engine.Task) (engine.Result, error) { return output(task, "a.png", nil) },
			"The engine's result cannot be used. A file of it is empty.",
		},
		"a broken picture": {
			func(task engine.Task) (engine.Result, error) {
				return output(task, "a.png", []byte("\x89PNG\r\n\x1a\nbroken"))
			},
			"The engine's result cannot be used. The file",
		},
		"a text": {
			func(task engine.Task) (engine.Result, error) { return output(task, "a.png", []byte("hello")) },
			"The engine's result cannot be used. The file",
		},
		"facts that are none": {func(task engine.Task) (engine.Result, error) {
			result, err := output(task, "a.png", []byte("x"))
			result.Metadata = map[string]any{"f": func() {}}
			return result, err
		}, "The engine's result cannot be used. Its facts cannot be written as JSON."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.run(t, nil, &fake{types: []string{"single_image"}, run: ok, give: test.give})
			task := b.image(t)
			failed := b.eventually(t, task.ID, "failed once", func(task taskdb.Task) bool { return task.FailedAttempts == 1 })
			if !strings.HasPrefix(*failed.ErrorMessage, test.want) || strings.Contains(*failed.ErrorMessage, os.TempDir()) {
				t.Errorf("got %q, want %q", *failed.ErrorMessage, test.want)
			}
		})
	}
}

func TestAThumbnailIsMadeWhereTheEngineMadeNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t, nil, &fake{types: []string{"single_image"}, run: ok})
	done := b.eventually(t, b.image(t).ID, "Complete", inStatus(taskdb.StatusComplete))
	for location, want := range map[string]string{*done.OutputLocation: "image/png", *done.ThumbnailURL: "image/jpeg"} {
		key, ours := storage.KeyFromURL(publicURL, location)
		info, err := b.bucket.Stat(t.Context(), key)
		if !ours || err != nil || info.ContentType != want {
			t.Errorf("%s: %v %+v %v", location, ours, info, err)
		}
	}
}
