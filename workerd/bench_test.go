package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// BenchmarkIdle measures the memory of a worker that has no work, with the built-in engines: what is its own (anon-MB), and with the
// pages of its program and libraries that happen to be in memory (rss-MB), such as those of ONNX Runtime where that is found.
func BenchmarkIdle(b *testing.B) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.Skip("this system has no /proc to read a program's memory from")
	}
	for _, backend := range []string{"go", "auto"} {
		b.Run(backend, func(b *testing.B) {
			db := setup(b)
			engines := enginesFile(b, "engines: [{kind: native, backend: "+backend+"}, {kind: media}]")
			for b.Loop() {
				p := db.start(b, "idle", "DARKROOM_ENGINES="+engines)
				p.logs(b, "ready")
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
				must(b, err)
				for name, unit := range map[string]string{"RssAnon": "anon-MB", "VmRSS": "rss-MB"} {
					found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
					if found == nil {
						b.Fatalf("no %s in %s", name, status)
					}
					kilobytes, err := strconv.ParseFloat(string(found[1]), 64)
					must(b, err)
					b.ReportMetric(kilobytes/1024, unit)
				}
				must(b, p.Process.Kill())
				<-p.ended
			}
		})
	}
}

// BenchmarkCancel measures the time from cancel_task to when the slot has its next task, with database, notification and the engine media between.
// What each engine takes of it, their own packages measure.
func BenchmarkCancel(b *testing.B) {
	db := setup(b)
	params, err := json.Marshal(map[string]any{
		"start_image": db.picture, "end_image": db.picture, "segment_frames_target": 5000, "parsed_resolution_wh": "512x384",
	})
	must(b, err)
	create := func() uuid.UUID {
		task, err := db.CreateTask(b.Context(), taskdb.NewTask{ProjectID: db.project, TaskType: "travel_segment", Params: params})
		must(b, err)
		return task.ID
	}
	until := func(id uuid.UUID, is func(taskdb.Task) bool) {
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			task, err := db.GetTask(b.Context(), id)
			must(b, err)
			if is(task) {
				return
			}
			if time.Now().After(deadline) {
				b.Fatalf("after %s: %+v", patience, task)
			}
		}
	}
	p := db.start(b, "cancel")
	p.logs(b, "ready")
	now := create()
	var total, worst time.Duration
	for b.Loop() {
		until(now, encoding)
		next := create()
		began := time.Now()
		_, err := db.CancelTask(b.Context(), now, "")
		must(b, err)
		until(next, func(task taskdb.Task) bool { return task.Status == taskdb.StatusInProgress })
		took := time.Since(began)
		total, worst = total+took, max(worst, took)
		now = next
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N)/1000, "ms/cancel")
	b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
	_, err = db.CancelTask(b.Context(), now, "")
	must(b, err)
}
