package dev_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"darkroom/migrations"
	"darkroom/sql/taskdb"
	"darkroom/workerd/media"
)

const patience = 2 * time.Minute // for videos on a busy machine

// programs builds gateway and workerd once and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "darkroom-programs-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "darkroom/gateway", "darkroom/workerd").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newHome returns the path of a home with a blank and a quote in it, in a folder that PostgreSQL's user can reach when we are root.
func newHome(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("which processes are left is read from /proc")
	}
	dir, err := os.MkdirTemp("", "darkroom-dev-") //nolint:usetesting // its folder is closed to others
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	home := filepath.Join(dir, "it's a home")
	t.Cleanup(func() {
		wantNothingLeft(t, home)
		os.RemoveAll(dir)
	})
	return home
}

// processes lists those that belong to a home: it stands in their environment, which children inherit.
func processes(t *testing.T, home string) map[int]string {
	t.Helper()
	found := map[int]string{}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environment, []byte("DARKROOM_HOME="+home+"\x00")) {
			continue // ended, or somebody else's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		must(t, err)
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		found[pid] = string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})) + string(environment)
	}
	return found
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// wantNothingLeft waits until no process of the home is left.
func wantNothingLeft(t *testing.T, home string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for left := processes(t, home); len(left) > 0; left = processes(t, home) {
		if time.Now().After(deadline) {
			for pid, command := range left {
				t.Errorf("left behind: %d %.200q", pid, command)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// running is a `gateway dev` process.
type running struct {
	t     *testing.T
	home  string
	cmd   *exec.Cmd
	lines chan string
	said  []string
}

// start starts it in a process group of its own, as a shell does.
func start(t *testing.T, home string, environment ...string) *running {
	t.Helper()
	dir, err := programs()
	must(t, err)
	r := &running{t: t, home: home, cmd: exec.Command(filepath.Join(dir, "gateway"), "dev"), lines: make(chan string, 1000)}
	r.cmd.Env = append(os.Environ(), "DARKROOM_HOME="+home, "DARKROOM_LISTEN=127.0.0.1:0", "DATABASE_URL=")
	r.cmd.Env = append(r.cmd.Env, environment...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, input, err := os.Pipe()
	must(t, err)
	r.cmd.Stdout, r.cmd.Stderr = input, input
	must(t, r.cmd.Start())
	input.Close()
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	go func() {
		defer close(r.lines)
		defer output.Close()
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			r.lines <- scanner.Text()
		}
	}()
	return r
}

// until returns the first line from now on that matches the pattern, as its submatches.
func (r *running) until(pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		select {
		case line, open := <-r.lines:
			if !open {
				r.t.Fatalf("it ended before it said %q:\n%s", pattern, strings.Join(r.said, "\n"))
			}
			r.said = append(r.said, line)
			if match := re.FindStringSubmatch(line); match != nil {
				return match
			}
		case <-timeout:
			r.t.Fatalf("it did not say %q:\n%s", pattern, strings.Join(r.said, "\n"))
		}
	}
}

// ended waits for the end, and returns the exit code.
func (r *running) ended() int {
	r.t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	_ = r.cmd.Wait()
	for line := range r.lines {
		r.said = append(r.said, line)
	}
	return r.cmd.ProcessState.ExitCode()
}

// shell runs a command line with sh, as if it were pasted.
func shell(t *testing.T, line string) []byte {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, stderr.String())
	}
	return out
}

// environment reads the env file as a shell does.
func (r *running) environment(name string) string {
	r.t.Helper()
	quoted := "'" + strings.ReplaceAll(filepath.Join(r.home, "env"), "'", `'\''`) + "'"
	return string(shell(r.t, ". "+quoted+` && printf %s "$`+name+`"`))
}

func (r *running) request(method, path string, body io.Reader) []byte {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.environment("DARKROOM_URL")+path, body)
	must(r.t, err)
	request.Header.Set("Authorization", "Bearer "+r.environment("DARKROOM_SERVICE_KEY"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(r.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(r.t, err)
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("%s %s: %d %s", method, path, response.StatusCode, data)
	}
	return data
}

// rows reads a table, as the service.
func (r *running) rows(query string, list any) {
	r.t.Helper()
	must(r.t, json.Unmarshal(r.request(http.MethodGet, "/rest/v1/"+query, nil), list))
}

// post calls an address that answers with that status.
func (r *running) post(path string, status int, body io.Reader, answer any) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.environment("DARKROOM_URL")+path, body)
	must(r.t, err)
	request.Header.Set("Authorization", "Bearer "+r.environment("DARKROOM_SERVICE_KEY"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(r.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(r.t, err)
	if response.StatusCode != status {
		r.t.Fatalf("POST %s: %d %s", path, response.StatusCode, data)
	}
	must(r.t, json.Unmarshal(data, answer))
}

// wantSignIn demands that the console's address signs the sample user in.
func (r *running) wantSignIn(email, password string) {
	r.t.Helper()
	var given [2]string
	for i, text := range []string{email, password} {
		plain, err := url.PathUnescape(text) // as a page does
		must(r.t, err)
		given[i] = plain
	}
	body, err := json.Marshal(map[string]string{"email": given[0], "password": given[1]})
	must(r.t, err)
	var session struct{ User struct{ ID string } }
	r.post("/auth/v1/token?grant_type=password", http.StatusOK, bytes.NewReader(body), &session)
	if session.User.ID != r.environment("DARKROOM_USER_ID") {
		r.t.Errorf("the console's address signs in %+v", session)
	}
}

// held is a task that a worker runs.
type held struct {
	ID     string `json:"id"`
	Worker string `json:"worker_id"`
}

// segment waits for a segment of the travel to run.
func (r *running) segment(travel taskdb.Task) held {
	r.t.Helper()
	var segments []held
	await(r.t, "a segment to run", func() bool {
		r.rows("tasks?task_type=eq.travel_segment&status=eq.In%20Progress&order=worker_id&orchestrator_task_id=eq."+travel.ID.String(), &segments)
		return len(segments) > 0
	})
	return segments[0]
}

// wantTakeOver kills a worker in the middle of a travel, as the console does, and demands that the other one ends it: one video, one charge.
func (r *running) wantTakeOver() {
	r.t.Helper()
	travel := r.travel()
	victim := r.segment(travel)
	var killed struct {
		ID  string
		PID int
	}
	r.post("/dev/workers/"+victim.Worker+"/kill", http.StatusAccepted, nil, &killed)
	if _, alive := processes(r.t, r.home)[killed.PID]; alive || killed.ID != victim.Worker {
		r.t.Errorf("killed is %+v, alive: %v", killed, alive)
	}
	r.until(`^worker ` + victim.Worker + ` ended \(signal: killed\): starting it again in 15s; its log is .*` + victim.Worker + `\.log$`)
	wantVideo(r.t, r.until(`^video: (\S+)$`)[1])
	r.wantOneOf(travel, victim)
}

// wantOneOf demands that a travel whose worker was killed has been completed by a second attempt, and has one charge and one video.
func (r *running) wantOneOf(travel taskdb.Task, victim held) {
	r.t.Helper()
	var attempts []struct {
		Worker  string `json:"worker_id"`
		Outcome string `json:"outcome"`
	}
	r.rows("task_attempts?order=attempt&task_id=eq."+victim.ID, &attempts)
	// On a busy machine the worker may be back before its lease is looked at: then it gives the task back itself.
	if len(attempts) != 2 || attempts[0].Worker != victim.Worker || !slices.Contains([]string{"expired", "lost"}, attempts[0].Outcome) || attempts[1].Outcome != "complete" {
		r.t.Errorf("attempts: %+v", attempts)
	}
	r.t.Logf("killed in mid-task: %+v", attempts)
	var ledger []struct {
		Kind   string      `json:"kind"`
		Amount json.Number `json:"amount"`
	}
	r.rows("credit_ledger?kind=eq.settle&task_id=eq."+travel.ID.String(), &ledger)
	if len(ledger) != 1 || strings.TrimSuffix(ledger[0].Amount.String(), ".000") != "10" {
		r.t.Errorf("charges: %+v", ledger)
	}
	var stitches, videos []held
	r.rows("tasks?task_type=eq.travel_stitch&orchestrator_task_id=eq."+travel.ID.String(), &stitches)
	if len(stitches) != 1 {
		r.t.Fatalf("stitches: %+v", stitches)
	}
	r.rows(`generations?tasks=cs.["`+stitches[0].ID+`"]`, &videos)
	if len(videos) != 1 {
		r.t.Errorf("generations: %+v", videos)
	}
}

// wantHealthy demands that the database breaks no rule.
func (r *running) wantHealthy() {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.environment("DATABASE_URL"))
	must(r.t, err)
	defer conn.Close(r.t.Context())
	faults, err := taskdb.New(conn).InvariantViolations(r.t.Context())
	if err != nil || len(faults) > 0 {
		r.t.Errorf("invariant_violations: %v, %v", faults, err)
	}
}

// travel creates another travel from the file that is there for it.
func (r *running) travel() taskdb.Task {
	r.t.Helper()
	return r.travelOf(25)
}

// travelOf makes a travel with so many frames in each of its two segments.
func (r *running) travelOf(frames int) taskdb.Task {
	r.t.Helper()
	body, err := os.ReadFile(filepath.Join(r.home, "travel.json"))
	must(r.t, err)
	each := regexp.MustCompile(`("segment_frames_expanded": \[\s*)25,\s*25\b`)
	if !each.Match(body) {
		r.t.Fatalf("%s has not 25 frames in each segment", body)
	}
	body = each.ReplaceAll(body, fmt.Appendf(nil, "${1}%d, %d", frames, frames))
	var task taskdb.Task
	must(r.t, json.Unmarshal(r.request(http.MethodPost, "/functions/v1/create_task", bytes.NewReader(body)), &task))
	return task
}

func (r *running) generations() []taskdb.Generation {
	r.t.Helper()
	var list []taskdb.Generation
	path := "/projects/" + r.environment("DARKROOM_PROJECT_ID") + "/generations?shot_id=" + r.environment("DARKROOM_SHOT_ID")
	must(r.t, json.Unmarshal(r.request(http.MethodGet, path, nil), &list))
	return list
}

func wantVideo(t *testing.T, url string) {
	t.Helper()
	response, err := http.Get(url)
	must(t, err)
	defer response.Body.Close()
	file := filepath.Join(t.TempDir(), "video.mp4")
	data, err := io.ReadAll(response.Body)
	must(t, err)
	must(t, os.WriteFile(file, data, 0o600))
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "video/mp4" {
		t.Fatalf("%s: %d %s", url, response.StatusCode, response.Header.Get("Content-Type"))
	}
	tools, err := media.Find(t.Context(), os.Stderr)
	must(t, err)
	out, err := exec.Command(tools.FFprobe, "-v", "error", "-select_streams", "v", "-count_frames", "-show_entries",
		"stream=codec_name,width,height,nb_read_frames", "-of", "csv=p=0", file).Output()
	must(t, err)
	// Two segments of 25 frames that share 4.
	if got := strings.TrimSpace(string(out)); got != "h264,768,512,46" {
		t.Errorf("the video is %s", got)
	}
}

// wantLeastPrivilege demands that gateway and workerd have logged in with roles of their own, for which another password is refused.
func wantLeastPrivilege(t *testing.T, databaseURL string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	must(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
		select distinct format('%s superuser=%s', r.rolname, r.rolsuper) from pg_stat_activity a join pg_roles r on r.oid = a.usesysid
		where a.datname = current_database() and a.pid <> pg_backend_pid() order by 1`)
	must(t, err)
	logins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	// The third is `gateway dev` itself, which makes the samples as the owner.
	if want := []string{"darkroom_gateway superuser=f", "darkroom_workerd superuser=f", "postgres superuser=t"}; !slices.Equal(logins, want) {
		t.Errorf("logged in are %q, want %q", logins, want)
	}
	for _, login := range []migrations.Login{migrations.GatewayLogin, migrations.WorkerdLogin} {
		_, err := pgx.Connect(t.Context(), login.URL(databaseURL, "another-password"))
		if err == nil || !strings.Contains(err.Error(), "28P01") { // invalid_password
			t.Errorf("%s with another password: %v", login.Name, err)
		}
	}
}

// wantTokenOfWorker asks for a task with the token in the env file. There is none left.
func (r *running) wantTokenOfWorker() {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.environment("DARKROOM_URL")+"/functions/v1/claim_next_task", strings.NewReader(`{"worker_id":"mine"}`))
	must(r.t, err)
	request.Header.Set("Authorization", "Bearer "+r.environment("DARKROOM_WORKER_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(r.t, err)
	defer response.Body.Close()
	if data, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusNoContent {
		r.t.Errorf("a worker's token: %s %s", response.Status, data)
	}
}

func TestRunMakesAVideoAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listen := "DARKROOM_LISTEN=" + free.Addr().String() // one address for all starts: it stands in the travels
	must(t, free.Close())

	first := start(t, home, listen)
	console, curl := first.until(`^  http://[\d.:]+/#sign-in=(\S+):(\S+)$`), first.until(`^  (\. .* && curl .*create_task.*)$`)[1]
	psql := first.until(`^  (\. .* && \S*psql.* -f .*worker\.sql'|.*\(psql is not installed\))$`)[1]
	t.Logf("the first start: ready in %s s", first.until(`^ready in ([\d.]+) s; Ctrl-C ends it$`)[1])
	// Pictures from prompts, a travel between two of them, and one between photographs come in any order.
	urls := map[string]string{}
	for range 5 {
		line := first.until(`^(image|video): (http://127\.0\.0\.1:\d+/storage/v1/object/public/image_uploads/\S+) \((.*)\)$`)
		urls[line[1]+" "+line[3]] = line[2]
	}
	video := urls["video coffee, cat, rocket"]
	wantVideo(t, video)
	for _, name := range []string{"image a red apple", "image a smiling cat on a blue background", "image a rocket", "video from the apple to the cat"} {
		if urls[name] == "" {
			t.Errorf("%s is missing: %v", name, urls)
		}
	}
	if list := first.generations(); len(list) != 1 || list[0].Location == nil || *list[0].Location != video {
		t.Errorf("generations: %+v", list)
	}
	if info, err := os.Stat(filepath.Join(home, "env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("env: %v, %v", info, err)
	}
	key, databaseURL := first.environment("DARKROOM_SERVICE_KEY"), first.environment("DATABASE_URL")

	first.wantTakeOver()
	wantLeastPrivilege(t, databaseURL)
	first.wantSignIn(console[1], console[2])
	// The printed lines work as they are, again and again.
	for range 2 {
		if _, err := exec.LookPath("curl"); err == nil {
			var task taskdb.Task
			must(t, json.Unmarshal(shell(t, curl), &task))
			if task.Status != taskdb.StatusQueued {
				t.Errorf("the printed line made %+v", task)
			}
			first.until(`^image: \S+/tasks/` + task.ID.String() + `/1/output\.png$`)
		}
		if !strings.HasSuffix(psql, "installed)") {
			if said := shell(t, "yes '' | ( "+psql+" )"); !bytes.Contains(said, []byte("Complete")) {
				t.Errorf("psql said %s", said)
			}
			first.until(`^image: \S+/uploads/cat\.jpg$`)
		}
	}
	first.wantHealthy()
	first.wantTokenOfWorker()
	must(t, syscall.Kill(-first.cmd.Process.Pid, syscall.SIGINT)) // as Ctrl-C does
	began := time.Now()
	if code := first.ended(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, strings.Join(first.said, "\n"))
	}
	t.Logf("Ctrl-C took %s", time.Since(began).Round(time.Millisecond))
	wantNothingLeft(t, home)

	second := start(t, home, listen, "DATABASE_URL="+databaseURL) // as in a shell that has sourced env
	t.Logf("the second start: ready in %s s", second.until(`^ready in ([\d.]+) s`)[1])
	wantVideo(t, second.until(`^video: (\S+) \(coffee, cat, rocket; made earlier\)$`)[1])
	if again := second.environment("DARKROOM_SERVICE_KEY"); again != key {
		t.Error("the key has changed")
	}

	// Killed in mid-video it leaves nothing running, and nothing is lost.
	task := second.travel()
	await(t, "the travel to run", func() bool {
		for _, command := range processes(t, home) {
			if program, _, _ := strings.Cut(command, " "); strings.HasSuffix(program, "ffmpeg") {
				return true
			}
		}
		return false
	})
	must(t, second.cmd.Process.Kill())
	wantNothingLeft(t, home)
	second.ended()

	third := start(t, home, listen)
	third.until(`^ready in`)
	await(t, "the travel to be finished", func() bool {
		var now taskdb.Task
		must(t, json.Unmarshal(third.request(http.MethodGet, "/tasks/"+task.ID.String(), nil), &now))
		if now.Ended() && now.Status != taskdb.StatusComplete {
			t.Fatalf("%s: %s", now.Status, *now.ErrorMessage)
		}
		return now.Ended()
	})
	must(t, third.cmd.Process.Signal(syscall.SIGTERM))
	if code := third.ended(); code != 0 {
		t.Errorf("exit code %d after SIGTERM:\n%s", code, strings.Join(third.said, "\n"))
	}
	wantNothingLeft(t, home)
}

func TestWhatIsMissingIsToldInOneSentence(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { taken.Close() })
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))

	for name, c := range map[string]struct {
		environment []string
		want        string
	}{
		"a taken port":    {[]string{"DARKROOM_LISTEN=" + taken.Addr().String()}, "is taken by another program: end that one, or set DARKROOM_LISTEN"},
		"a public port":   {[]string{"DARKROOM_LISTEN=0.0.0.0:0"}, "listens on this machine only"},
		"no ffmpeg":       {[]string{"DARKROOM_FFMPEG=/nowhere"}, "DARKROOM_FFMPEG must name a folder with ffmpeg and ffprobe"},
		"no PostgreSQL":   {[]string{"DARKROOM_POSTGRES=/nowhere"}, "DARKROOM_POSTGRES must name a folder with PostgreSQL's initdb and postgres"},
		"no such server":  {[]string{"DATABASE_URL=postgres://127.0.0.1:1/x"}, "the database does not answer"},
		"a file as home":  {[]string{"DARKROOM_HOME=" + file}, "DARKROOM_HOME can't be made"},
		"an unusable URL": {[]string{"DATABASE_URL=x://"}, "the database URL cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := newHome(t)
			r := start(t, home, c.environment...)
			code := r.ended()
			if last := r.said[len(r.said)-1]; code != 1 || !strings.HasPrefix(last, "gateway: ") || !strings.Contains(last, c.want) {
				t.Errorf("exit code %d:\n%s", code, strings.Join(r.said, "\n"))
			}
			wantNothingLeft(t, home)
		})
	}
}

func TestAHomeServesOneRunAtATime(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	first := start(t, home)
	first.until(`^ready in`)
	second := start(t, home)
	if code := second.ended(); code != 1 || !strings.Contains(second.said[len(second.said)-1], "is in use by another program") {
		t.Errorf("exit code %d:\n%s", code, strings.Join(second.said, "\n"))
	}
	if list := first.generations(); len(list) > 1 {
		t.Errorf("generations: %+v", list)
	}
}
