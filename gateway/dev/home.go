package dev

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"darkroom/migrations"
	"darkroom/sql/localpg"
)

// DefaultHome is the home when none is named: in the checkout. Where PostgreSQL can't go there (it refuses to run as root, and its other user can't
// enter /root), the home is in a folder of the checkout's name in closedHome.
const (
	DefaultHome = ".darkroom"
	closedHome  = "/var/lib/darkroom"
)

// Files and folders in the home. PostgreSQL's is beside them.
const (
	stateFile  = "state.json"
	envFile    = "env"
	travelFile = "travel.json"
	workerFile = "worker.sql"
	logFolder  = "log"
	tempFolder = "tmp" // of workers
	filesName  = "storage"
)

// state is what is kept from run to run beside the database. It is written in one step, readable by its owner only.
type state struct {
	ServiceKey string `json:"service_key"`
	AnonKey    string `json:"anon_key"`
	JWTSecret  string `json:"jwt_secret"`
	// Of the logins that the programs have at PostgreSQL.
	GatewayPassword string `json:"gateway_password"`
	WorkerdPassword string `json:"workerd_password"`

	UserPassword string    `json:"user_password"` // of the sample user, whose email is userEmail
	UserID       uuid.UUID `json:"user_id"`
	WorkerToken  string    `json:"worker_token"` // of a worker that runs the sample user's tasks

	ProjectID   uuid.UUID `json:"project_id"`
	ShotID      uuid.UUID `json:"shot_id"`
	TaskID      uuid.UUID `json:"task_id"`      // the travel between photographs
	ByHandID    uuid.UUID `json:"by_hand_id"`   // what waits for a person
	Drawn       []sample  `json:"drawn"`        // pictures from prompts, and at last the travel between two of them
	PostgresURL string    `json:"postgres_url"` // of our own PostgreSQL when it last ran
}

// sample is a task that is made once.
type sample struct {
	TaskID uuid.UUID `json:"task_id"`
	Title  string    `json:"title"`
}

// openHome makes the folders and reads the state, or begins one.
func (r *runner) openHome() error {
	home, err := choose(r.Home)
	if err != nil {
		return err
	}
	r.Home = home
	r.storage = (&url.URL{Scheme: "file", Path: filepath.Join(home, filesName)}).String()
	perm := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		perm = 0o711 // PostgreSQL refuses to run as root, and its user must pass
	}
	if err := os.MkdirAll(home, perm); err != nil {
		return fmt.Errorf("the folder DARKROOM_HOME can't be made, choose another: %w", err)
	}
	for _, folder := range []string{logFolder, tempFolder} {
		if err := os.MkdirAll(filepath.Join(home, folder), 0o700); err != nil {
			return fmt.Errorf("the folder DARKROOM_HOME can't be written to, choose another: %w", err)
		}
	}

	r.state = &state{}
	data, err := os.ReadFile(filepath.Join(home, stateFile))
	if err == nil {
		err = json.Unmarshal(data, r.state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s can't be read (move %s away to begin anew): %w", filepath.Join(home, stateFile), home, err)
	}
	r.state.makeSecrets()
	return r.saveState()
}

// choose returns the path of a home.
func choose(home string) (string, error) {
	path, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("the folder DARKROOM_HOME: %w", err)
	}
	if checkout := filepath.Dir(path); home == DefaultHome && !localpg.CanReach(checkout) {
		return filepath.Join(closedHome, checkout), nil
	}
	return path, nil
}

// KeyPrefix begins the keys that are made here. `gateway serve` refuses them: they are for one machine, and their file may lie around.
const KeyPrefix = "dev_"

// makeSecrets makes those that are missing.
func (s *state) makeSecrets() {
	for key, length := range map[*string]int{&s.ServiceKey: 26, &s.AnonKey: 26, &s.JWTSecret: 52} {
		if *key == "" {
			*key = KeyPrefix + (rand.Text() + rand.Text())[:length]
		}
	}
	for _, password := range []*string{&s.GatewayPassword, &s.WorkerdPassword, &s.UserPassword} {
		if *password == "" {
			*password = rand.Text()
		}
	}
}

