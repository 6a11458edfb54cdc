package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
	"darkroom/workerd/riverpilot"
)

const (
	// patience bounds everything that is waited for.
	patience = time.Minute
	// beWorkerd in the environment makes the test program be workerd.
	beWorkerd = "DARKROOM_TEST_BE_WORKERD"
)

func TestMain(m *testing.M) {
	if os.Getenv(beWorkerd) != "" {
		main()
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bundle is a database with a project that has credits, and storage with a picture.
type bundle struct {
	*taskdb.DB
	test           *taskdbtest.DB
	storage        string
	owner, project uuid.UUID
	picture        string
}

func setup(t testing.TB) *bundle {
	t.Helper()
	test := taskdbtest.New(t)
	must(t, riverpilot.Migrate(t.Context(), test.Pool))
	b := &bundle{DB: taskdb.New(test.Pool), test: test, storage: (&url.URL{Scheme: "file", Path: t.TempDir()}).String()}
	user, err := b.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	_, err = b.GrantCredits(t.Context(), user.ID, taskdb.WholeCredits(1000), "", "")
	must(t, err)
	project, err := b.CreateProject(t.Context(), user.ID, "")
	must(t, err)
	b.owner, b.project = user.ID, project.ID
	bucket, err := storage.Open(t.Context(), b.storage)
	must(t, err)
	defer bucket.Close()
	var data bytes.Buffer
	must(t, png.Encode(&data, image.NewGray(image.Rect(0, 0, 64, 48))))
	info, err := bucket.Put(t.Context(), storage.UploadKey(b.owner, "a.png"), &data, 1<<20)
	must(t, err)
	b.picture = info.Key
	t.Cleanup(func() {
		violations, err := b.InvariantViolations(context.WithoutCancel(t.Context()))
		if err != nil || len(violations) > 0 {
			t.Errorf("invariants: %v %v", violations, err)
		}
	})
	return b
}

// travel makes a travel of one segment with so many frames.
func (b *bundle) travel(t *testing.T, frames int) taskdb.Task {
	t.Helper()
	params, err := json.Marshal(map[string]any{"orchestrator_details": map[string]any{
		"input_image_paths_resolved": []string{b.picture, b.picture}, "num_new_segments_to_generate": 1,
		"segment_frames_expanded": []int{frames}, "parsed_resolution_wh": "512x384",
	}})
	must(t, err)
	task, err := b.CreateTask(t.Context(), taskdb.NewTask{ProjectID: b.project, TaskType: "travel_orchestrator", Params: params})
	must(t, err)
	return task
}

// segment waits until the segment of a travel is as wanted.
func (b *bundle) segment(t *testing.T, travel uuid.UUID, what string, is func(taskdb.Task) bool) taskdb.Task {
	t.Helper()
	var last taskdb.Task
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var id uuid.UUID
		err := b.test.Pool.QueryRow(t.Context(), "select id from tasks where orchestrator_task_id = $1 and task_type = 'travel_segment'", travel).Scan(&id)
		if err == nil {
			last, err = b.GetTask(t.Context(), id)
			must(t, err)
			if is(last) {
				return last
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s the segment is not %s: %+v", patience, what, last)
		}
	}
}

func encoding(task taskdb.Task) bool {
	return task.Status == taskdb.StatusInProgress && strings.Contains(string(task.Progress), "encoding")
}

// process is a workerd of its own.
type process struct {
	*exec.Cmd
	stdin io.Closer
	ended chan error

	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes the log.
func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(data)
}

// start starts a workerd. It is killed when the test ends, with what it started.
func (b *bundle) start(t testing.TB, id string, env ...string) *process {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	p := &process{Cmd: exec.Command(self), ended: make(chan error, 1)}
	p.Env = append(append(os.Environ(), beWorkerd+"=1", "DATABASE_URL="+b.test.Login(t, "worker"), "DARKROOM_ENGINES="+enginesFile(t, "engines: [{kind: media}]"), "DARKROOM_STORAGE="+b.storage,
		"DARKROOM_PUBLIC_URL=http://127.0.0.1:8484", "DARKROOM_TEMP="+t.TempDir(), "DARKROOM_WORKER_ID="+id, "DARKROOM_REQUEUE_EVERY=1s"), env...)
	p.Stdout, p.Stderr = p, p
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.stdin, err = p.StdinPipe()
	must(t, err)
	must(t, p.Start())
	go func() {
		p.ended <- p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) // most have ended
		<-p.ended
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("%s:\n%s", id, p.log.String())
		}
	})
	return p
}

