package dev

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/mattn/go-isatty"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

const (
	newest         = 20          // generations looked at for new ones
	reconnectPause = time.Second // after the database cut the listener off
)

// announce writes the env file and tells how to use what runs.
func (r *runner) announce() error {
	if err := r.writeEnv(); err != nil {
		return err
	}
	source := ". " + shellQuote(filepath.Join(r.Home, envFile))
	psql := ""
	if _, err := exec.LookPath("psql"); err != nil {
		psql = "   (psql is not installed)"
	}
	fmt.Fprintf(r.Out, `Darkroom runs at %[1]s; its data and logs are in %[2]s

Another travel (10 of 1000 credits):
  %[3]s && curl -sS "$DARKROOM_URL/functions/v1/create_task" -H "Authorization: Bearer $DARKROOM_SERVICE_KEY" -H "Content-Type: application/json" -d @%[4]s

All videos:
  %[3]s && curl -sS "$DARKROOM_URL/projects/$DARKROOM_PROJECT_ID/generations" -H "Authorization: Bearer $DARKROOM_SERVICE_KEY"

The database:
  %[3]s && psql "$DATABASE_URL"%[5]s

ready in %.1[6]f s; Ctrl-C ends it

`, r.publicURL, r.Home, source, shellQuote(filepath.Join(r.Home, travelFile)), psql, time.Since(r.began).Seconds())
	return nil
}

// follow shows how far the sample travel is, and tells of every video that appears, until ctx ends.
func (r *runner) follow(ctx context.Context) error {
	f := newFollower(r)
	for ctx.Err() == nil {
		if err := taskdb.Listen(ctx, r.DatabaseURL, f.look); err != nil {
			f.line.printf("the database cut us off (%v): following again", err)
			select {
			case <-ctx.Done():
			case <-time.After(reconnectPause):
			}
		}
	}
	f.line.clear()
	return nil
}

// follower remembers what was told already.
type follower struct {
	db      *taskdb.DB
	task    uuid.UUID
	project uuid.UUID
	base    string // URL of the gateway
	began   time.Time
	told    map[uuid.UUID]bool // generations
	over    bool               // the sample travel has ended
	line    *statusLine
}

func newFollower(r *runner) *follower {
	return &follower{
		db: r.db, base: r.publicURL, task: r.state.TaskID, project: r.state.ProjectID, began: time.Now(), told: map[uuid.UUID]bool{},
		line: newStatusLine(r.Out),
	}
}

// look reads the sample travel and the newest generations.
func (f *follower) look(ctx context.Context) error {
	if !f.over {
		task, err := f.db.GetTask(ctx, f.task)
		if err != nil {
			return err
		}
		f.over = task.Ended()
		switch {
		case !f.over:
			f.line.showf("the sample travel is %s%s, %.0f s", task.Status, progress(task), time.Since(f.began).Seconds())
		case task.Status != taskdb.StatusComplete && task.ErrorMessage != nil:
			f.line.printf("the sample travel is %s: %s", task.Status, *task.ErrorMessage)
		}
	}
	list, err := f.db.ListGenerations(ctx, taskdb.Gallery{ProjectID: f.project, MaxRows: newest})
	if err != nil {
		return err
	}
	for _, g := range slices.Backward(list) {
		if f.told[g.ID] || g.Location == nil {
			continue
		}
		f.told[g.ID] = true
		when := ""
		if g.CreatedAt.Before(f.began) {
			when = " (made earlier)"
		}
		f.line.printf("%s: %s%s", g.Type, f.present(*g.Location), when)
	}
	return nil
}

// present is the address of a file now: the gateway may have listened elsewhere when it was made.
func (f *follower) present(location string) string {
	if at := strings.Index(location, storage.URL("", "")); at >= 0 {
		return f.base + location[at:]
	}
	return location
}

// progress says how far a task is, as its worker reported.
func progress(task taskdb.Task) string {
	var p struct {
		Percent float64 `json:"percent"`
		Phase   string  `json:"phase"`
	}
	if json.Unmarshal(task.Progress, &p) != nil || p.Percent == 0 {
		return ""
	}
	return fmt.Sprintf(", %.0f %% %s", p.Percent, p.Phase)
}

// statusLine is the last line of the output: on a terminal it is written over, elsewhere each change of it is one line.
type statusLine struct {
	out      io.Writer
	terminal bool
	shown    string
}

func newStatusLine(out io.Writer) *statusLine {
	file, isFile := out.(*os.File)
	return &statusLine{out: out, terminal: isFile && isatty.IsTerminal(file.Fd())}
}

// showf replaces the line. Elsewhere than on a terminal nothing is shown: a log wants results.
func (s *statusLine) showf(format string, args ...any) {
	if !s.terminal {
		return
	}
	s.shown = fmt.Sprintf(format, args...)
	fmt.Fprintf(s.out, "\r\x1b[K%s", s.shown)
}

// printf writes a line that stays.
func (s *statusLine) printf(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// clear takes the line away.
func (s *statusLine) clear() {
	if s.shown != "" {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.shown = ""
	}
}
