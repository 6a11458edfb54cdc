package security_test

import (
	"testing"
)

// TestMutationsAreCaught proves the checks: each takes one safeguard away from a database of its own, and the check of its statement must say so. That the
// checks find nothing before is what the tests of the statements themselves hold.
func TestMutationsAreCaught(t *testing.T) {
	t.Parallel()
	rules := func(rules []lint) func(*lab) []string { return func(l *lab) []string { return l.lint(rules) } }
	for name, m := range map[string]struct {
		sql   string
		check func(l *lab) []string
	}{
		"a policy is gone":                 {"drop policy own on public.tasks", tableFindings},
		"a policy lets all through":        {"drop policy own on public.credit_ledger; create policy own on public.credit_ledger for select to authenticated using (true)", tableFindings},
		"a policy for writing is true":     {"create policy extra on public.projects for update to authenticated using (true)", rules(rowSecurity)},
		"row security is off":              {"alter table public.generations disable row level security", tableFindings},
		"row security is not forced":       {"alter table public.generations no force row level security", rules(rowSecurity)},
		"a grant too many on a table":      {"grant select on darkroom.task_events to authenticated; grant usage on schema darkroom to authenticated", tableFindings},
		"a column that clients set":        {"grant insert (owner_id) on public.projects to authenticated", settableFindings},
		"a revoke is gone":                 {"grant execute on function public.grant_credits to public", rules(functionRules)},
		"a grant too many on a function":   {"grant execute on function public.grant_credits to authenticated", functionFindings},
		"an internal function is open":     {"grant execute on function darkroom.append_ledger to authenticated", functionFindings},
		"a new table":                      {"create table public.unknown (id int primary key)", tableFindings},
		"a new function":                   {"create function public.unknown() returns int language sql as 'select 1'", functionFindings},
		"an owner check is gone":           {mutate("public.get_task", "v_task.owner_id <> darkroom.caller_owner\\(\\)", "false"), functionFindings},
		"a search_path is gone":            {"alter function darkroom.resolve_task_type reset search_path", rules(functionRules)},
		"a search_path without pg_temp":    {"alter function auth.uid set search_path = ''", plantedFindings},
		"a view reads as its owner":        {"alter view public.invariant_violations set (security_invoker = false)", rules(exposure)},
		"a role has powers":                {"create schema planted; grant create on schema planted to worker", rules(roleRules)},
		"the fence is gone":                {mutate("darkroom.lock_held_task", "p_attempt <> v_task.attempt", "false"), zombieFindings},
		"the fence of progress is gone":    {mutate("public.report_progress", "and t.worker_id = v_worker and t.attempt = report_progress.attempt", ""), zombieFindings},
		"a token speaks for other workers": {mutate("darkroom.lock_held_task", "or not coalesce\\(v_mine, true\\)", ""), maliciousFindings},
		"a worker's price counts":          {mutate("darkroom.prepare_task", "new.cost := case when new.orchestrator_task_id is null then darkroom.price_of\\(v_type, new.params\\) else 0 end;", ""), settableFindings},
		"the audit log can be changed":     {"drop trigger audit_is_append_only on darkroom.audit_log", auditFindings},
		"an act is not in the audit log":   {"drop trigger audit on public.credit_ledger", auditFindings},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.exec(m.sql)
			found := m.check(l)
			if len(found) == 0 {
				t.Errorf("nothing was found after: %s", m.sql)
			} else {
				t.Logf("found %d, such as: %.200s", len(found), found[0])
			}
		})
	}
}

// mutate replaces a part of a function's body, found by a pattern, which must be there.
func mutate(function, pattern, with string) string {
	return `do $mutation$
		declare
		  v_old text := pg_get_functiondef(to_regproc(` + quoteText(function) + `));
		  v_new text := regexp_replace(v_old, ` + quoteText(pattern) + `, ` + quoteText(with) + `);
		begin
		  if v_new = v_old then
		    raise exception 'the mutation changes nothing: %', v_old;
		  end if;
		  execute v_new;
		end $mutation$`
}
