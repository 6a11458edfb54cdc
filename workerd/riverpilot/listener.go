package riverpilot

import (
	"context"

	"github.com/riverqueue/river/riverdriver"
)

// listener is River's listener, through which this worker can also ring for itself: an engine that is free again, or a second look, need not wake
// all workers.
type listener struct {
	riverdriver.Listener

	pilot *pilot
	rung  bool // by ourselves, and River has not been told
}

// WaitForNotification returns the next notification of the database, or one of our own.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	if !l.rung {
		heard, err := l.wait(ctx)
		if !l.rung || err == nil || ctx.Err() != nil {
			return heard, err
		}
	}
	l.rung = false
	return &riverdriver.Notification{Topic: "river_insert", Payload: `{"queue":"` + Queue + `"}`}, nil // as notify_workers says it
}

// wait waits for the database, or for our own ring, which ends it with an error.
func (l *listener) wait(ctx context.Context) (*riverdriver.Notification, error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-l.pilot.config.Wake:
			l.rung = true
			cancel()
		case <-l.pilot.again:
			l.rung = true
			cancel()
		case <-ctx.Done():
		}
	}()
	heard, err := l.Listener.WaitForNotification(ctx)
	cancel()
	<-ended
	if err == nil {
		l.pilot.heard.Store(true)
		l.pilot.rung.Store(true)
	}
	return heard, err //nolint:wrapcheck // River's own
}
