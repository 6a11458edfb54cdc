package taskdb_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

func (b *bench) folder(task uuid.UUID, attempt int) string {
	return fmt.Sprintf("%s/tasks/%s/%d", b.owner, task, attempt)
}

func (b *bench) wantOrphans(folders []string, want ...string) {
	b.t.Helper()
	got, err := b.OrphanedOutputs(b.t.Context(), folders)
	b.noError(err)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Fatalf("orphans are %q, want %q", got, want)
	}
}

// Through the life of a task: while it may complete, its last attempt's files stay; those of earlier attempts, and of one that failed, are orphans.
func TestFilesOfAttemptsThatAreOverAreOrphans(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	task := b.image()
	first, second, third := b.folder(task.ID, 1), b.folder(task.ID, 2), b.folder(task.ID, 3)
	all := []string{first, second, third, b.folder(task.ID, 12)}
	b.wantOrphans(all) // Queued

	b.claimThis(anyWorker, task)
	b.wantOrphans(all)
	b.release(b.get(task.ID))
	b.wantOrphans(all) // the attempt is over, but it is still the last
	again := b.claimThis(anyWorker, task)
	b.wantOrphans(all, first)

	_, err := b.CompleteTask(t.Context(), taskdb.HoldOf(again), taskdb.Output{
		Location: "http://gateway/storage/v1/object/public/image_uploads/" + second + "/out.png",
	})
	b.noError(err)
	b.wantOrphans(all, first)

	failed := b.image()
	b.claimThis(anyWorker, failed)
	b.fail(b.get(failed.ID), "no")
	cancelled := b.image()
	b.claimThis(anyWorker, cancelled)
	_, err = b.CancelTask(t.Context(), cancelled.ID, "")
	b.noError(err)
	over := []string{b.folder(failed.ID, 1), b.folder(cancelled.ID, 1)}
	b.wantOrphans(append(over, b.folder(failed.ID, 2)), over...)
}

// A row that names a folder anywhere keeps it, also a row of something else.
func TestAFolderThatARowNamesIsNoOrphan(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	orphan := func() string {
		t.Helper()
		task := b.image()
		b.claimThis(anyWorker, task)
		b.fail(b.get(task.ID), "no")
		return b.folder(task.ID, 1)
	}
	other := b.image()
	b.complete(b.claimThis(anyWorker, other))
	for _, statement := range []string{
		"update tasks set thumbnail_url = $1 where id = $2",
		"update tasks set metadata = jsonb_build_object('a', jsonb_build_array($1::text)) where id = $2",
		"update generations set location = $1 where source_task_id = $2",
		"update generations set thumbnail_url = $1 where source_task_id = $2",
		"update generations set params = jsonb_build_object('poster', $1::text) where source_task_id = $2",
		"update generations set metadata = jsonb_build_object($1::text, 1) where source_task_id = $2",
		"update generations set location = $1, source_task_id = null where source_task_id = $2", // of no task here
	} {
		kept, lost := orphan(), orphan()
		b.exec(statement, "https://media.example.com/x/"+kept+"/out.png?t=1", other.ID)
		if got, err := b.OrphanedOutputs(t.Context(), []string{kept, lost}); err != nil || !slices.Equal(got, []string{lost}) {
			t.Errorf("%s: orphans are %q, %v; want %q", statement, got, err, lost)
		}
	}

	// As the input of another task.
	kept, lost := orphan(), orphan()
	b.image("start_image", kept+"/out.png")
	b.wantOrphans([]string{kept, lost}, lost)
}

// Pictures of what was unfinished go with their attempt, whatever becomes of its other files and whoever names them.
func TestPreviewsOfAttemptsThatAreOverAreOrphans(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	task := b.image()
	of := func(attempt int) string { return b.folder(task.ID, attempt) + "/previews" }
	all := []string{of(1), of(2), of(3), of(0), of(2) + "/", of(2) + "/1.jpg", b.folder(task.ID, 2) + "/preview", b.folder(uuid.New(), 1) + "/previews"}
	b.wantOrphans(all)
	b.release(b.claimThis(anyWorker, task))
	b.wantOrphans(all)
	again := b.claimThis(anyWorker, task)
	b.wantOrphans(all, of(1))
	output := "http://gateway/storage/v1/object/public/image_uploads/" + b.folder(task.ID, 2) + "/out.png"
	_, err := b.CompleteTask(t.Context(), taskdb.HoldOf(again), taskdb.Output{Location: output})
	b.noError(err)
	b.image("start_image", of(2)+"/1.jpg")
	b.wantOrphans(append(all, b.folder(task.ID, 1), b.folder(task.ID, 2)), of(1), of(2), b.folder(task.ID, 1))
}

// What this database does not know well enough is never an orphan.
func TestUnknownFoldersAreNoOrphans(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	task := b.image()
	b.claimThis(anyWorker, task)
	b.fail(b.get(task.ID), "no")
	orphan := b.folder(task.ID, 1)
	stranger := uuid.NewString()
	b.wantOrphans([]string{
		orphan, orphan, "", "a", b.folder(uuid.New(), 1), b.folder(task.ID, 0), orphan + "/", orphan + "/out.png", "/" + orphan, " " + orphan,
		stranger + "/tasks/" + task.ID.String() + "/1", b.owner.String() + "/uploads/a", b.folder(task.ID, 0) + "1", strings.ToUpper(orphan),
		b.owner.String() + "/tasks/" + task.ID.String() + "/99999999999", b.owner.String() + "/tasks/x/1", orphan + "\n",
	}, orphan)
	b.wantOrphans([]string{})
	b.wantOrphans(nil)
	if got := value[[]string](b, "select orphaned_outputs(array[null, $1])", orphan); !slices.Equal(got, []string{orphan}) {
		t.Errorf("beside null: %q", got)
	}
}
