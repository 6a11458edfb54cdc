package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const testKey = "a key of the tests, long enough"

// runText runs the program in this process and returns its exit code and what it wrote to stderr.
func runText(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code := run(ctx, args, io.Discard, &stderr)
	return code, stderr.String()
}

func TestHelpListsEverySetting(t *testing.T) {
	t.Parallel()
	for command, names := range map[string][]string{
		"serve":   {"-listen", "DARKROOM_LISTEN", "127.0.0.1:8484", "-database", "DATABASE_URL", "-storage", "DARKROOM_SERVICE_KEY", "-drain-notice", "DARKROOM_ANON_KEY", "DARKROOM_JWT_SECRET", "DARKROOM_JWKS", "DARKROOM_JWT_ISSUER", "DARKROOM_JWT_AUDIENCE", "DARKROOM_SIGNUP"},
		"keys":    {"DARKROOM_JWT_SECRET", "DARKROOM_JWT_ISSUER"},
		"migrate": {"-database", "DATABASE_URL"},
		"dev":     {"-home", "DARKROOM_HOME", ".darkroom", "-listen"},
	} {
		code, text := runText(t, command, "-h")
		for _, name := range names {
			if code != 0 || !strings.Contains(text, name) {
				t.Errorf("%s -h: exit %d, without %s:\n%s", command, code, name, text)
			}
		}
	}
}

func TestMistakesOnTheCommandLineAreToldInOneSentence(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	t.Setenv("DARKROOM_SERVICE_KEY", "")
	t.Setenv("DARKROOM_JWT_SECRET", "")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"fly", 2, `there is no command "fly"; the commands are serve, migrate, keys and dev`},
		{"serve extra", 2, `serve takes no argument "extra"`},
		{"serve -nope", 2, "-nope"},
		{"migrate -listen 127.0.0.1:1", 2, "-listen"},
		{"serve -drain-notice soon", 2, "must be a duration such as 1s"},
		{"serve", 1, "DARKROOM_SERVICE_KEY needs at least 16 characters"},
		{"migrate -database postgres://127.0.0.1:1/x", 1, "does not answer"},
		{"migrate", 1, "DATABASE_URL is not set"},
		{"keys", 1, "DARKROOM_JWT_SECRET is not set"},
		{"serve -signup=perhaps", 2, "must be true or false"},
	} {
		code, text := runText(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: exit %d %q, want %d %q", c.args, code, text, c.code, c.want)
		}
	}
	t.Setenv("DARKROOM_DRAIN_NOTICE", "-1s")
	if code, text := runText(t, "serve"); code != 2 || !strings.Contains(text, `DARKROOM_DRAIN_NOTICE is "-1s"`) {
		t.Errorf("exit %d %q", code, text)
	}
}

// What keys prints are JWTs that the gateway takes for what they are called.
func TestKeysAreTaken(t *testing.T) {
	secret := "a secret of the tests, of more than 32 characters"
	t.Setenv("DARKROOM_JWT_SECRET", secret)
	t.Setenv("DARKROOM_JWT_ISSUER", "https://issuer.example")
	t.Setenv("DARKROOM_JWT_AUDIENCE", "darkroom")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"keys"}, &out, io.Discard); code != 0 {
		t.Fatalf("exit %d", code)
	}
	verifier, err := identity.NewVerifier(nil, identity.Settings{JWTSecret: secret, Issuer: "https://issuer.example", Audience: "darkroom"})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("printed %q", out.String())
	}
	for i, role := range []identity.Role{identity.Anon, identity.Service} {
		name, key, _ := strings.Cut(lines[i], " ")
		if who, err := verifier.Verify(t.Context(), key); err != nil || who.Role != role || name != string(role) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	t.Setenv("DARKROOM_JWT_SECRET", "short")
	if code, text := runText(t, "keys"); code != 1 || !strings.Contains(text, "at least 32 characters") {
		t.Errorf("a short secret: exit %d %q", code, text)
	}
}

// process is a running gateway.
type process struct {
	cmd *exec.Cmd
	url string
}

// startServe starts the program and returns when it serves.
func startServe(t *testing.T, binary, databaseURL, storage string) *process {
	t.Helper()
	cmd := exec.Command(binary, "serve", "-listen", "127.0.0.1:0", "-storage", "file://"+storage, "-drain-notice", "0s")
	cmd.Env = append(cmd.Environ(), "DATABASE_URL="+databaseURL, "DARKROOM_SERVICE_KEY="+testKey)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			go io.Copy(io.Discard, stderr)
			return &process{cmd, "http://" + line.Address}
		}
		t.Log(lines.Text())
	}
	t.Fatal("the gateway did not start")
	return nil
}