// enginesFile writes an engines file and returns its path.
func enginesFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engines.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(patience):
		t.Fatalf("workerd has not ended after %s", patience)
		return nil
	}
}

func TestAKilledWorkersTaskIsDoneByAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.start(t, "first", "DARKROOM_LEASE=2s")
	travel := b.travel(t, 300)
	b.segment(t, travel.ID, "encoding", encoding)
	must(t, syscall.Kill(-first.Process.Pid, syscall.SIGKILL))
	killed := time.Now()
	b.start(t, "second", "DARKROOM_LEASE=2s")
	b.segment(t, travel.ID, "taken over", func(task taskdb.Task) bool { return task.Attempt == 2 && task.Status == taskdb.StatusInProgress })
	t.Logf("taken over %s after the kill, with a lease of 2 s looked at every second", time.Since(killed))

	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		task, err := b.GetTask(t.Context(), travel.ID)
		must(t, err)
		if task.Status == taskdb.StatusComplete {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", task)
		}
	}
	generations, err := b.ListGenerations(t.Context(), taskdb.Gallery{ProjectID: b.project, MaxRows: 10})
	must(t, err)
	account, err := b.GetCredits(t.Context(), b.owner)
	must(t, err)
	var settled int
	must(t, b.test.Pool.QueryRow(t.Context(), "select count(*) from credit_ledger where kind = 'settle'").Scan(&settled))
	if len(generations) != 1 || settled != 1 || account.Balance != taskdb.WholeCredits(995) || account.Held != 0 {
		t.Errorf("%d generations, %d charges, balance %s, held %s", len(generations), settled, account.Balance, account.Held)
	}
}

func TestAWorkerThatStartsAnewGivesBackWhatItHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.start(t, "same")
	travel := b.travel(t, 1000)
	b.segment(t, travel.ID, "encoding", encoding)
	must(t, syscall.Kill(-first.Process.Pid, syscall.SIGKILL))
	must(t, ignoreKill(first.wait(t)))
	b.start(t, "same") // its lease of 90 s has not run out
	b.segment(t, travel.ID, "running again", func(task taskdb.Task) bool { return task.Attempt == 2 && encoding(task) })
}

func ignoreKill(err error) error {
	if err != nil && err.Error() == "signal: killed" {
		return nil
	}
	return fmt.Errorf("it was to be killed: %w", err)
}

func TestWorkerdGivesItsTaskBackAndEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env []string
		end func(p *process) error
	}{
		"on SIGTERM, after the drain":            {[]string{"DARKROOM_DRAIN=300ms"}, func(p *process) error { return p.Process.Signal(syscall.SIGTERM) }},
		"when its parent has gone, at once":      {[]string{"DARKROOM_EXIT_ON_STDIN_EOF=true", "DARKROOM_DRAIN=1h"}, func(p *process) error { return p.stdin.Close() }},
		"on a second SIGTERM it ends ungraceful": {[]string{"DARKROOM_DRAIN=1h"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start(t, "w", test.env...)
			travel := b.travel(t, 1000)
			b.segment(t, travel.ID, "encoding", encoding)
			if test.end == nil {
				must(t, p.Process.Signal(syscall.SIGTERM))
				p.logs(t, "stopping")
				must(t, p.Process.Signal(syscall.SIGTERM))
				if err := p.wait(t); err == nil || err.Error() != "signal: terminated" {
					t.Error(err)
				}
				return
			}
			must(t, test.end(p))
			must(t, p.wait(t))
			task := b.segment(t, travel.ID, "there", func(taskdb.Task) bool { return true })
			if task.Status != taskdb.StatusQueued || task.FailedAttempts != 0 {
				t.Errorf("%s, failed attempts %d", task.Status, task.FailedAttempts)
			}
		})
	}
}

// logs waits for a message in the log.
func (p *process) logs(t testing.TB, message string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		found := strings.Contains(p.log.String(), `"msg":"`+message+`"`)
		p.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("workerd has not said %q", message)
		}
	}
}

