package dev_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"darkroom/sql/taskdb"
)

// story is what a newcomer does in the first minutes, in a browser, with what `make run` started. Its parts follow each other.
type story struct {
	whole, t      *testing.T // t is that of the part
	run           *running
	wide          *tab   // of a screen
	address       string // as it was printed
	curl, psql    string
	project, shot string
}

func TestTheConsole(t *testing.T) {
	t.Parallel()
	browser := newBrowser(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listen := "DARKROOM_LISTEN=" + free.Addr().String() // one address for both starts
	must(t, free.Close())
	s := &story{whole: t, run: start(t, newHome(t), listen)}
	s.address = s.run.until(`^  (http://[\d.:]+/#sign-in=\S+)$`)[1]
	s.curl = s.run.until(`^  (\. .* && curl .*create_task.*)$`)[1]
	s.psql = s.run.until(`^  (\. .* && \S*psql.* -f .*worker\.sql'|.*\(psql is not installed\))$`)[1]
	s.run.until(`^ready in`)
	s.project, s.shot = s.run.environment("DARKROOM_PROJECT_ID"), s.run.environment("DARKROOM_SHOT_ID")
	s.wide = newTab(t, browser, "wide", 1280, 800)

	for _, part := range []struct {
		name string
		do   func()
	}{
		{"the printed address signs in, and keeps no password", s.signIn},
		{"the samples fill the gallery", s.samples},
		{"a pasted curl line appears", s.pasted},
		{"a picture is asked for, and appears", s.create},
		{"a task that waits says why, until a person does it", s.byHand},
		{"a killed worker's task is taken over: one video, one charge", s.kill},
		{"a running task is cancelled", s.cancel},
		{"pictures are put in order by hand and by keys", s.order},
		{"the cache can be looked at as the spec says", s.cache},
		{"every page fits a screen and a phone", func() {
			s.pages(newTab(s.t, browser, "phone", 390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2)))
		}},
		{"who has no credits is told so", func() {
			s.broke(newTab(s.t, browser, "newcomer", 390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch))
		}},
		{"a connection that is cut is taken up where it was", func() { s.cut(newTab(s.t, browser, "cut", 1024, 768)) }},
		{"all that runs is started anew", func() { s.restart(listen) }},
	} {
		t.Run(part.name, func(t *testing.T) {
			s.t, s.run.t, s.wide.t = t, t, t
			part.do()
		})
		s.t, s.run.t, s.wide.t = t, t, t
	}
	var same bool
	s.wide.eval(`window.sameDocument === true`, &same)
	if !same {
		t.Error("the page was loaded anew in between")
	}
	s.run.wantHealthy()
}

func (s *story) signIn() {
	p := s.wide
	p.open(s.address)
	p.await("the gallery", `document.querySelector('[data-testid=gallery]')`)
	p.eval(`window.sameDocument = true`, new(bool))
	var at struct{ URL, Email string }
	p.eval(`({URL: location.href, Email: document.querySelector('[data-testid=account]').innerText})`, &at)
	if strings.ContainsAny(at.URL, "#@%") || !strings.Contains(at.Email, s.run.environment("DARKROOM_EMAIL")) {
		s.t.Errorf("signed in is %+v", at)
	}
	p.await("a live connection", `document.querySelector('[data-testid=connection]').dataset.status === 'live'`)
	p.picture("1-developing")
}

func (s *story) samples() {
	p := s.wide
	p.await("the samples", fmt.Sprintf(tiles, "image")+` >= 3 && `+fmt.Sprintf(tiles, "video")+` >= 2`)
	p.await("pictures that can be seen", `[...document.querySelectorAll('[data-testid=tile] img')].every(i => i.complete && i.naturalWidth > 0)`)
	p.picture("2-gallery")
	p.point("[data-testid=tile][data-type=video]")
	p.await("the video that is pointed at to play", `document.querySelector('[data-testid=tile][data-type=video] video').currentTime > 0.1`)
}

const tiles = `document.querySelectorAll('[data-testid=tile][data-type=%s]').length`

// pasted runs the printed curl line in a shell.
func (s *story) pasted() {
	if _, err := exec.LookPath("curl"); err != nil {
		s.t.Skip("curl is not installed")
	}
	var task taskdb.Task
	must(s.t, json.Unmarshal(shell(s.t, s.curl), &task))
	s.wide.await("the frog", tileOf("a green frog"))
}