// post calls a function; status 0 means that no answer came.
func (p *process) post(function, body string) (status int, answer []byte) {
	r, err := http.NewRequest(http.MethodPost, p.url+"/functions/v1/"+function, strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+testKey)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	if answer, err = io.ReadAll(response.Body); err != nil {
		return 0, nil
	}
	return response.StatusCode, answer
}

// TestKillingTheGatewayLosesNothing kills the process again and again while clients create, claim and complete through it. Each
// client repeats what got no answer, as a worker does, so in the end every task is Complete, with one generation and one charge.
func TestKillingTheGatewayLosesNothing(t *testing.T) {
	t.Parallel()
	const clients, each, kills = 4, 40, 4
	ctx := t.Context()
	binary := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pg := taskdbtest.New(t)
	migrate := exec.CommandContext(ctx, binary, "migrate")
	migrate.Env = append(migrate.Environ(), "DATABASE_URL="+pg.URL)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	db := taskdb.New(pg.Pool)
	user, err := db.CreateUser(ctx, uuid.Nil, "")
	if err != nil {
		t.Fatal(err)
	}
	project, err := db.CreateProject(ctx, user.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.GrantCredits(ctx, user.ID, taskdb.WholeCredits(clients*each), "", ""); err != nil {
		t.Fatal(err)
	}

	storage, login := t.TempDir(), pg.Login(t, "authenticator")
	var mu sync.RWMutex
	gateway := startServe(t, binary, login, storage)
	post := func(function, body string) (int, []byte) {
		mu.RLock()
		now := gateway
		mu.RUnlock()
		return now.post(function, body)
	}
	// until repeats a request until it is answered, and reports a refusal.
	until := func(function, body string) []byte {
		for ctx.Err() == nil {
			switch status, answer := post(function, body); status {
			case http.StatusOK:
				return answer
			case 0, http.StatusServiceUnavailable:
				time.Sleep(5 * time.Millisecond) // the gateway is being started again
			default:
				t.Errorf("%s %s: %d %s", function, body, status, answer)
				return nil
			}
		}
		return nil
	}

	restart := func() {
		mu.Lock()
		defer mu.Unlock()
		if err := gateway.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = gateway.cmd.Wait()
		gateway = startServe(t, binary, login, storage)
	}

	progress := make(chan struct{}, clients*each)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for range each {
				id := uuid.NewString()
				if until("create_task", `{"task_id":"`+id+`","project_id":"`+project.ID.String()+`","task_type":"single_image","params":{"prompt":"a"}}`) == nil {
					return
				}
				progress <- struct{}{}
			}
		})
	}
	for range kills {
		for range clients * each / (kills + 1) {
			<-progress
		}
		restart()
	}
	group.Wait()

	for range clients * each {
		status, answer := post("claim_next_task", `{"worker_id":"gpu-1"}`)
		var claim struct {
			TaskID string `json:"task_id"`
		}
		if err := json.Unmarshal(answer, &claim); err != nil || status != http.StatusOK {
			t.Fatalf("claim: %d %s", status, answer)
		}
		completion := `{"task_id":"` + claim.TaskID + `","output_location":"https://example.com/a.png"}`
		until("complete_task", completion)
		if rand.IntN(clients*each/kills) == 0 {
			restart()
			until("complete_task", completion) // its answer may have been lost
		}
	}

	list, err := db.ListGenerations(ctx, taskdb.Gallery{ProjectID: project.ID, MaxRows: 1000})
	if err != nil || len(list) != clients*each {
		t.Errorf("%d generations, want %d: %v", len(list), clients*each, err)
	}
	account, err := db.GetCredits(ctx, user.ID)
	if err != nil || account.Balance != 0 || account.Held != 0 {
		t.Errorf("credits: %+v, %v", account, err)
	}
	if faults, err := db.InvariantViolations(ctx); err != nil || len(faults) > 0 {
		t.Errorf("invariant_violations: %v, %v", faults, err)
	}

	if err := gateway.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := gateway.cmd.Wait(); err != nil {
		t.Errorf("the end after SIGTERM: %v", err)
	}
}
