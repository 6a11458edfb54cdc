package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
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
	newest         = 100         // generations looked at for new ones
	reconnectPause = time.Second // after the database cut the listener off
)

// announce tells how to use what runs.
func (r *runner) announce() error {
	told, noPSQL, noCurl := r.door.lines.Load(), "", ""
	if r.psql == "" {
		noPSQL = "   (psql is not installed)"
	}
	if _, err := exec.LookPath("curl"); err != nil {
		noCurl = "   (curl is not installed)"
	}
	_, err := fmt.Fprintf(r.Out, `Darkroom runs at %[1]s; its data and logs are in %[2]s

The console, signed in as this machine's sample user:
  %[1]s/#sign-in=%[3]s:%[4]s

A picture from the command line; it shows up there (1 of 1000 credits):
  %[5]s%[11]s

Be a worker yourself, in psql:
  %[6]s%[7]s

For an app: the URL %[1]s and the public key %[8]s
Passwords, and more lines to paste: %[9]s

ready in %.1[10]f s; Ctrl-C ends it

`, r.publicURL, r.Home, url.QueryEscape(userEmail), url.QueryEscape(r.state.UserPassword), told.Curl, told.PSQL, noPSQL,
		r.state.AnonKey, filepath.Join(r.Home, envFile), time.Since(r.began).Seconds(), noCurl)
	return err //nolint:wrapcheck // of the terminal
}

// prepare writes the files that are told of, and makes the lines to paste.
func (r *runner) prepare() error {
	if err := r.writeEnv(); err != nil {
		return err
	}
	script := strings.NewReplacer(
		"{{.Picture}}", storage.URL(r.publicURL, storage.UploadKey(r.state.UserID, byHandPicture)),
		"{{.Project}}", r.state.ProjectID.String(),
	).Replace(workerSQL)
	if err := r.writeFile(workerFile, []byte(script)); err != nil {
		return err
	}
	source := ". " + shellQuote(filepath.Join(r.Home, envFile))
	program := "psql"
	if r.psql != "" && r.psql != program {
		program = shellQuote(r.psql)
	}
	r.door.lines.Store(&lines{
		PSQL: source + " && " + program + ` -qX "$DARKROOM_WORKERD_DATABASE_URL" -f ` + shellQuote(filepath.Join(r.Home, workerFile)),
		Curl: source + ` && curl -sS "$DARKROOM_URL/functions/v1/create_task" -H "Authorization: Bearer $(darkroom_token)" -H "Content-Type: application/json" ` +
			fmt.Sprintf(`-d '{"project_id":%q,"tool_id":%q,"input":{"prompt":"a green frog"}}'`, r.state.ProjectID, imageTool),
	})
	return nil
}

// follow shows how far the samples are, and tells of all that appears, until ctx ends.
func (r *runner) follow(ctx context.Context) error {
	f := newFollower(r)
	for ctx.Err() == nil {
		err := taskdb.Listen(ctx, r.DatabaseURL, f.look)
		if errors.Is(err, taskdb.ErrProjectNotFound) {
			f.line.printf("the sample project is gone: the next start makes another")
			<-ctx.Done()
		} else if err != nil {
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
	*runner

	began   time.Time
	samples []sample             // that have not ended
	titles  map[string]string    // of their results, by address
	told    map[uuid.UUID]bool   // generations
	drawn   map[uuid.UUID]string // addresses of sample pictures
	line    *statusLine
}

func newFollower(r *runner) *follower {
	return &follower{
		runner: r, began: time.Now(), samples: append([]sample{{r.state.TaskID, photoTitle}}, r.state.Drawn...),
		titles: map[string]string{}, told: map[uuid.UUID]bool{}, drawn: map[uuid.UUID]string{}, line: newStatusLine(r.Out),
	}
}

// look reads the newest generations and the samples, in this order: so what was made by a sample is known as that.
func (f *follower) look(ctx context.Context) error {
	list, err := f.db.ListGenerations(ctx, taskdb.Gallery{ProjectID: f.state.ProjectID, MaxRows: newest})
	if err != nil {
		return err
	}
	if err := f.lookAtSamples(ctx); err != nil {
		return err
	}
	f.tell(list)
	return f.travelWhenDrawn(ctx)
}

func (f *follower) lookAtSamples(ctx context.Context) error {
	running := f.samples
	f.samples = nil
	shown := false
	for _, s := range running {
		task, err := f.db.GetTask(ctx, s.TaskID)
		switch {
		case err != nil:
			f.samples = running
			return err
		case !task.Ended():
			f.samples = append(f.samples, s)
			if !shown {
				f.line.showf("%s: %s%s, %.0f s", s.Title, task.Status, progress(task), time.Since(f.began).Seconds())
				shown = true
			}
		case task.OutputLocation != nil && task.Status == taskdb.StatusComplete:
			f.titles[*task.OutputLocation] = s.Title
			f.drawn[s.TaskID] = f.present(*task.OutputLocation)
		case task.ErrorMessage != nil:
			f.line.printf("%s is %s: %s", s.Title, task.Status, *task.ErrorMessage)
		}
	}
	return nil
}

// travelWhenDrawn makes the travel between the first two pictures once they are there.
func (f *follower) travelWhenDrawn(ctx context.Context) error {
	if len(f.state.Drawn) != len(prompts) {
		return nil
	}
	start, end := f.drawn[f.state.Drawn[0].TaskID], f.drawn[f.state.Drawn[1].TaskID]
	if start == "" || end == "" {
		return nil
	}
	if err := f.seedDrawnTravel(ctx, start, end); err != nil {
		return err
	}
	f.samples = append(f.samples, f.state.Drawn[len(prompts)])
	return nil
}

// tell tells of new generations.
func (f *follower) tell(list []taskdb.Generation) {
	for _, g := range slices.Backward(list) {
		if f.told[g.ID] || g.Location == nil {
			continue
		}
		f.told[g.ID] = true
		var notes []string
		if title := f.titles[*g.Location]; title != "" {
			notes = append(notes, title)
		}
		if g.CreatedAt.Before(f.began) {
			notes = append(notes, "made earlier")
		}
		note := ""
		if len(notes) > 0 {
			note = " (" + strings.Join(notes, "; ") + ")"
		}
		f.line.printf("%s: %s%s", g.Type, f.present(*g.Location), note)
	}
}

// present is the address of a file now: the gateway may have listened elsewhere when it was made.
func (f *follower) present(location string) string {
	if at := strings.Index(location, storage.URL("", "")); at >= 0 {
		return f.publicURL + location[at:]
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
