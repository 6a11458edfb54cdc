package main

// target is a row of the table of targets.
type target struct {
	id, text, unit string
	bound          float64
	atMost         bool
}

var targets = []target{
	{id: "one/limit", text: "claim + complete one at a time, everything on ÷ limit (8 connections)", bound: 0.50},
	{id: "one/river", text: "the same ÷ River's driver verbs (8 connections)", bound: 1.3},
	{id: "pinned/rate", text: "jobs/s after the churn under a pinned xmin ÷ before, limit taken out", bound: 0.9},
	{id: "pinned/buffers", text: "buffers a task after the churn under a pinned xmin ÷ before", bound: 1.2, atMost: true},
	{id: "broke/buffers", text: "median buffers a claim behind a broke owner ÷ without", bound: 1.2, atMost: true},
	{id: "depth/p99", text: "claim p99 at 5M queued + 5M finished ÷ at 1k", bound: 1.5, atMost: true},
	{id: "hot/rate", text: "one hot owner ÷ many owners, 8 claimers", bound: 0.5},
	{id: "batch/noop", text: "batches of 100: claim + complete, no-op, a second", bound: 20_000},
	{id: "batch/full", text: "batches of 100: claim + complete, full outcome, a second", bound: 5_000},
	{id: "create/bulk", text: "bulk create ÷ bulk insert into a table with one index", bound: 0.6},
	{id: "notify/rate", text: "NOTIFY on ÷ off at 32 connections", bound: 0.95},
	{id: "wal/full", text: "WAL a task, full outcome, without page images", unit: "B", bound: 3_000, atMost: true},
	{id: "one/cpu", text: "backend CPU a task ÷ limit's (8 connections)", bound: 3, atMost: true},
	{id: "latency/p50", text: "create to start on an idle system, p50", unit: "ms", bound: 2, atMost: true},
	{id: "latency/p99", text: "create to start on an idle system, p99", unit: "ms", bound: 20, atMost: true},
}

type measured struct {
	value  float64
	remark string
}

// target notes what was measured for a target; remark says under which conditions, or is empty.
func (r *report) target(id string, value float64, remark string) {
	r.targets[id] = measured{value, remark}
}

// hit says whether a value reaches the target.
func (t target) hit(value float64) bool {
	if t.atMost {
		return value <= t.bound
	}
	return value >= t.bound
}

func (r *report) targetRows() [][]string {
	var rows [][]string
	for _, t := range targets {
		got, ok := r.targets[t.id]
		if !ok {
			continue
		}
		sign, verdict, unit := "≥ ", "missed", ""
		if t.atMost {
			sign = "≤ "
		}
		if t.hit(got.value) {
			verdict = "hit"
		}
		if t.unit != "" {
			unit = " " + t.unit
		}
		rows = append(rows, []string{t.text, sign + number(t.bound) + unit, number(got.value) + unit, verdict, got.remark})
	}
	return rows
}