func TestHealthTellsWhetherTheWorkerWorks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	b.start(t, "w", "DARKROOM_HEALTH_LISTEN="+address)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			var got struct {
				Status  string
				Slots   int
				Engines []struct{ Name, State string }
			}
			if err = json.Unmarshal(body, &got); err == nil && response.StatusCode == http.StatusOK && got.Status == "ok" && got.Slots > 0 &&
				len(got.Engines) > 0 && !slices.ContainsFunc(got.Engines, func(e struct{ Name, State string }) bool { return e.Name == "" || e.State != "up" }) {
				return
			}
			err = fmt.Errorf("%s: %s", response.Status, body)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestWorkerdNeedsNoMoreThanTheRoleWorker runs River's own jobs, too, as a login that has that role and nothing else.
func TestWorkerdNeedsNoMoreThanTheRoleWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start(t, "w")
	travel := b.travel(t, 9)
	b.segment(t, travel.ID, "Complete", func(task taskdb.Task) bool { return task.Status == taskdb.StatusComplete })
	var ran int // of River's own jobs
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		must(t, b.test.Pool.QueryRow(t.Context(), "select count(distinct kind) from river.river_job where state = 'completed'").Scan(&ran))
		if ran == 3 { // those that run at the start
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no upkeep")
		}
	}
	_ = p.Process.Kill()
	<-p.ended
	if strings.Contains(p.log.String(), "permission denied") {
		t.Error("something was refused")
	}
}

func parseWhole(args []string) (*settings, error) {
	s, err := parse(args, io.Discard)
	if err != nil {
		return nil, err
	}
	return s, s.check()
}

func TestSettings(t *testing.T) { //nolint:tparallel // the environment is the test's
	valid := []string{"-database", "postgres://x", "-storage", "file:///x", "-public-url", "http://127.0.0.1:8484"}
	for name, test := range map[string]struct {
		args []string
		want string // of the error; "" when there is none
	}{
		"all that is needed":   {valid, ""},
		"no database":          {valid[2:], "set DATABASE_URL or -database: PostgreSQL, as postgres://user:password@host:5432/darkroom"},
		"no storage":           {valid[:2], "set DARKROOM_STORAGE or -storage: where files lie, as file:///var/lib/darkroom/media or s3://bucket?region=eu-central-1; the gateway's"},
		"a public URL without": {append(valid[:4:4], "-public-url", "host"), `the public URL "host" must begin with http:// or https:// and a host`},
		"too many slots":       {append(valid[:6:6], "-slots", "0"), "invalid value \"0\" for flag -slots: must be a number from 1 to 1000; `workerd -h` lists the settings"},
		"a lease out of range": {append(valid[:6:6], "-lease", "1ms"), "invalid value \"1ms\" for flag -lease: must be a duration from 1s to 24h; `workerd -h` lists the settings"},
		"an argument":          {append(valid[:6:6], "now"), "there is no argument \"now\"; `workerd -h` lists the settings"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := parseWhole(test.args)
			if test.want == "" && (err != nil || s.workerID == "" || s.worker.Lease != 90*time.Second) || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("%v\nwant %s", err, test.want)
			}
		})
	}
	t.Run("a flag goes before its variable", func(t *testing.T) {
		t.Setenv("DARKROOM_SLOTS", "3")
		s, err := parseWhole(valid)
		must(t, err)
		other, err := parseWhole(append(valid[:6:6], "-slots", "4"))
		must(t, err)
		if s.worker.Slots != 3 || other.worker.Slots != 4 || s.workerID == other.workerID {
			t.Errorf("%+v %+v", s, other)
		}
	})
}

func TestWorkerdSaysInOneSentenceWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	empty := taskdbtest.NewEmpty(t)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"migrations": {[]string{"-database", empty.URL}, "workerd: the database lacks migrations (00001_tables.sql, "},
		"database":   {[]string{"-database", "postgres://127.0.0.1:1/x"}, "workerd: the database does not answer: "},
		"health":     {[]string{"-database", empty.URL, "-health-listen", "0.0.0.0:0"}, `workerd: the health address "0.0.0.0:0" must be one of this machine only`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			args := append(slices.Clone(test.args), "-storage", (&url.URL{Scheme: "file", Path: t.TempDir()}).String(), "-public-url", "http://127.0.0.1:8484")
			code := run(t.Context(), args, strings.NewReader(""), io.Discard, &stderr)
			lines := strings.SplitAfter(stderr.String(), "\n")
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "{") }) // the log
			if code != 1 || !strings.HasPrefix(strings.Join(lines, ""), test.want) {
				t.Errorf("%d: %s", code, stderr.String())
			}
		})
	}
}
