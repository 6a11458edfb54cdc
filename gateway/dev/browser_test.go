package dev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// chromium returns the path of a browser. Without one it skips the test, unless DARKROOM_REQUIRE_CHROMIUM is set.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("DARKROOM_REQUIRE_CHROMIUM") != "" {
		t.Fatal("no Chromium is installed, and DARKROOM_REQUIRE_CHROMIUM is set")
	}
	t.Skip("no Chromium is installed")
	return ""
}

// newBrowser starts a browser, whose tabs are made from the context.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.WindowSize(1280, 800))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to run as root in its sandbox
	}
	ctx, cancel := chromedp.NewContext(t.Context(), chromedp.WithAllocatorOptions(options...))
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	return ctx
}

// tab is a tab of a browser, with cookies and storage of its own. Whatever the page complains of in its console fails the test.
type tab struct {
	t     *testing.T
	whole *testing.T      // of which t may be a part
	ctx   context.Context //nolint:containedctx // it is the tab, as chromedp has it
	name  string

	mu        sync.Mutex
	tolerated *regexp.Regexp // what it may say just now
}

func newTab(t *testing.T, browser context.Context, name string, width, height int64, options ...chromedp.EmulateViewportOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &tab{t: t, whole: t, ctx: ctx, name: name}
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, height, options...)))
	messages := chromedp.Console(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for message, err := range messages {
			if err != nil {
				return
			}
			p.hear(message)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
	})
	return p
}

// hear fails the test for what the page complains of. Refusals by the Content-Security-Policy are among that.
func (p *tab) hear(message chromedp.ConsoleMessage) {
	switch message.Type {
	case chromedp.ConsoleError, chromedp.ConsoleWarning, chromedp.ConsoleException:
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if text := fmt.Sprintf("%s (%s %s)", message, message.Source, message.URL); p.tolerated == nil || !p.tolerated.MatchString(text) {
		p.whole.Errorf("%s: the page complains: %s", p.name, text)
	}
}

// tolerate names what the page may complain of until the function that it returns is called.
func (p *tab) tolerate(pattern string) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tolerated = regexp.MustCompile(pattern)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tolerated = nil
	}
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.failf("%v", err)
	}
}

// open goes to an address. One that differs in its fragment alone is loaded, too.
func (p *tab) open(address string) {
	p.t.Helper()
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(address))
}

// eval returns what an expression is on the page, where a promise is waited for.
func (p *tab) eval(expression string, into any) {
	p.t.Helper()
	text, err := p.try(expression)
	if err != nil {
		p.failf("%s: %v", expression, err)
	}
	must(p.t, json.Unmarshal([]byte(text), into))
}

func (p *tab) try(expression string) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[string](`(async () => JSON.stringify((await (`+expression+`)) ?? null))()`, chromedp.EvalAwaitPromise))
}

// await waits until an expression is true on the page, whatever the page does meanwhile.
func (p *tab) await(what, expression string) {
	p.t.Helper()
	var last string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		said, err := p.try("!!(" + expression + ")")
		if err == nil && said == "true" {
			return
		}
		if last = said; err != nil {
			last = err.Error()
		}
		if time.Now().After(deadline) {
			p.failf("waited in vain for %s: %s is %s", what, expression, last)
		}
	}
}

// failf ends the test with a picture of the page.
func (p *tab) failf(format string, args ...any) {
	p.t.Helper()
	p.picture("failed")
	seen, err := p.try(`document.body.innerText`)
	if err != nil {
		seen = err.Error()
	}
	p.t.Fatalf("%s: %s\nthe page says: %.4000s", p.name, fmt.Sprintf(format, args...), strings.ReplaceAll(seen, `\n`, "\n"))
}

// still waits until pictures are there and what moves for a while has moved, for 2 s at most.
const still = `Promise.race([
	new Promise(done => setTimeout(done, 2000)),
	(async () => {
		await Promise.allSettled([...document.images].filter(i => i.checkVisibility() && i.loading !== 'lazy').map(i => i.decode()));
		await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
		await Promise.allSettled(document.getAnimations().filter(a => a.effect.getComputedTiming().endTime !== Infinity).map(a => a.finished));
	})(),
]).then(() => true)`

// picture keeps a picture of the page in the folder DARKROOM_ARTIFACTS.
func (p *tab) picture(name string) {
	folder := os.Getenv("DARKROOM_ARTIFACTS")
	if folder == "" {
		return
	}
	_, _ = p.try(still) // what it is like once nothing moves; else as it is
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, p.name+"-"+name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Errorf("keeping the picture %s: %v", name, err)
	}
}

// css is a selector, by data-testid unless it is a whole one.
func css(name string) chromedp.CSS {
	if strings.ContainsAny(name, "[. #:>") {
		return chromedp.CSS(name)
	}
	return chromedp.CSS("[data-testid=" + name + "]")
}

func (p *tab) click(name string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(css(name)), chromedp.Click(css(name)))
}

func (p *tab) write(name, text string) {
	p.t.Helper()
	p.do(chromedp.Focus(css(name)), chromedp.SendKeys(css(name), text))
}

// choose chooses in a list.
func (p *tab) choose(name, value string) {
	p.t.Helper()
	p.eval(fmt.Sprintf(`((list) => {
		Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value').set.call(list, %q);
		list.dispatchEvent(new Event('change', {bubbles: true}));
	})(document.querySelector('%s'))`, value, css(name)), new(any))
}

// point moves the mouse onto something.
func (p *tab) point(name string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(css(name)))
	var at struct{ X, Y float64 }
	p.eval(fmt.Sprintf(`(({x, y, width, height}) => ({X: x + width / 2, Y: y + height / 2}))(document.querySelector('%s').getBoundingClientRect())`, css(name)), &at)
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at.X, at.Y))
}

// darken has the page be dark, as its user would want it.
func (p *tab) darken() {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
	must(p.t, err)
}

// press presses keys, wherever the focus is.
func (p *tab) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// sees demands that the page shows a text, soon.
func (p *tab) sees(text string) {
	p.t.Helper()
	p.await("the text "+text, fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

// fits demands that nothing of the page lies beside the screen.
func (p *tab) fits() {
	p.t.Helper()
	var wide struct{ Page, Screen int }
	p.eval(`({Page: document.documentElement.scrollWidth, Screen: innerWidth})`, &wide)
	if wide.Page > wide.Screen {
		p.t.Errorf("%s: the page is %d wide, the screen %d", p.name, wide.Page, wide.Screen)
	}
}
