package taskdb_test

import (
	"strings"
	"testing"
	"time"

	"darkroom/sql/taskdb"
)

// A task shows a preview while an attempt runs, and only then; whatever else its progress says stays. The events, folded, give the row.
func TestAPreviewIsForgottenWhenItsAttemptEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(b *bench, task taskdb.Task)
		want string // of the progress, as text
	}{
		"complete": {func(b *bench, task taskdb.Task) { b.complete(task) }, `{"percent": 50}`},
		"failed":   {func(b *bench, task taskdb.Task) { b.fail(task, "no") }, `{"percent": 50}`},
		"released": {func(b *bench, task taskdb.Task) { b.release(task) }, ""},
		"cancelled": {func(b *bench, task taskdb.Task) {
			_, err := b.CancelTask(b.t.Context(), task.ID, "")
			b.noError(err)
		}, `{"percent": 50}`},
		"silent": {func(b *bench, task taskdb.Task) {
			b.age(anyWorker, time.Hour)
			b.requeueExpired()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 10)
			task := b.claimThis(anyWorker, b.image())
			const address = "http://gateway/previews/1.jpg"
			b.noError(b.ReportProgress(t.Context(), taskdb.HoldOf(task), object("percent", 50, "preview", address)))
			if got := b.get(task.ID); !strings.Contains(string(got.Progress), address) {
				t.Fatalf("a running task shows %s", got.Progress)
			}
			test.end(b, b.get(task.ID))
			if got := b.get(task.ID); got.Status == taskdb.StatusInProgress || string(got.Progress) != test.want {
				t.Errorf("a task that is %s shows %s", got.Status, got.Progress)
			}
			b.healthy()
		})
	}
}
