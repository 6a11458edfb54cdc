-- Erases a user: what runs is cancelled and not charged, all their rows go, and the ledger stays under a random id, without notes, keys and
-- the ids of tasks, so that the books still add up. Their files are deleted by the keeper of workerd, within minutes: see due_erasures.
-- Returns the erasure; for a user who was erased less than a day ago, the same one again. Nobody can take the id for that day (TD080).
--
-- One transaction: it holds the owner's lock and their projects, which nobody else needs, and waits for what others do there at that moment,
-- 5 s at most (55P03). Other users are not held up.
-- Raises TD025 (no such user), TD050 (isolation). The service may call it.
create or replace function public.erase_user(user_id uuid)
returns public.erasure
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_patience constant interval := interval '5 seconds';
  v_user uuid := erase_user.user_id;
  v_began timestamptz := clock_timestamp();
  v_erasure darkroom.erasures;
  v_task public.tasks;
  v_projects uuid[];
  v_tasks uuid[];
  v_anonymous uuid := gen_random_uuid();
  v_salt text := gen_random_uuid()::text;
begin
  -- Who creates a task holds the project and then waits for the owner's lock; who completes one has them the other way round. So the projects are
  -- asked for without waiting, and after a refusal the owner's lock is given up, too.
  loop
    begin
      perform darkroom.lock_owner(v_user);
      select e.* into v_erasure from darkroom.erasures e where e.owner_id = v_user;
      if found then
        return (v_erasure.owner_id, v_erasure.requested_at, v_erasure.swept_at)::public.erasure;
      end if;
      perform from public.users u where u.id = v_user for update nowait;
      if not found then
        raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_user);
      end if;
      perform from public.projects p where p.owner_id = v_user order by p.id for update nowait;
      exit;
    exception when lock_not_available then
      if clock_timestamp() > v_began + c_patience then
        raise;
      end if;
    end;
    perform pg_sleep(0.005);
  end loop;
  select coalesce(array_agg(p.id), '{}') into v_projects from public.projects p where p.owner_id = v_user;
  select coalesce(array_agg(t.id), '{}') into v_tasks from public.tasks t where t.project_id = any (v_projects);

  -- the queue first, so that no hold that is released lets a task in
  delete from darkroom.task_ready r where r.owner_id = v_user;
  delete from darkroom.task_backlog b where b.owner_id = v_user;
  delete from darkroom.task_deps d where d.owner_id = v_user;
  delete from darkroom.task_delayed d where d.owner_id = v_user;
  delete from darkroom.queue_repairs q where q.owner_id = v_user;
  for v_task in select t.* from public.tasks t where t.id = any (v_tasks) and t.status = 'In Progress' order by t.id for update loop
    perform darkroom.end_attempt(v_task, 'cancelled');
    perform darkroom.notify_workers(v_task.job_no);
  end loop;

  delete from public.shots s where s.project_id = any (v_projects);
  delete from public.generations g where g.project_id = any (v_projects);
  delete from public.generation_errors e where e.task_id = any (v_tasks);
  delete from darkroom.deleted_generations d where d.owner_id = v_user;
  delete from public.task_attempts a where a.task_id = any (v_tasks);
  delete from public.tasks t where t.id = any (v_tasks);
  delete from public.workers w
  where w.owner_id = v_user or w.token_id in (select k.id from darkroom.access_tokens k where k.owner_id = v_user);
  delete from darkroom.queue_room r where r.owner_id = v_user;
  delete from darkroom.access_tokens k where k.owner_id = v_user;
  delete from darkroom.uploads k where k.owner_id = v_user;
  delete from public.projects p where p.owner_id = v_user;
  delete from public.users u where u.id = v_user;  -- and with it credentials and sessions

  -- A task keeps one id in all its entries, which nobody can compute: the salt is forgotten.
  update public.credit_ledger l
  set owner_id = v_anonymous, note = null, idempotency_key = null,
      task_id = encode(substr(sha256(convert_to(concat(v_salt, l.task_id), 'UTF8')), 1, 16), 'hex')::uuid
  where l.owner_id = v_user and l.task_id is not null;
  update public.credit_ledger l set owner_id = v_anonymous, note = null, idempotency_key = null where l.owner_id = v_user;

  -- last, because all of the above was logged
  delete from darkroom.task_events e where e.owner_id = v_user;
  delete from darkroom.realtime_leases r where r.owner_id = v_user;

  insert into darkroom.erasures as e (owner_id) values (v_user) returning e.* into v_erasure;
  return (v_erasure.owner_id, v_erasure.requested_at, v_erasure.swept_at)::public.erasure;
end
$$;
comment on function public.erase_user is 'Deletes a user with all rows; the ledger stays, anonymous. Files are deleted soon after.';
revoke all on function public.erase_user from public;
grant execute on function public.erase_user to service_role;
