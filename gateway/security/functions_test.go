package security_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// functionProbe is a call that aims at A's things.
type functionProbe struct {
	call    string   // {a}, {queued}, ... are A's ids
	may     []string // the callers for whom it does something with A's things, or with nobody's
	scoped  bool     // others may call it, and reach their own
	neutral bool     // it touches nothing of anybody's
	refusal string   // a code that says no to strangers besides those of refusal()
}

var (
	workersOfAll = []string{"A's worker", "worker of nobody", "trusted worker", "service"}
	allWorkers   = []string{"A's worker", "B's worker", "worker of nobody", "trusted worker"}
	gatewayAlone = []string{"gateway's login"}
)

// functions is the matrix. A function that is missing here fails TestS01. Trigger functions need no row: nobody may call one.
var functions = map[string]functionProbe{
	// for apps
	"public.calculate_task_cost": {call: `select calculate_task_cost(task_type => 'single_image', params => '{"prompt":"x"}')`, may: everyone, neutral: true},
	"public.create_task":         {call: `select create_task({project}, task_type => 'single_image', params => '{"prompt":"{canary}"}')`, may: plus(owners, "trusted worker")},
	"public.create_tasks":        {call: `select create_tasks(array[jsonb_populate_record(null::new_task, jsonb_build_object('project_id', {project}, 'task_type', 'single_image', 'params', '{"prompt":"{canary}"}'::jsonb))])`, may: plus(owners, "trusted worker")},
	"public.cancel_task":         {call: "select cancel_task({queued})", may: plus(owners, "trusted worker")},
	"public.get_task":            {call: "select get_task({queued})", may: owners},
	"public.explain_task":        {call: "select explain_task({failed})", may: owners},
	"public.retry_task":          {call: "select retry_task({failed}, '{canary}')", may: owners},
	"public.list_workers":        {call: `select l::text || case when l.running @> jsonb_build_array(jsonb_build_object('task_id', {running})) then '{canary}' else '' end from list_workers() l`, may: owners, scoped: true},
	"public.list_generations":    {call: "select list_generations({project})", may: owners},
	"public.get_credits":         {call: "select get_credits({a})", may: owners},
	"public.create_project":      {call: "select create_project({a}, '{canary}')", may: owners},
	"public.create_shot":         {call: "select create_shot({project}, '{canary}')", may: owners},
	"public.create_access_token": {call: "select create_access_token('user', '{canary}', null, {a})", may: []string{"A", "service"}},
	"public.list_access_tokens":  {call: "select list_access_tokens({a})", may: owners, scoped: true},
	"public.revoke_access_token": {call: "select revoke_access_token({token})", may: owners},
	"public.create_user":         {call: "select create_user({a}, 'new@example.com')", may: service},
	"public.grant_credits":       {call: "select grant_credits({a}, 5)", may: service},
	"public.set_queue_limit":     {call: "select set_queue_limit(7, {a})", may: service},
	"public.list_audit":          {call: "select list_audit({a})", may: service},

	// for workers
	"public.register_worker":            {call: "select register_worker({worker})", may: []string{"A's worker"}, scoped: true, refusal: "TD003"},
	"public.claim_next_task":            {call: "select claim_next_task(NAME)", may: []string{"A's worker", "worker of nobody", "trusted worker"}, scoped: true},
	"public.claim_next_tasks":           {call: "select claim_next_tasks(NAME, 10)", may: []string{"A's worker", "worker of nobody", "trusted worker"}, scoped: true},
	"public.heartbeat_worker":           {call: `select heartbeat_worker({worker}, '[{"task_id":{"running"},"attempt":1,"progress":{"percent":5}}]')`, may: plus(upkeep, "A's worker")},
	"public.report_progress":            {call: `select report_progress({running}, {worker}, 1, '{"percent":5}')`, may: plus(upkeep, "A's worker")},
	"public.complete_task":              {call: "select complete_task({running}, 'https://x.test/1')", may: plus(upkeep, "A's worker")},
	"public.complete_tasks":             {call: "select complete_tasks({worker}, array[row({running}, 1, 'https://x.test/1', '{}', null)::completion])", may: plus(upkeep, "A's worker"), scoped: true},
	"public.process_completed_task":     {call: `select process_completed_task({running}, '{"output_location":"https://x.test/1"}')`, may: plus(upkeep, "A's worker")},
	"public.fail_task":                  {call: "select fail_task({running}, 'no')", may: plus(upkeep, "A's worker")},
	"public.release_task":               {call: "select release_task({running}, {worker}, 1)", may: plus(upkeep, "A's worker")},
	"public.get_dependency_outputs":     {call: "select get_dependency_outputs({waiting})", may: upkeep},
	"public.expand_travel_orchestrator": {call: "select expand_travel_orchestrator({travel}, {worker}, 1)", may: plus(upkeep, "A's worker")},

	// for workers that name neither themselves nor the attempt
	"public.claim_for_silent_worker":         {call: "select claim_for_silent_worker(NAME)", may: workersOfAll, scoped: true},
	"public.func_worker_heartbeat_with_logs": {call: "select func_worker_heartbeat_with_logs({worker}, status_param => 'crashed')", may: plus(upkeep, "A's worker"), scoped: true},
	"public.update_worker_model":             {call: "select update_worker_model({worker}, '{canary}')", may: plus(upkeep, "A's worker"), scoped: true},
	"public.update_task_status":              {call: "select update_task_status({running}, 'Failed', '{canary}')", may: plus(upkeep, "A's worker")},
	"public.update_shot_pair_prompts":        {call: `select update_shot_pair_prompts({running}, {shot}, '["{canary}"]')`, may: plus(upkeep, "A's worker")},
	"public.check_completion":                {call: "select check_completion({running})", may: plus(upkeep, "A's worker")},
	"public.get_task_output":                 {call: "select get_task_output({running})", may: plus(upkeep, "A's worker")},
	"public.get_task_status":                 {call: "select get_task_status({running})::text || '{canary}'", may: plus(upkeep, "A's worker")},
	"public.get_predecessor_output":          {call: "select coalesce(get_predecessor_output({running})::text, '') || '{canary}'", may: plus(upkeep, "A's worker")},
	"public.get_orchestrator_children":       {call: "select get_orchestrator_children({travel})::text || '{canary}'", may: plus(upkeep, "A's worker")},
	"public.get_completed_segments":          {call: "select get_completed_segments('{canary}')", may: plus(upkeep, "A's worker", "B's worker", "worker of nobody"), neutral: true},
	"public.task_counts":                     {call: "select task_counts()", may: plus(upkeep, "A's worker", "B's worker", "worker of nobody"), neutral: true},

	// for upkeep
	"public.admit_due_tasks":       {call: "select admit_due_tasks()", may: upkeep, neutral: true},
	"public.admit_tasks":           {call: "select admit_tasks({a})", may: service, neutral: true},
	"public.arm_event_bell":        {call: "select arm_event_bell()", may: upkeep, neutral: true},
	"public.orphaned_outputs":      {call: "select orphaned_outputs('{}')", may: upkeep, neutral: true},
	"public.repair_generations":    {call: "select repair_generations({project})", may: service, neutral: true},
	"public.requeue_expired_tasks": {call: "select requeue_expired_tasks()", may: upkeep, neutral: true},
	"public.sweep_tasks":           {call: "select sweep_tasks()", may: upkeep, neutral: true},
	"public.tick_ready_mark":       {call: "select tick_ready_mark()", may: upkeep, neutral: true},

	"public.due_erasures":       {call: "select due_erasures()", may: upkeep, neutral: true},
	"public.purge_expired":      {call: "select purge_expired()", may: upkeep, neutral: true},
	"public.mark_erasure_swept": {call: "select mark_erasure_swept({erased})", may: upkeep, neutral: true},
	"public.erase_user":         {call: "select erase_user({a})", may: service},

	// who calls; for the gateway
	"auth.uid":            {call: "select auth.uid()", may: everyone, neutral: true},
	"auth.jwt":            {call: "select auth.jwt()", may: everyone, neutral: true},
	"auth.role":           {call: "select auth.role()", may: everyone, neutral: true},
	"auth.token_id":       {call: "select auth.token_id()", may: everyone, neutral: true},
	"auth.role_limits":    {call: "select auth.role_limits()", may: gatewayAlone, neutral: true},
	"auth.login_fault":    {call: "select auth.login_fault()", may: []string{"A's worker", "B's worker", "worker of nobody", "trusted worker", "gateway's login"}, neutral: true},
	"auth.drop_child":     {call: "select auth.drop_child({stitch})", may: []string{"A's worker"}},
	"auth.give_back_task": {call: "select auth.give_back_task({running}, null, 'no')", may: []string{"A's worker", "trusted worker"}},
	"auth.holds_attempt":  {call: "select auth.holds_attempt({a}, {running}, 1)", may: allWorkers, neutral: true},
	"auth.note_worker":    {call: `select auth.note_worker({worker}, '{"of":"{canary}"}')`, may: []string{"A's worker", "trusted worker"}, scoped: true},
	"auth.worker_id":      {call: "select auth.worker_id('x')", may: allWorkers, neutral: true},

	// Storage and REST, for the gateway alone: who may reach which key stands in gateway/objects.
	"auth.begin_upload":      {call: "select auth.begin_upload({a} || '/new.png', 1, 1, '1 minute')", may: gatewayAlone},
	"auth.finish_upload":     {call: "select auth.finish_upload({a} || '/new.png', gen_random_uuid(), 1)", may: gatewayAlone, neutral: true},
	"auth.describe_uploads":  {call: "select auth.describe_uploads(array[{a} || '/{canary}.png'])", may: gatewayAlone},
	"auth.uncounted_uploads": {call: "select auth.uncounted_uploads(array[{a} || '/other.png'])", may: gatewayAlone},
	"auth.lapsed_uploads":    {call: "select auth.lapsed_uploads()", may: gatewayAlone, neutral: true},
	"auth.describe_api":      {call: "select auth.describe_api()", may: gatewayAlone, neutral: true},

	// Sign-in, for the gateway alone: what it does for whom stands in gateway/auth.
	"auth.credentials_of":    {call: "select auth.credentials_of('{canary}@example.com')", may: gatewayAlone},
	"auth.account_of":        {call: "select auth.account_of({a})", may: gatewayAlone},
	"auth.change_account":    {call: `select auth.change_account({a}, (select {session}::uuid), user_metadata => '{"new":"{canary}"}')`, may: gatewayAlone},
	"auth.start_session":     {call: "select auth.start_session({a}, 'hash', sha256('a'))", may: gatewayAlone},
	"auth.rotate_session":    {call: "select auth.rotate_session(sha256('refresh'), sha256('next'))", may: gatewayAlone},
	"auth.end_sessions":      {call: "select auth.end_sessions({a}, {session}, 'global')", may: gatewayAlone},
	"auth.sign_up":           {call: "select auth.sign_up('new@example.com', 'hash')", may: gatewayAlone, neutral: true},
	"auth.take_tokens":       {call: "select auth.take_tokens(sha256('x'), 1, 1, 1)", may: gatewayAlone, neutral: true},
	"auth.event_epoch":       {call: "select auth.event_epoch()", may: gatewayAlone, neutral: true},
	"auth.event_floor":       {call: "select auth.event_floor()", may: gatewayAlone, neutral: true},
	"auth.open_event_log":    {call: "select auth.open_event_log()", may: gatewayAlone, neutral: true},
	"auth.read_events":       {call: "select auth.read_events((select epoch from auth.open_event_log()), '3:3:')", may: gatewayAlone},
	"auth.realtime_tables":   {call: "select auth.realtime_tables()", may: gatewayAlone, neutral: true},
	"auth.readable":          {call: "select auth.readable(array[{project}, {a}]::uuid[])", may: owners, scoped: true},
	"auth.readable_by":       {call: "select auth.readable_by('{authenticated}', array['{}'], '{1}', array[{project}]::uuid[])", may: gatewayAlone, neutral: true},
	"auth.ended_sessions":    {call: "select auth.ended_sessions(array[{project}]::uuid[], array[{a}]::uuid[])", may: gatewayAlone, neutral: true},
	"auth.vanished":          {call: "select auth.vanished(array[{project}, {a}]::uuid[])", may: gatewayAlone, neutral: true},
	"auth.take_lease":        {call: "select auth.take_lease(gen_random_uuid(), sha256('x'), {a}, 7)", may: gatewayAlone},
	"auth.keep_leases":       {call: "select auth.keep_leases(gen_random_uuid(), 'x', '{}', '{}', '{}', '{}')", may: gatewayAlone, neutral: true},
	"auth.end_leases":        {call: "select auth.end_leases(gen_random_uuid(), '{}')", may: gatewayAlone, neutral: true},
	"auth.drop_full_buckets": {call: "select auth.drop_full_buckets()", may: gatewayAlone, neutral: true},
	"auth.identify_token":    {call: "select auth.identify_token(sha256('x'))", may: gatewayAlone, neutral: true},
}

