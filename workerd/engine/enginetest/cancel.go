package enginetest

import (
	"context"
	"testing"
	"time"

	"darkroom/workerd/engine"
)

// BenchmarkCancel measures the time from a cancel to the free slot, on average and at worst. long makes a task as for [Subject.Long].
func BenchmarkCancel(b *testing.B, e engine.Engine, long func() engine.Task) {
	b.Helper()
	var total, worst time.Duration
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		task, sink := long(), newSink(b)
		cancelled := make(chan time.Time, 1)
		go func() {
			select {
			case <-sink.moving:
			case <-ctx.Done():
			}
			cancelled <- time.Now()
			cancel()
		}()
		_, err := e.Run(ctx, task, sink)
		ended := time.Now()
		cancel()
		took := ended.Sub(<-cancelled)
		if class := engine.ClassOf(err); class != engine.Cancelled {
			b.Fatalf("the cancelled task ended as %q: %v", class, err)
		}
		total, worst = total+took, max(worst, took)
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N)/1000, "ms/cancel")
	b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
}
