-- Every row is a fault; empty when healthy. The rules are those of sql/README.md, by number. Reads everything: for tests, audits and
-- alarms on small or copied databases, not for each minute of a large one.
create or replace view public.invariant_violations with (security_invoker = true) as
with newest as (
  select distinct on (l.owner_id) l.* from public.credit_ledger l order by l.owner_id, l.seq desc
), sums as (
  select l.owner_id,
    sum(case l.kind when 'grant' then l.amount when 'settle' then -l.amount else 0 end) as balance,
    sum(case l.kind when 'hold' then l.amount when 'grant' then 0 else -l.amount end) as held,
    count(*) as entries, min(l.seq) as first_seq, max(l.seq) as last_seq
  from public.credit_ledger l group by l.owner_id
), running as (
  select t.owner_id, sum(t.cost) as cost from public.tasks t where t.status = 'In Progress' group by t.owner_id
), places as (
  select r.task_id, 'ready' as place from darkroom.task_ready r
  union all select b.task_id, 'backlog' from darkroom.task_backlog b
  union all select distinct d.task_id, 'deps' from darkroom.task_deps d
  union all select d.task_id, 'delayed' from darkroom.task_delayed d
), result_bearing as (
  select t.*, ty.result_type from public.tasks t join public.task_types ty on ty.name = t.task_type
  where ty.result_type is not null
)
-- 1. available >= 0; the newest ledger row is the sum of all; open holds are the running tasks that cost something
select 1 as rule, n.owner_id, null::uuid as task_id, format('available is %s', n.balance_after - n.held_after) as violation
from newest n where n.balance_after < n.held_after or n.held_after < 0
union all
select 1, n.owner_id, null, format('account %s/%s, entries add up to %s/%s', n.balance_after, n.held_after, s.balance, s.held)
from newest n join sums s on s.owner_id = n.owner_id
where (n.balance_after, n.held_after) <> (s.balance, s.held) or s.first_seq <> 1 or s.last_seq <> s.entries
union all
select 1, coalesce(r.owner_id, n.owner_id), null, format('running tasks cost %s, held %s', coalesce(r.cost, 0), coalesce(n.held_after, 0))
from running r full join newest n on n.owner_id = r.owner_id where coalesce(r.cost, 0) <> coalesce(n.held_after, 0)
union all
select 1, coalesce(t.owner_id, h.owner_id), coalesce(t.id, h.task_id),
  case when t.id is null then format('attempt %s holds %s and is not running', h.attempt, h.amount) else 'running without its hold' end
from (select t.* from public.tasks t where t.status = 'In Progress' and t.cost > 0) t
full join (select l.owner_id, l.task_id, l.attempt, min(l.amount) as amount from public.credit_ledger l where l.kind <> 'grant'
           group by l.owner_id, l.task_id, l.attempt having bool_and(l.kind = 'hold')) h
  on (h.owner_id, h.task_id, h.attempt, h.amount) = (t.owner_id, t.id, t.attempt, t.cost)
where t.id is null or h.task_id is null
union all
-- 2. one settle per Complete priced task and none for others; an attempt is settled or released, once, after its hold
select 2, t.owner_id, t.id, format('%s, cost %s, settled %s times', t.status, t.cost, count(l.*))
from public.tasks t left join public.credit_ledger l on l.task_id = t.id and l.kind = 'settle'
group by t.id having count(l.*) <> (t.status = 'Complete' and t.cost > 0)::integer
union all
select 2, l.owner_id, l.task_id, format('attempt %s: %s', l.attempt, string_agg(l.kind, ', ' order by l.seq))
from public.credit_ledger l where l.kind <> 'grant' group by l.owner_id, l.task_id, l.attempt
having string_agg(l.kind, ',' order by l.seq) not in ('hold', 'hold,settle', 'hold,release') or count(distinct l.amount) > 1
union all
-- 3. one generation per Complete result-bearing task with output, none for others; project and shot are the task's
select 3, t.owner_id, t.id, format('%s generations', count(g.*))
from result_bearing t left join public.generations g on g.source_task_id = t.id
where t.status = 'Complete' and btrim(t.output_location) <> ''
  and not exists (select from darkroom.deleted_generations d where d.task_id = t.id)
group by t.owner_id, t.id having count(g.*) <> 1
union all
select 3, g.owner_id, g.source_task_id, 'generation of a task that is not Complete with an output, or not of its project'
from public.generations g left join result_bearing t on t.id = g.source_task_id
where g.source_task_id is not null
  and (t.id is null or t.status <> 'Complete' or not t.generation_created or coalesce(btrim(t.output_location), '') = ''
       or t.project_id <> g.project_id or t.owner_id <> g.owner_id)
