package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"darkroom/workerd/engine"
)

func TestClassOf(t *testing.T) {
	t.Parallel()
	broken := &engine.Error{Class: engine.BadInput, Message: "The picture is empty.", Err: context.Canceled}
	for name, test := range map[string]struct {
		err  error
		want engine.Class
	}{
		"nil":                       {nil, ""},
		"wrapped":                   {fmt.Errorf("run: %w", broken), engine.BadInput},
		"cancelled context":         {fmt.Errorf("run: %w", context.Canceled), engine.Cancelled},
		"deadline":                  {fmt.Errorf("run: %w", context.DeadlineExceeded), engine.Timeout},
		"unknown goes to the queue": {errors.New("pipe broke"), engine.EngineDown},
	} {
		if got := engine.ClassOf(test.err); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	if !errors.Is(broken, context.Canceled) {
		t.Error("the cause is lost")
	}
}

func TestMessageOfHidesWhatNobodyWroteForTheOwner(t *testing.T) {
	t.Parallel()
	hidden := errors.New("open /secret/path: no such file")
	if got := engine.MessageOf(hidden); got == "" || got == hidden.Error() {
		t.Errorf("got %q", got)
	}
	shown := fmt.Errorf("run: %w", &engine.Error{Class: engine.BadInput, Message: "The picture is empty.", Err: hidden})
	if got, want := engine.MessageOf(shown), "The picture is empty."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	if err := engine.Stopped(ctx); err != nil {
		t.Errorf("still running: %v", err)
	}
	cancel()
	if got := engine.ClassOf(engine.Stopped(ctx)); got != engine.Cancelled {
		t.Errorf("cancelled: %q", got)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancelLate()
	if got := engine.ClassOf(engine.Stopped(late)); got != engine.Timeout {
		t.Errorf("late: %q", got)
	}
}