// internal lists the functions of the schema darkroom that somebody may call, and why: policies and views ask them.
var internal = map[string][]string{
	"darkroom.tasks_of_worker": {"worker"},
	"darkroom.whole_change":    {"service_role"},
}

// TestS01FunctionsOfTheMatrix: "For [...] every RPC, owner B with a valid token reads and changes 0 rows of owner A. [...] a new object without a row in
// it fails".
func TestS01FunctionsOfTheMatrix(t *testing.T) {
	t.Parallel()
	none(t, functionFindings(newLab(t)))
}

func functionFindings(l *lab) (findings []string) {
	l.t.Helper()
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	names := l.texts(`
		select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname in ('public', 'auth') and p.prorettype <> 'trigger'::regtype order by 1`)
	for _, name := range names {
		probe, listed := functions[name]
		if !listed {
			found("%s has no row in the matrix", name)
			continue
		}
		for _, c := range l.callers {
			findings = append(findings, l.probeFunction(name, probe, c)...)
		}
	}
	if len(names) < len(functions) {
		found("the matrix has %d functions, the database %d", len(functions), len(names))
	}
	// What is not listed above nobody may call: triggers and all of the schema darkroom.
	for _, grant := range l.texts(`
		select distinct n.nspname || '.' || p.proname || ' ' || r.rolname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		where n.nspname in ` + exposed + ` and (p.prorettype = 'trigger'::regtype or n.nspname = 'darkroom')
		  and has_function_privilege(r.rolname, p.oid, 'execute')`) {
		name, role, _ := strings.Cut(grant, " ")
		if !slices.Contains(internal[name], role) {
			found("%s may call %s", role, name)
		}
	}
	return findings
}

