package taskdb

import (
	"context"

	"github.com/google/uuid"
)

// RequeueExpiredTasks queues again what silent workers hold, and returns those tasks. To be called every few seconds.
func (db *DB) RequeueExpiredTasks(ctx context.Context, maxTasks int) ([]Task, error) {
	return rowsOf[Task](ctx, db, callRequeueExpiredTasks, maxTasks)
}

// AdmitDueTasks files the tasks whose retry is due, and returns how many. To be called about every second.
func (db *DB) AdmitDueTasks(ctx context.Context, maxTasks int) (int, error) {
	return valueOf[int](ctx, db, callAdmitDueTasks, maxTasks)
}

// AdmitTasks repairs the queue of one owner and returns how many faults it mended.
func (db *DB) AdmitTasks(ctx context.Context, owner uuid.UUID) (int, error) {
	return valueOf[int](ctx, db, callAdmitTasks, owner)
}

// SweepTasks looks for what the queue or the trigger missed, and mends it. To be called about once a minute.
func (db *DB) SweepTasks(ctx context.Context, maxTasks int) (SweepReport, error) {
	return rowOf[SweepReport](ctx, db, callSweepTasks, maxTasks)
}

// OrphanedOutputs returns those of the folders in storage, "{owner}/tasks/{task}/{attempt}", whose files no row refers to and whose attempt is over; of
// "{owner}/tasks/{task}/{attempt}/previews" those whose attempt is over.
// It says nothing of how old the files are: those of a day or more can be deleted.
func (db *DB) OrphanedOutputs(ctx context.Context, folders []string) ([]string, error) {
	return valueOf[[]string](ctx, db, callOrphanedOutputs, folders)
}

// DueErasures lists the erased users whose files in storage are to be deleted now, those who wait longest first.
func (db *DB) DueErasures(ctx context.Context) ([]Erasure, error) {
	return rowsOf[Erasure](ctx, db, callDueErasures)
}

// MarkErasureSwept notes that the files of an erased user were deleted just now. Errors: ErrUserNotFound.
func (db *DB) MarkErasureSwept(ctx context.Context, user uuid.UUID) (Erasure, error) {
	return rowOf[Erasure](ctx, db, callMarkErasureSwept, user)
}

// PurgeExpired deletes rows that have served their time, and returns how many. To be called about once an hour.
func (db *DB) PurgeExpired(ctx context.Context) (int64, error) {
	return valueOf[int64](ctx, db, callPurgeExpired)
}

// TickReadyMark moves the mark where claims start reading; false when it could not be moved just now. To be called with whole every
// 2 s, and without about every 25 ms while claims happen.
func (db *DB) TickReadyMark(ctx context.Context, whole bool) (bool, error) {
	return valueOf[bool](ctx, db, callTickReadyMark, whole)
}

// InvariantViolations lists the faults of the database; none when healthy. It reads everything.
func (db *DB) InvariantViolations(ctx context.Context) ([]Violation, error) {
	return rowsOf[Violation](ctx, db, callInvariantViolations)
}

// ArmEventBell asks to be notified on EventChannel, once, when something is next written to the event log.
func (db *DB) ArmEventBell(ctx context.Context) error {
	_, err := valueOf[*string](ctx, db, callArmEventBell)
	return err
}
