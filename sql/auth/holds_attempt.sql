-- Whether the caller's token runs this attempt at a task of this owner now, and so may store files for it. For workers with a token.
create or replace function auth.holds_attempt(owner_id uuid, task_id uuid, attempt integer)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from public.tasks t join public.workers w on w.id = t.worker_id
    where t.id = holds_attempt.task_id and t.owner_id = holds_attempt.owner_id and t.attempt = holds_attempt.attempt
      and t.status = 'In Progress' and w.token_id = auth.token_id()
  )
$$;
comment on function auth.holds_attempt is 'Whether the caller runs this attempt.';
revoke all on function auth.holds_attempt from public;
grant execute on function auth.holds_attempt to worker;