func (l *lab) probeFunction(name string, probe functionProbe, c caller) (findings []string) {
	ctx := l.t.Context()
	found := func(format string, args ...any) {
		findings = append(findings, fmt.Sprintf("%s, %s: ", name, c.name)+fmt.Sprintf(format, args...))
	}
	l.try(caller{}, func(tx pgx.Tx) {
		call := l.fill(l.extra(tx, probe.call, c))
		before := l.digest(tx)
		become(l.t, tx, c)
		var answer []string
		err := attemptKeeping(ctx, tx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "select coalesce(x::text, '') from ("+call+") q (x)")
			if err != nil {
				return err
			}
			answer, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		become(l.t, tx, caller{})
		touched := l.digest(tx) != before || strings.Contains(strings.Join(answer, "\n"), canary) || strings.Contains(strings.Join(answer, "\n"), l.a.id.String())
		may := slices.Contains(probe.may, c.name)
		switch {
		case !may && touched:
			found("reaches what is A's: %v", answer)
		case may && err != nil:
			found("should be allowed: %v", err)
		case may && !touched && !probe.neutral:
			found("does nothing with A's things: the probe proves nothing: %v", answer)
		case !may && err == nil && !probe.scoped:
			found("is allowed: %v", answer)
		case !may && err != nil && !refusal(code(err)) && code(err) != probe.refusal:
			found("is refused with %v", err)
		}
		if err != nil && strings.Contains(err.Error(), canary+"@") {
			found("the refusal tells A's texts: %v", err)
		}
	})
	return findings
}

