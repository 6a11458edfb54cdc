package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

const segments = 100

// travel takes whole trees of 100 segments from creation to the finished video.
func travel(ctx context.Context, e *env) error {
	ours, err := e.newDarkroom(ctx, "darkroom", 1, false)
	if err != nil {
		return err
	}
	tasks, err := ours.projects(ctx, 1)
	if err != nil {
		return err
	}
	tree := tasks[0]
	tree.TaskType = "travel_orchestrator"
	images := make([]string, segments+1)
	for i := range images {
		images[i] = fmt.Sprintf("https://example.com/%d.png", i)
	}
	if tree.Params, err = json.Marshal(map[string]any{"orchestrator_details": map[string]any{
		"num_new_segments_to_generate": segments, "input_image_paths_resolved": images, "parsed_resolution_wh": "768x512",
	}}); err != nil {
		return fmt.Errorf("params: %w", err)
	}
	pool, err := openPool(ctx, ours.url, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	var rows [][]string
	for _, batch := range []int{1, 10} {
		var whole, expand, work []float64
		var before, after snapshot
		for i := range e.opts.rounds + 1 { // the first makes the plans
			if i == 1 {
				if before, err = e.snap(ctx, ours.contender, still{}); err != nil {
					return err
				}
			}
			began := time.Now()
			expanding, working, err := oneTree(ctx, ours, pool, tree, batch)
			if err != nil {
				return err
			}
			if i > 0 {
				whole, expand, work = append(whole, milliseconds(time.Since(began))), append(expand, expanding), append(work, working)
			}
		}
		if after, err = e.snap(ctx, ours.contender, still{}); err != nil {
			return err
		}
		trees := float64(e.opts.rounds)
		var cpu time.Duration
		for pid, spent := range after.cpu {
			cpu += spent - before.cpu[pid]
		}
		rows = append(rows, []string{
			fmt.Sprintf("in batches of %d", batch), number(median(whole)), number(percentile(whole, 0)) + " to " + number(percentile(whole, 100)), number(median(expand)), number(median(work)),
			number((segments + 2) / median(whole) * 1000), number(milliseconds(cpu) / trees), number((after.buffers - before.buffers) / trees),
			number((after.statements - before.statements) / trees), number(float64(after.wal-before.wal) / 1024 / trees),
		})
	}
	e.report.table(fmt.Sprintf("A travel tree of %d segments, 1 connection", segments),
		"Medians; ms from its creation to the completed stitch, of the expansion, and of claiming and completing the segments. CPU, buffers, statements and WAL: of a tree.",
		[]string{"", "ms", "lowest to highest", "expand ms", "segments ms", "tasks/s", "CPU ms", "buffers", "statements", "WAL kB"}, rows)
	return e.finish(ctx, ours.contender)
}

// oneTree makes a tree and does all of its tasks; it returns how long the expansion and the segments took, in ms.
func oneTree(ctx context.Context, d *darkroom, pool *pgxpool.Pool, tree taskdb.NewTask, batch int) (expand, work float64, err error) {
	db := taskdb.New(pool)
	if _, err := db.CreateTask(ctx, tree); err != nil {
		return 0, 0, err
	}
	task, ok, err := db.ClaimNextTask(ctx, workerID(0))
	if err != nil || !ok || task.TaskType != tree.TaskType {
		return 0, 0, fmt.Errorf("the orchestrator was not claimed: %w", err)
	}
	began := time.Now()
	if _, err := db.ExpandTravelOrchestrator(ctx, taskdb.HoldOf(task)); err != nil {
		return 0, 0, err
	}
	expand = milliseconds(time.Since(began))
	began = time.Now()
	d.created += segments + 2
	for left := segments + 1; left > 0; {
		var n int
		if batch == 1 {
			n, err = claimAndComplete(ctx, db, workerID(0))
		} else {
			n, err = claimAndCompleteMany(ctx, db, workerID(0), batch)
		}
		if err == nil && n == 0 {
			err = errQueueEmpty
		}
		if err != nil {
			return 0, 0, err
		}
		left -= n
	}
	d.done += segments + 2
	return expand, milliseconds(time.Since(began)), nil
}

// still is a session that does nothing.
type still struct{}

func (still) count(context.Context) (int64, error) { return 0, nil }
func (still) stop(context.Context) (int64, error)  { return 0, nil }