union all
select 3, g.owner_id, g.source_task_id, format('on shot %s of another project', sg.shot_id)
from public.shot_generations sg join public.generations g on g.id = sg.generation_id join public.shots s on s.id = sg.shot_id
where s.project_id <> g.project_id or sg.project_id <> g.project_id
union all
-- 4. an In Progress task has a worker; its attempt is the number of its ended attempts, plus one while it runs
select 4, t.owner_id, t.id, 'In Progress without a registered worker'
from public.tasks t where t.status = 'In Progress' and not exists (select from public.workers w where w.id = t.worker_id)
union all
select 4, t.owner_id, t.id, format('%s, attempt %s, %s ended', t.status, t.attempt, count(a.*))
from public.tasks t left join public.task_attempts a on a.task_id = t.id
group by t.id having t.attempt <> count(a.*) + (t.status = 'In Progress')::integer
union all
-- 5. a Queued task stands in exactly one place, the right one; nothing else stands anywhere; the backlog is younger than ready; what can be paid is shown
select 5, t.owner_id, t.id, format('Queued, stands in %s', coalesce(string_agg(p.place, ', '), 'no place'))
from public.tasks t left join places p on p.task_id = t.id
where t.status = 'Queued' group by t.owner_id, t.id having count(p.place) <> 1
union all
select 5, t.owner_id, p.task_id, format('%s, stands in %s', coalesce(t.status, 'no task'), p.place)
from places p left join public.tasks t on t.id = p.task_id where t.status is distinct from 'Queued'
union all
select 5, d.owner_id, d.task_id, format('waits for %s, which has ended', d.dep_id)
from darkroom.task_deps d where not exists (select from public.tasks t where t.id = d.dep_id and t.status in ('Queued', 'In Progress'))
union all
select 5, t.owner_id, t.id, format('does not wait for %s, which is %s', w.id, w.status)
from public.tasks t join public.tasks w on w.id = any (t.dependant_on)
where t.status = 'Queued' and w.status <> 'Complete' and not exists (select from darkroom.task_deps d where (d.dep_id, d.task_id) = (w.id, t.id))
union all
select 5, t.owner_id, t.id, format('waits until %s, stands in %s', t.run_after, p.place)
from public.tasks t join places p on p.task_id = t.id
where t.status = 'Queued' and t.run_after > clock_timestamp() and p.place <> 'delayed'
union all
select 5, d.owner_id, d.task_id, format('waits for %s without depending on it', d.dep_id)
from darkroom.task_deps d join public.tasks t on t.id = d.task_id where not coalesce(d.dep_id = any (t.dependant_on), false)
union all
select 5, d.owner_id, d.task_id, format('delayed until %s, its row says %s', d.run_after, t.run_after)
from darkroom.task_delayed d join public.tasks t on t.id = d.task_id where d.run_after is distinct from t.run_after
union all
select 5, q.owner_id, q.task_id, 'ready or backlog row differs from its task'
from (select r.owner_id, r.task_type, r.cost, r.created_at, r.job_no, r.task_id from darkroom.task_ready r
      union all select b.* from darkroom.task_backlog b) q
join public.tasks t on t.id = q.task_id
where (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) <> (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no)
union all
select 5, b.owner_id, b.task_id, 'backlog, but not younger than every ready row of its lane'
from darkroom.task_backlog b
where not exists (select from darkroom.task_ready r where (r.owner_id, r.task_type, r.cost) = (b.owner_id, b.task_type, b.cost))
   or exists (select from darkroom.task_ready r where (r.owner_id, r.task_type, r.cost) = (b.owner_id, b.task_type, b.cost)
              and (r.created_at, r.job_no) > (b.created_at, b.job_no))
union all
select 5, r.owner_id, r.task_id, 'parked, but affordable'
from darkroom.task_ready r left join newest n on n.owner_id = r.owner_id
where r.parked and r.cost <= coalesce(n.balance_after - n.held_after, 0)
union all
-- 6. the last event of a task gives its row, and the first is in the log unless it is older than that
select 6, t.owner_id, t.id, 'its events do not add up to its row'
from public.tasks t
left join (select distinct on (e.row_id) e.row_id, e.data, bool_or(e.kind = 'INSERT') over (partition by e.row_id) as whole
           from darkroom.task_events e where e.table_name = 'tasks' order by e.row_id, e.id desc) f on f.row_id = t.id::text
where f.whole is not true and t.created_at > (select l.trimmed_at from darkroom.event_log l)
   -- as a row, because a time in JSON has the time zone of the connection that wrote it
   or jsonb_populate_record(t, jsonb_build_object('updated_at', t.created_at) || darkroom.whole_change(coalesce(f.data, to_jsonb(t)))) is distinct from t;
comment on view public.invariant_violations is 'Every row is a fault; empty when healthy.';
revoke all on public.invariant_violations from public;
grant select on public.invariant_violations to service_role;