// extra puts things into a call that a probe needs beside those of newLab, made by A's worker or A in the same transaction.
func (l *lab) extra(tx pgx.Tx, call string, c caller) string {
	ctx := l.t.Context()
	call = strings.ReplaceAll(call, "NAME", quoteText(workerName(c)))
	call = strings.ReplaceAll(call, `{"running"}`, `"`+l.running.String()+`"`)
	if !slices.Contains([]string{"A's worker", "B's worker", "worker of nobody"}, c.name) { // without a token the name is the id
		call = strings.ReplaceAll(call, "{worker}", quoteText(value[string](l, "select id from workers where name = $1", workerOfA)))
	}
	if strings.Contains(call, "{session}") {
		call = strings.ReplaceAll(call, "{session}", quote(value[uuid.UUID](l, "select id from darkroom.sessions where user_id = $1", l.a.id)))
	}
	one := func(sql string, args ...any) (id string) {
		if err := tx.QueryRow(ctx, l.fill(sql), args...).Scan(&id); err != nil {
			l.t.Fatalf("%s: %v", sql, err)
		}
		return "'" + id + "'"
	}
	if strings.Contains(call, "{waiting}") {
		call = strings.ReplaceAll(call, "{waiting}", one(`select id::text from create_task({project}, task_type => 'single_image', params => '{"prompt":"x"}', dependant_on => array[{done}::uuid])`))
	}
	if strings.Contains(call, "{erased}") {
		call = strings.ReplaceAll(call, "{erased}", one("select user_id::text from erase_user((create_user(null, null)).id)"))
	}
	if strings.Contains(call, "{travel}") || strings.Contains(call, "{stitch}") {
		id := one(`select id::text from create_task({project}, task_type => 'travel_orchestrator', params =>
			'{"orchestrator_details":{"num_new_segments_to_generate":1,"input_image_paths_resolved":["a","b"]}}')`)
		if _, err := tx.Exec(ctx, "set constraints all immediate"); err != nil {
			l.t.Fatal(err)
		}
		holder := one("select id from workers where name = $1", workerOfA)
		for _, sql := range []string{"update workers set capabilities = '{wan2gp}' where id = " + holder, "select claim_next_tasks(" + holder + ", 100)"} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				l.t.Fatal(err)
			}
		}
		call = strings.ReplaceAll(call, "{travel}", id)
		if strings.Contains(call, "{stitch}") {
			call = strings.ReplaceAll(call, "{stitch}", one("select id::text from expand_travel_orchestrator("+id+", "+holder+", 1) where task_type = 'travel_stitch'"))
		}
	}
	return call
}

// workerName is what a caller of the lab calls its worker.
func workerName(c caller) string {
	if c.name == "A's worker" {
		return workerOfA
	}
	return c.name
}

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// digest tells whether anything that is A's has changed.
func (l *lab) digest(tx pgx.Tx) string {
	l.t.Helper()
	var parts []string
	for name, probe := range tables {
		if strings.Contains(probe.rows, "{") && name != "public.invariant_violations" {
			parts = append(parts, fmt.Sprintf("select %s as name, md5(string_agg(x::text, ',' order by x::text)) as rows from %s x where %s",
				quoteText(name), name, probe.rows))
		}
	}
	var sum string
	err := tx.QueryRow(l.t.Context(), l.fill("select md5(string_agg(name || coalesce(rows, ''), ',' order by name)) from ("+strings.Join(parts, " union all ")+") d")).Scan(&sum)
	l.must(err)
	return sum
}

// attemptKeeping runs statements that may be refused, and keeps what they did.
func attemptKeeping(ctx context.Context, tx pgx.Tx, do func(tx pgx.Tx) error) error {
	inner, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if err := do(inner); err != nil {
		_ = inner.Rollback(context.WithoutCancel(ctx))
		return err
	}
	return inner.Commit(ctx)
}
