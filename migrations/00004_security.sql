-- +goose Up
-- Row security and grants: who sees and changes which rows. What the policies ask stands in sql/auth.
--
-- A table of the schema public has row security on and forced, a policy for its owner (the functions run as it), one for the service, and those of
-- users and workers. Whoever is in none of them sees nothing. Users change tasks, credits and workers by the functions only.

-- +goose StatementBegin
do $$
declare
  v_table regclass;
begin
  for v_table in select c.oid from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname !~ '^goose_' loop
    execute format('alter table %s enable row level security, force row level security', v_table);
    execute format('create policy internal on %s to current_user using (true) with check (true)', v_table);
    execute format('create policy service on %s to service_role using (true) with check (true)', v_table);
  end loop;
end
$$;
-- +goose StatementEnd

grant usage on schema darkroom to worker;  -- for the function that its policy asks

-- Everybody may know what there is to ask for.
create policy read on public.task_types for select to anon, authenticated, worker using (true);
create policy read on public.tools for select to anon, authenticated, worker using (true);
grant select on public.task_types, public.tools to anon, authenticated, worker;

-- Users. A project's index is used where the table has none by owner.
create policy own on public.users for select to authenticated using (id = (select auth.uid()));
create policy own on public.projects to authenticated using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy own on public.shots to authenticated
  using (project_id = any (array(select p.id from public.projects p where p.owner_id = (select auth.uid()))))
  with check (project_id = any (array(select p.id from public.projects p where p.owner_id = (select auth.uid()))));
create policy own on public.tasks to authenticated
  using (project_id = any (array(select p.id from public.projects p where p.owner_id = (select auth.uid()))))
  with check (project_id = any (array(select p.id from public.projects p where p.owner_id = (select auth.uid()))));
create policy own on public.generations to authenticated
  using (project_id = any (array(select p.id from public.projects p where p.owner_id = (select auth.uid()))))
  with check (project_id = any (array(select p.id from public.projects p where p.owner_id = (select auth.uid()))));
create policy own on public.shot_generations to authenticated
  using (shot_id = any (array(select s.id from public.shots s join public.projects p on p.id = s.project_id where p.owner_id = (select auth.uid()))))
  with check (shot_id = any (array(select s.id from public.shots s join public.projects p on p.id = s.project_id where p.owner_id = (select auth.uid()))));
create policy own on public.task_attempts for select to authenticated using (owner_id = (select auth.uid()));
create policy own on public.generation_errors for select to authenticated using (owner_id = (select auth.uid()));
create policy own on public.credit_ledger for select to authenticated using (owner_id = (select auth.uid()));
create policy own on public.workers for select to authenticated using (owner_id = (select auth.uid()));

grant select on public.users, public.projects, public.shots, public.tasks, public.task_attempts, public.workers, public.credit_ledger,
  public.generations, public.shot_generations, public.generation_errors to authenticated;
grant insert (id, name), update (name) on public.projects to authenticated;
grant insert (id, project_id, name), update (name), delete on public.shots to authenticated;
grant insert (id, project_id, type, location, thumbnail_url, params, metadata), update (params, metadata), delete on public.generations to authenticated;
grant insert (id, shot_id, generation_id, position), update (position), delete on public.shot_generations to authenticated;
-- The columns that apps name in an insert. What they say of the last four does not count: prepare_task sets them.
grant insert (id, project_id, tool_id, task_type, params, dependant_on, idempotency_key, cost, status, generation_created, created_at)
  on public.tasks to authenticated, service_role;

-- A worker with a token sees what it runs, and itself.
create policy held on public.tasks for select to worker using (id = any (array(select unnest(darkroom.tasks_of_worker()))));
create policy self on public.workers for select to worker using (token_id = (select auth.token_id()));
grant select on public.tasks, public.workers to worker;

-- The service reads everything. What has rules of its own it changes by the functions.
grant usage on schema darkroom to service_role;
grant select on all tables in schema public, darkroom to service_role;
revoke select on darkroom.access_tokens from service_role;
grant update (storage_quota) on public.users to service_role;
revoke select on darkroom.access_tokens, darkroom.credentials, darkroom.sessions, darkroom.refresh_tokens from service_role;
grant insert (id, owner_id, name), update (name), delete on public.projects to service_role;
grant insert (id, project_id, name), update (name), delete on public.shots to service_role;
grant insert (id, project_id, type, location, thumbnail_url, params, metadata), update (params, metadata), delete on public.generations to service_role;
grant insert (id, shot_id, generation_id, position), update (position), delete on public.shot_generations to service_role;

-- +goose Down
-- +goose StatementBegin
do $$
declare
  v record;
begin
  for v in select p.polname, p.polrelid::regclass as rel from pg_policy p join pg_class c on c.oid = p.polrelid where c.relnamespace = 'public'::regnamespace loop
    execute format('drop policy %I on %s', v.polname, v.rel);
  end loop;
  for v in select c.oid::regclass as rel from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname !~ '^goose_' loop
    execute format('alter table %s disable row level security, no force row level security', v.rel);
    execute format('revoke all on %s from anon, authenticated, worker, service_role', v.rel);
  end loop;
end
$$;
-- +goose StatementEnd
revoke all on all tables in schema darkroom from service_role;
revoke usage on schema darkroom from service_role, worker;
