-- Whether tasks of this orchestrator's tree are still to be done. Then it needs no lease: it waits for them.
create or replace function darkroom.has_live_children(p_task uuid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (select from public.tasks c
                 where c.orchestrator_task_id = p_task and c.status in ('Queued', 'In Progress'))
$$;
comment on function darkroom.has_live_children is 'Whether an orchestrator still waits for tasks of its tree.';
revoke all on function darkroom.has_live_children from public;