// tileOf is whether the gallery shows a picture of that.
func tileOf(caption string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('[data-testid=tile]')].some(tile => tile.getAttribute('aria-label').endsWith(%q) && tile.querySelector('img')?.naturalWidth > 0)`, caption)
}

// watch notes what developing tiles and rows say while it happens.
const watch = `(() => {
	window.seen = {developing: 0, percents: [], workers: []};
	const look = () => {
		for (const tile of document.querySelectorAll('[data-testid=developing]')) {
			seen.developing++;
			const bar = tile.querySelector('progress');
			if (bar?.hasAttribute('value') && seen.percents.at(-1) !== bar.value) seen.percents.push(bar.value);
		}
	};
	window.looking ??= new MutationObserver(look);
	looking.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
})()`

func (s *story) create() {
	p := s.wide
	p.eval(watch, new(any))
	p.press("c")
	p.await("the form", `document.querySelector('dialog[open]')`)
	p.write("dialog[open] textarea", "a yellow duck")
	p.picture("3-create")
	p.do(chromedp.Click(css("dialog[open] button[type=submit]")))
	p.await("the duck", tileOf("a yellow duck"))
	var seen struct{ Developing int }
	p.eval(`seen`, &seen)
	if seen.Developing == 0 {
		s.t.Error("nothing was seen of the picture while it was made")
	}
}

func (s *story) byHand() {
	p := s.wide
	p.press("q")
	p.sees("it needs the capability by_hand")
	p.picture("4-queue-waiting")
	if strings.HasSuffix(s.psql, "installed)") {
		s.t.Skip("psql is not installed")
	}
	cmd := exec.CommandContext(s.t.Context(), "sh", "-c", s.psql)
	enter, err := cmd.StdinPipe()
	must(s.t, err)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(s.t, cmd.Start())
	p.await("the task to be the newcomer's", `document.querySelector('[data-testid=running] [data-testid=task][data-worker=you]')`)
	p.picture("5-you-are-the-worker")
	_, err = io.WriteString(enter, "\n")
	must(s.t, err)
	must(s.t, enter.Close())
	if err := cmd.Wait(); err != nil {
		s.t.Fatalf("psql: %v: %s", err, said.String())
	}
	p.await("the end of it", `document.querySelector('[data-testid=ended] [data-testid=task][data-worker=you][data-status=Complete]')`)
	p.press("g")
	p.await("the photograph", tileOf("a photograph of a cat"))
}

// kill kills the worker of a segment by its button, in the middle of its work.
func (s *story) kill() {
	p := s.wide
	p.press("g")
	p.await("the gallery", `document.querySelector('[data-testid=gallery]')`)
	p.eval(watch, new(any))
	var videos int
	p.eval(fmt.Sprintf(tiles, "video"), &videos)
	travel := s.run.travel()
	p.await("the travel in the gallery", `document.querySelector('[data-testid=developing]')`)
	p.await("a moving bar", `seen.percents.length >= 2`)
	p.picture("6-travel")
	p.press("w")
	victim := s.run.segment(travel)
	kill := fmt.Sprintf("[data-worker=%s] [data-testid=kill]", victim.Worker)
	p.await("the worker", fmt.Sprintf(`document.querySelector('%s')`, kill))
	p.picture("7-workers")
	p.click(kill)
	s.run.until(`^worker ` + victim.Worker + ` ended \(signal: killed\)`)
	p.await("that it is gone", fmt.Sprintf(`/killed|silent|gone|ended/i.test(document.querySelector('[data-worker=%s]').innerText)`, victim.Worker))
	p.picture("8-worker-killed")
	p.press("q")
	p.await("the task of a silent worker", `document.querySelector('[data-testid=lease]')`)
	p.picture("9-worker-silent")
	p.await("the second attempt", fmt.Sprintf(`document.querySelector('[data-task="%s"][data-attempt="2"]')`, victim.ID))
	p.picture("10-taken-over")
	p.await("the end of the travel", fmt.Sprintf(`document.querySelector('[data-testid=ended] [data-task="%s"][data-status=Complete], [data-testid=ended][data-task="%[1]s"][data-status=Complete]')`, travel.ID))
	s.run.wantOneOf(travel, victim)

	p.press("g")
	p.await("one more video", fmt.Sprintf(tiles, "video")+fmt.Sprintf(" === %d", videos+1))
	p.press("b")
	p.await("the charge", `document.querySelector('[data-testid=ledger]')`)
	var charges int
	p.eval(fmt.Sprintf(`document.querySelectorAll('[data-testid=ledger] [data-kind=settle][data-task="%s"]').length`, travel.ID), &charges)
	if charges != 1 {
		s.t.Errorf("the credits show %d charges for the travel", charges)
	}
	p.picture("11-credits")
}

func (s *story) cancel() {
	p := s.wide
	p.press("q")
	travel := s.run.travelOf(900) // still runs when a slow browser has found the button
	row := fmt.Sprintf(`[data-testid=running] [data-task="%s"]`, travel.ID)
	p.await("the travel", fmt.Sprintf(`document.querySelector('%s')`, row))
	p.click(row + " [data-testid=cancel]")
	p.await("the end of it", fmt.Sprintf(`document.querySelector('[data-task="%s"][data-status=Cancelled]')`, travel.ID))
	var ledger []struct{ Kind string }
	s.run.rows("credit_ledger?order=seq&task_id=eq."+travel.ID.String(), &ledger)
	if len(ledger) != 2 || ledger[0].Kind != "hold" || ledger[1].Kind != "release" {
		s.t.Errorf("the ledger of a cancelled task: %+v", ledger)
	}
	p.picture("12-cancelled")
}

// order puts pictures into the shot, one onto the film by the mouse, and moves it by keys.
func (s *story) order() {
	p := s.wide
	p.press("g")
	p.click("pick")
	for _, caption := range []string{"a red apple", "a rocket"} {
		p.click(fmt.Sprintf(`[data-testid=tile][aria-label="Picture: %s"]`, caption))
	}
	p.choose("[data-testid=picked-bar] select", s.shot)
	p.sees("added to")
	p.click(fmt.Sprintf(`a[href$="/shot/%s"]`, s.shot))
	inTray := func(caption string) string {
		return fmt.Sprintf(`[data-testid=tray] [data-testid=tile][aria-label="Picture: %s"]`, caption)
	}
	for _, caption := range []string{"a red apple", "a rocket"} {
		p.await(caption+" in the tray", `document.querySelector('`+inTray(caption)+`')`)
	}
	for i, caption := range []string{"a red apple", "a rocket"} {
		p.drag(inTray(caption), "[data-testid=timeline]")
		p.await("the film to have it", fmt.Sprintf(`document.querySelectorAll('[data-testid=timeline] [data-testid=placed]').length === %d`, i+1))
	}
	s.wantOrder("a red apple", "a rocket")
	p.picture("13-shot")

	p.do(chromedp.Focus(css(`[data-testid=timeline] [data-testid=tile]`)))
	p.pressUntil(" ", "a red apple is over the place of a red apple")
	p.pressUntil(kb.ArrowRight, "a red apple is over the place of a rocket")
	p.pressUntil(" ", "a red apple was put to the place of a rocket")
	s.wantOrder("a rocket", "a red apple")

	// A travel through them, by the form. It need not be made.
	p.click("travel-of-shot")
	p.await("the form with both", `document.querySelectorAll('[data-testid=route] img').length === 2`)
	p.picture("14-create-travel")
	p.click("make")
	p.await("the travel", `document.querySelector('[data-testid=tray] [data-testid=developing]')`)
	p.press("q")
	p.click("[data-testid=running] [data-testid=cancel]")
	p.await("the end of it", `!document.querySelector('[data-testid=running]')`)
}

// pressUntil presses a key until the page tells who does not see it what happened: what is lifted listens to keys a moment later.
func (p *tab) pressUntil(key, words string) {
	p.t.Helper()
	told := fmt.Sprintf(`[...document.querySelectorAll('[aria-live]')].some(region => region.textContent.includes(%q))`, words)
	await(p.t, "the words: "+words, func() bool {
		p.press(key)
		for range 20 {
			if said, err := p.try(told); err == nil && said == "true" {
				return true
			}
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
}

// wantOrder demands that the film of the shot is in that order, on the page and in the database.
func (s *story) wantOrder(captions ...string) {
	s.t.Helper()
	s.wide.await("the order", fmt.Sprintf(`JSON.stringify([...document.querySelectorAll('[data-testid=timeline] [data-testid=tile]')].map(tile => tile.ariaLabel)) === %q`,
		`["Picture: `+strings.Join(captions, `","Picture: `)+`"]`))
	await(s.t, "the order in the database", func() bool {
		var links []struct {
			Generation string `json:"generation_id"`
		}
		s.run.rows("shot_generations?position=not.is.null&order=position&shot_id=eq."+s.shot, &links)
		var stored []string
		for _, link := range links {
			var rows []struct{ Params struct{ Prompt string } }
			s.run.rows("generations?id=eq."+link.Generation, &rows)
			stored = append(stored, rows[0].Params.Prompt)
		}
		return slices.Equal(stored, captions)
	})
}

// drag drags one thing onto another with the mouse.
func (p *tab) drag(from, to string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(css(to)))
	var at struct{ FromX, FromY, ToX, ToY float64 }
	p.eval(fmt.Sprintf(`(() => {
		const from = document.querySelector('%s').getBoundingClientRect(), to = document.querySelector('%s').getBoundingClientRect();
		return {FromX: from.x + from.width / 2, FromY: from.y + from.height / 2, ToX: to.right - 30, ToY: to.y + to.height / 2};
	})()`, from, to), &at)
	p.do(chromedp.DragAndDropXY(at.FromX, at.FromY, at.ToX, at.ToY, 20))
}

// cache follows the checklist of the spec, in words of its own version of TanStack Query and of this one.
func (s *story) cache() {
	p := s.wide
	p.press("g")
	p.await("the gallery", `document.querySelector('[data-testid=gallery] [data-testid=tile]')`)
	for _, line := range []string{`queryClient.getQueriesData(['generations', projectId])`, `queryClient.getQueriesData({queryKey: ['generations', projectId]})`} {
		var found [][]any
		p.eval(fmt.Sprintf(`((projectId) => %s)(%q)`, line, s.project), &found)
		if !slices.ContainsFunc(found, func(entry []any) bool {
			key, _ := entry[0].([]any)
			return len(key) >= 2 && key[0] == "generations" && key[1] == s.project && entry[1] != nil
		}) {
			s.t.Errorf("%s has no generations: %.500v", line, found)
		}
	}
}

// pages looks at each page on a screen and on a phone.
func (s *story) pages(phone *tab) {
	phone.darken()
	phone.open(s.address)
	for _, p := range []*tab{s.wide, phone} {
		for _, page := range []string{"gallery", "queue", "workers", "credits"} {
			p.click("nav-" + page)
			p.await("the page", fmt.Sprintf(`document.querySelector('[data-testid=nav-%s][aria-current=page]') && document.querySelector('main h1')`, page))
			p.await("what is on it", `!document.querySelector('main [role=status][aria-label=Loading]')`)
			p.fits()
			p.picture("page-" + page)
		}
		p.click("nav-gallery")
		p.click("[data-testid=tile][data-type=video]")
		p.await("the video to play", `document.querySelector('video[data-testid=large]')?.currentTime > 0`)
		p.fits()
		p.picture("page-video")
		p.click("close")
		p.click(map[*tab]string{s.wide: "create-picture", phone: "create"}[p])
		p.await("the form", `document.querySelector('dialog[open]')`)
		p.fits()
		p.picture("page-create")
		p.press(kb.Escape)
		p.await("the form to be closed", `!document.querySelector('dialog[open]')`)
		p.click(fmt.Sprintf(`a[href$="/shot/%s"]`, s.shot))
		p.await("the shot", `document.querySelector('[data-testid=timeline] img')?.naturalWidth > 0`)
		p.fits()
		p.picture("page-shot")
	}
	s.wide.press("g")
}

// broke signs up, and asks for a picture without a credit.
func (s *story) broke(p *tab) {
	p.open(s.run.environment("DARKROOM_URL"))
	p.await("the door", `document.querySelector('[data-testid=sign-in]')`)
	p.picture("1-door")
	p.click("sign-up-switch")
	p.write("[name=email]", "newcomer@example.com")
	p.write("[name=password]", "a long enough password")
	p.click("[data-testid=sign-in] button[type=submit]")
	p.write("[data-testid=new-project] input", "Mine")
	p.picture("2-project")
	p.click("[data-testid=new-project] button[type=submit]")
	p.await("the empty gallery", `document.querySelector('[data-testid=gallery-empty]')`)
	p.picture("3-empty")
	p.click("create")
	p.await("the form", `document.querySelector('dialog[open]')`)
	p.write("dialog[open] textarea", "a blue whale")
	end := p.tolerate(`status of 402`) // which Chromium says of every refusal
	p.do(chromedp.Click(css("dialog[open] button[type=submit]")))
	p.await("the toast", `/insufficient credits/i.test(document.querySelector('[data-testid=toasts]').innerText)`)
	p.picture("4-no-credits")
	end()
	p.fits()
}

// wire is a way to the gateway that can be cut.
type wire struct {
	net.Listener

	to    string
	mu    sync.Mutex
	isCut bool
	open  map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{Listener: listener, to: to, open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(near) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		w.cut()
		all.Wait()
	})
	return w
}

// carry joins a connection to one of the gateway, until either ends.
func (w *wire) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close()
	if !w.note(near, far) {
		return
	}
	go func() {
		_, _ = io.Copy(far, near)
		far.Close()
	}()
	_, _ = io.Copy(near, far)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, near)
	delete(w.open, far)
}

func (w *wire) note(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		w.open[conn] = true
	}
	return !w.isCut
}

// cut ends all connections, and others that come.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for conn := range w.open {
		conn.Close()
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}

// cut looks at the console over a wire, and makes pictures while that is cut.
func (s *story) cut(p *tab) {
	gateway := s.run.environment("DARKROOM_URL")
	wire := newWire(s.t, strings.TrimPrefix(gateway, "http://"))
	p.open(strings.Replace(s.address, gateway, "http://"+wire.Addr().String(), 1))
	p.await("a live connection", `document.querySelector('[data-testid=connection]')?.dataset.status === 'live'`)
	p.await("the gallery", `document.querySelector('[data-testid=gallery] [data-testid=tile]')`)
	p.eval(`window.sameDocument = true`, new(bool))

	end := p.tolerate(`ERR_|WebSocket`)
	wire.cut()
	p.await("the banner", `document.querySelector('[data-testid=banner-offline]')`)
	p.picture("1-offline")
	var missed []string
	for _, prompt := range []string{"a pink flower", "a brown dog", "a white rabbit"} {
		body := fmt.Sprintf(`{"project_id":%q,"tool_id":"image-generation","input":{"prompt":%q}}`, s.project, prompt)
		var task taskdb.Task
		must(s.t, json.Unmarshal(s.run.request(http.MethodPost, "/functions/v1/create_task", strings.NewReader(body)), &task))
		s.run.until(`^image: \S+/tasks/` + task.ID.String() + `/`)
		missed = append(missed, prompt)
	}
	wire.mend()
	p.await("that it is back", `/caught up/.test(document.querySelector('[data-testid=banner-back]')?.innerText)`)
	end()
	p.picture("2-back")
	for _, prompt := range missed {
		p.await(prompt, tileOf(prompt))
		s.wide.await(prompt, tileOf(prompt)) // which was not cut
	}
	var same bool
	if p.eval(`window.sameDocument === true`, &same); !same {
		s.t.Error("the page was loaded anew")
	}
}

// restart ends everything as Ctrl-C does, and starts it again.
func (s *story) restart(listen string) {
	p := s.wide
	p.press("g")
	home := s.run.home
	end := p.tolerate(`ERR_|WebSocket|status of 50`)
	must(s.t, s.run.cmd.Process.Signal(os.Interrupt))
	if code := s.run.ended(); code != 0 {
		s.t.Errorf("exit code %d:\n%s", code, strings.Join(s.run.said, "\n"))
	}
	p.await("the banner", `document.querySelector('[data-testid=banner-offline]')`)
	s.run = start(s.whole, home, listen)
	s.run.t = s.t
	s.run.until(`^ready in`)
	p.await("that it is back", `document.querySelector('[data-testid=connection]').dataset.status === 'live'`)
	end()
	body := fmt.Sprintf(`{"project_id":%q,"tool_id":"image-generation","input":{"prompt":"a purple car"}}`, s.project)
	s.run.request(http.MethodPost, "/functions/v1/create_task", strings.NewReader(body))
	p.await("a picture of after that", tileOf("a purple car"))
}