func (r *runner) saveState() error {
	data, err := json.MarshalIndent(r.state, "", "  ") //nolint:gosec // G117: the file of secrets, which only its owner may read
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return r.writeFile(stateFile, append(data, '\n'))
}

// writeFile writes a file of the home, whole or not at all.
func (r *runner) writeFile(name string, data []byte) error {
	path := filepath.Join(r.Home, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("writing into DARKROOM_HOME: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing into DARKROOM_HOME: %w", err)
	}
	return nil
}

// postgresAddress is where PostgreSQL listened before, so that its URL stays the same, or a free port.
func (s *state) postgresAddress(ctx context.Context) string {
	const free = "127.0.0.1:0"
	before, err := url.Parse(s.PostgresURL)
	if err != nil || before.Host == "" {
		return free
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", before.Host)
	if err != nil {
		return free
	}
	_ = listener.Close()
	return before.Host
}

// isOwn reports whether the URL leads to our own PostgreSQL, as it does in a shell that has sourced the env file: its password is
// random, and its port may have changed since.
func (s *state) isOwn(databaseURL string) bool {
	own, err := url.Parse(s.PostgresURL)
	if err != nil || own.User == nil {
		return false
	}
	given, err := url.Parse(databaseURL)
	return err == nil && given.User != nil && given.User.String() == own.User.String()
}

// writeEnv writes what shells source to reach this run.
func (r *runner) writeEnv() error {
	var text strings.Builder
	text.WriteString(envHead)
	for _, pair := range [][2]string{
		{"DARKROOM_URL", r.publicURL},
		{"DARKROOM_ANON_KEY", r.state.AnonKey},
		{"DARKROOM_EMAIL", userEmail},
		{"DARKROOM_PASSWORD", r.state.UserPassword},
		{"DARKROOM_WORKER_TOKEN", r.state.WorkerToken},
		{"DARKROOM_SERVICE_KEY", r.state.ServiceKey},
		{"DARKROOM_STORAGE", r.storage},
		{"DATABASE_URL", r.DatabaseURL}, // the owner's
		{"DARKROOM_WORKERD_DATABASE_URL", migrations.WorkerdLogin.URL(r.DatabaseURL, r.state.WorkerdPassword)},
		{"DARKROOM_USER_ID", r.state.UserID.String()},
		{"DARKROOM_PROJECT_ID", r.state.ProjectID.String()},
		{"DARKROOM_SHOT_ID", r.state.ShotID.String()},
	} {
		fmt.Fprintf(&text, "export %s=%s\n", pair[0], shellQuote(pair[1]))
	}
	fmt.Fprintf(&text, envFoot, shellQuote(filepath.Join(r.Home, travelFile)))
	return r.writeFile(envFile, []byte(text.String()))
}

const envHead = `# What reaches this run, for a shell: . this file. Keys and passwords are random, and for this machine.
`

// envFoot has lines for people, and the function that the printed ones use.
const envFoot = `
# The sample user's access token, which lasts an hour.
darkroom_token() {
  curl -sS "$DARKROOM_URL/auth/v1/token?grant_type=password" -H "apikey: $DARKROOM_ANON_KEY" -H "Content-Type: application/json" \
    -d "{\"email\":\"$DARKROOM_EMAIL\",\"password\":\"$DARKROOM_PASSWORD\"}" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

# Another travel between the photographs (10 credits):
#   curl -sS "$DARKROOM_URL/functions/v1/create_task" -H "Authorization: Bearer $(darkroom_token)" -H "Content-Type: application/json" -d @%s
# All pictures and videos:
#   curl -sS "$DARKROOM_URL/projects/$DARKROOM_PROJECT_ID/generations" -H "Authorization: Bearer $(darkroom_token)"
# The database, as its owner:
#   psql "$DATABASE_URL"
`

// shellQuote makes a text one word of any shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
