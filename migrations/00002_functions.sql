-- +goose Up
-- Generated from sql/ by `make migration`; edit it there.
set local check_function_bodies = off;

-- +goose StatementBegin
-- sql/auth/account_of.sql
-- The account of a user who signs in here: {"id", "email", "user_metadata", "created_at", "updated_at", "last_sign_in_at"}, and whether the
-- session is there: "session". Null: the user does not sign in here. For the gateway.
create or replace function auth.account_of(user_id uuid, session_id uuid default null)
returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select darkroom.sign_in_account(account_of.user_id) || jsonb_build_object('session',
    exists (select from darkroom.sessions s where s.id = account_of.session_id and s.user_id = account_of.user_id))
$$;
comment on function auth.account_of is 'Account of a user.';
revoke all on function auth.account_of from public;
grant execute on function auth.account_of to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/begin_upload.sql
-- Reserves an object of storage for the caller, who then stores or deletes it and ends with finish_upload. For the gateway.
--
-- Grants as many bytes as the quota of the key's owner has free, at most `most`; raises TD070 if these are fewer than `least`. What is stored
-- there now does not count: the new object takes its place. Raises TD071 while somebody else has the object reserved.
create or replace function auth.begin_upload(object_key text, least_bytes bigint, most_bytes bigint, lapses_in interval)
returns table (reservation uuid, granted bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid := darkroom.as_uuid(to_jsonb(split_part(object_key, '/', 1)));
  v_reservation uuid := gen_random_uuid();
  v_quota bigint;
  v_used bigint;
  v_granted bigint := most_bytes;
begin
  if v_owner is not null then
    perform darkroom.lock_owner(v_owner);
    perform darkroom.ensure_user(v_owner);
    select u.storage_quota into v_quota from public.users u where u.id = v_owner;
  end if;
  if v_quota is not null then
    select coalesce(sum(greatest(u.bytes, u.reserved)), 0)::bigint into v_used
    from darkroom.uploads u where u.owner_id = v_owner and u.key <> object_key;
    v_granted := greatest(least(most_bytes, v_quota - v_used), 0);
    if v_granted < least_bytes then
      raise exception 'Storage quota exceeded' using errcode = 'TD070',
        detail = format('%s of %s bytes are used, and this needs %s.', v_used, v_quota, least_bytes), hint = 'Delete files that are not needed.';
    end if;
  end if;
  insert into darkroom.uploads as u (key, owner_id, reservation, reserved, reserved_until)
  values (object_key, v_owner, v_reservation, v_granted, clock_timestamp() + lapses_in)
  on conflict (key) do update
    set reservation = excluded.reservation, reserved = excluded.reserved, reserved_until = excluded.reserved_until
    where u.reservation is null;
  if not found then
    raise exception 'Object is being written' using errcode = 'TD071', detail = format('Another request stores or deletes %s.', object_key),
      hint = 'Try again when that has ended.';
  end if;
  return query select v_reservation, v_granted;
end
$$;
comment on function auth.begin_upload is 'Reserves an object and its bytes.';
revoke all on function auth.begin_upload from public;
grant execute on function auth.begin_upload to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/change_account.sql
-- Changes the account of somebody who is signed in by that session, and returns it as auth.account_of does. Null: the session has ended, or
-- the password is not old_hash any more; nothing is changed. new_hash: a new password, which ends the user's other sessions; null keeps
-- the old one. user_metadata: laid over what is there; a null in it takes its key away. For the gateway.
-- Raises TD003 (user_metadata of more than 16 KiB).
create or replace function auth.change_account(user_id uuid, session_id uuid, old_hash text default null, new_hash text default null, user_metadata jsonb default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 16384;
  v_metadata jsonb;
begin
  select (select coalesce(jsonb_object_agg(e.key, e.value) filter (where e.value <> 'null'), '{}')
          from jsonb_each(c.user_metadata || change_account.user_metadata) e)
  into v_metadata from darkroom.credentials c
  where c.user_id = change_account.user_id and (change_account.new_hash is null or c.password_hash = change_account.old_hash)
  for no key update;
  if not found or not exists (select from darkroom.sessions s where s.id = change_account.session_id and s.user_id = change_account.user_id) then
    return null;
  elsif octet_length(v_metadata::text) > c_most then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('user_metadata may have %s bytes.', c_most);
  end if;
  update darkroom.credentials c
  set password_hash = coalesce(change_account.new_hash, c.password_hash), user_metadata = v_metadata, updated_at = clock_timestamp()
  where c.user_id = change_account.user_id;
  if change_account.new_hash is not null then
    delete from darkroom.sessions s where s.user_id = change_account.user_id and s.id <> change_account.session_id;
  end if;
  return darkroom.sign_in_account(change_account.user_id);
end
$$;
comment on function auth.change_account is 'Changes password and metadata of a user.';
revoke all on function auth.change_account from public;
grant execute on function auth.change_account to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/credentials_of.sql
-- What the gateway checks a password against: {"user_id", "password_hash"}, by email or by user. Null: there are none. For the gateway.
create or replace function auth.credentials_of(email text default null, user_id uuid default null)
returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('user_id', c.user_id, 'password_hash', c.password_hash)
  from darkroom.credentials c
  where c.email = darkroom.plain_email(credentials_of.email) or c.user_id = credentials_of.user_id
$$;
comment on function auth.credentials_of is 'Password hash of a user.';
revoke all on function auth.credentials_of from public;
grant execute on function auth.credentials_of to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/describe_api.sql
-- What the schema public offers to requests, as JSON: {"tables": {name: {"columns": [{"name", "type", "default"}], "key": [column]}},
-- "functions": [{"name", "args": [{"name", "type", "optional"}], "columns": [{"name", "type"}] or null, "set", "void", "volatile"}]}.
-- columns of a function: those of the rows that it returns; null where it returns a value or nothing. Types and defaults are SQL, qualified.
-- Left out are trigger functions, those with arguments that have no name, and the book-keeping of migrations. It tells nothing of what a role may
-- use: the database decides that. For the gateway, which builds statements from these names only.
create or replace function auth.describe_api()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with columns as (
    select a.attrelid,
      jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, null),
        'default', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end) order by a.attnum) as list
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'c')
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped
    group by a.attrelid
  ), tables as (
    select c.relname, jsonb_build_object('columns', k.list, 'key', (
        select coalesce(jsonb_agg(a.attname order by u.place), '[]')
        from pg_constraint p, unnest(p.conkey) with ordinality u (attnum, place), pg_attribute a
        where p.conrelid = c.oid and p.contype = 'p' and a.attrelid = c.oid and a.attnum = u.attnum)) as description
    from pg_class c join columns k on k.attrelid = c.oid
    where c.relkind in ('r', 'p', 'v') and c.relname !~ '^goose_'
  ), arguments as (
    select p.oid,
      jsonb_agg(jsonb_build_object('name', u.name, 'type', format_type(u.type, null), 'optional', u.place > p.pronargs - p.pronargdefaults)
        order by u.place) filter (where u.mode in ('i', 'b')) as list,
      jsonb_agg(jsonb_build_object('name', u.name, 'type', format_type(u.type, null)) order by u.place)
        filter (where u.mode in ('o', 'b', 't')) as results,
      bool_and(u.name <> '') as named
    from pg_proc p,
      unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes, p.proargnames) with ordinality w (type, given_mode, given_name, place),
      lateral (select w.type, w.place, coalesce(w.given_mode, 'i') as mode, coalesce(w.given_name, '') as name) u
    where p.pronamespace = 'public'::regnamespace
    group by p.oid
  ), functions as (
    select jsonb_build_object('name', p.proname, 'args', coalesce(a.list, '[]'), 'columns', coalesce(a.results, k.list), 'set', p.proretset,
      'void', p.prorettype = 'void'::regtype, 'volatile', p.provolatile = 'v') as description
    from pg_proc p
    join pg_type t on t.oid = p.prorettype
    left join arguments a on a.oid = p.oid
    left join columns k on k.attrelid = t.typrelid
    where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.provariadic = 0 and coalesce(a.named, true)
      and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
      and (p.prorettype <> 'record'::regtype or a.results is not null)
  )
  select jsonb_build_object('tables', (select coalesce(jsonb_object_agg(t.relname, t.description), '{}') from tables t),
    'functions', (select coalesce(jsonb_agg(f.description), '[]') from functions f))
$$;
comment on function auth.describe_api is 'Tables and functions of the schema public, for the gateway.';
revoke all on function auth.describe_api from public;
grant execute on function auth.describe_api to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/describe_uploads.sql
-- What is known of these uploads, in no order; no row for a key that has none, or whose object is only being stored. For the gateway.
create or replace function auth.describe_uploads(object_keys text[])
returns table (object_key text, content_type text, cache_control text, metadata jsonb, created_at timestamptz, updated_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select u.key, u.content_type, u.cache_control, u.metadata, u.created_at, u.updated_at
  from darkroom.uploads u where u.key = any (object_keys) and u.bytes is not null
$$;
comment on function auth.describe_uploads is 'Types, caching and times of uploads.';
revoke all on function auth.describe_uploads from public;
grant execute on function auth.describe_uploads to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/drop_child.sql
-- Cancels one Queued task in the tree of an orchestrator that the caller's worker runs, and leaves the rest of the tree as it is: for a worker that
-- made a child twice. public.cancel_task would end the tree. Returns the task as it was before. A task that is Cancelled already is returned as it is.
-- Raises TD021 (no such child), TD023 (another unfinished task waits for it) and TD032 (it runs or has ended). For role worker.
-- Writes tasks and the queue.
create or replace function auth.drop_child(task_id uuid)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner uuid;
  v_task public.tasks;
begin
  select t.owner_id into v_owner from public.tasks t
  where t.id = drop_child.task_id and t.id = any (darkroom.tasks_of_worker()) and t.orchestrator_task_id is not null;
  if not found then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s in a tree that you run.', drop_child.task_id);
  end if;
  perform darkroom.lock_owner(v_owner);
  select t.* into v_task from public.tasks t where t.id = drop_child.task_id for update;
  if v_task.status = 'Cancelled' then
    return next v_task;
    return;
  elsif v_task.status <> 'Queued' then
    raise exception 'Task has ended' using errcode = 'TD032',
      detail = format('Task %s is %s; only a Queued task can be dropped.', v_task.id, v_task.status), hint = 'Nothing was changed.';
  elsif exists (select from darkroom.task_deps d where d.dep_id = v_task.id) then
    raise exception 'Invalid dependency' using errcode = 'TD023', detail = format('Another task waits for task %s.', v_task.id),
      hint = 'Drop that one first.';
  end if;
  update public.tasks t
  set status = 'Cancelled', error_message = 'Dropped by the worker that made it.', run_after = null,
      completed_at = clock_timestamp(), updated_at = clock_timestamp()
  where t.id = v_task.id;
  perform darkroom.drop_from_queue(v_task);
  return next v_task;
end
$$;
comment on function auth.drop_child is 'Cancels one Queued child that a worker made twice.';
revoke all on function auth.drop_child from public;
grant execute on function auth.drop_child to worker;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/drop_full_buckets.sql
-- Forgets the buckets that are full, up to max_buckets of them: without a row they are as full as with one. Returns how many. Those that somebody
-- takes from just now are left. For the gateway, every few minutes.
create or replace function auth.drop_full_buckets(max_buckets integer default 10000)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dropped integer;
begin
  delete from darkroom.rate_buckets b
  using (select r.bucket from darkroom.rate_buckets r where r.full_at <= clock_timestamp() limit drop_full_buckets.max_buckets for update skip locked) f
  where b.bucket = f.bucket;
  get diagnostics v_dropped = row_count;
  return v_dropped;
end
$$;
comment on function auth.drop_full_buckets is 'Forgets buckets of limits of rate that are full.';
revoke all on function auth.drop_full_buckets from public;
grant execute on function auth.drop_full_buckets to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/end_leases.sql
-- Subscriptions that were ended, or that cannot be gone on with: nobody goes on with them.
create or replace function auth.end_leases(gateway uuid, leases uuid[])
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from darkroom.realtime_leases l where l.id = any (end_leases.leases) and l.gateway_id = end_leases.gateway;
end
$$;
comment on function auth.end_leases is 'Ends subscriptions of a gateway.';
revoke all on function auth.end_leases from public;
grant execute on function auth.end_leases to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/end_sessions.sql
-- Ends sessions of a user, for somebody who is signed in by one of them: scope 'local' that one, 'others' all but that, 'global' all.
-- Their refresh tokens are worth nothing from now on. False: that session has ended already, and nothing is done. For the gateway.
create or replace function auth.end_sessions(user_id uuid, session_id uuid, scope text)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform from darkroom.credentials c where c.user_id = end_sessions.user_id for no key update;
  if not exists (select from darkroom.sessions s where s.id = end_sessions.session_id and s.user_id = end_sessions.user_id) then
    return false;
  end if;
  delete from darkroom.sessions s
  where s.user_id = end_sessions.user_id
    and case end_sessions.scope when 'local' then s.id = end_sessions.session_id when 'others' then s.id <> end_sessions.session_id else true end;
  return true;
end
$$;
comment on function auth.end_sessions is 'Ends sessions of a user.';
revoke all on function auth.end_sessions from public;
grant execute on function auth.end_sessions to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/ended_sessions.sql
-- Which of these sessions have ended: those of users who sign in here, that are not there. For the gateway, which asks for sessions of its own
-- access tokens only.
create or replace function auth.ended_sessions(sessions uuid[], users uuid[])
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select a.session from unnest(ended_sessions.sessions, ended_sessions.users) as a (session, owner)
  where exists (select from darkroom.credentials c where c.user_id = a.owner)
    and not exists (select from darkroom.sessions s where s.id = a.session and s.user_id = a.owner)
$$;
comment on function auth.ended_sessions is 'Which of these sessions have ended.';
revoke all on function auth.ended_sessions from public;
grant execute on function auth.ended_sessions to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/event_epoch.sql
-- Which history of the database this is: its cluster, its number there, and the timeline. A position in the event log means something in its own
-- history only: after a restore, a move to another server or the promotion of a standby, numbers may stand for other transactions.
create or replace function auth.event_epoch()
returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws('-', to_hex((select c.system_identifier from pg_control_system() c)),
    to_hex((select d.oid::bigint from pg_database d where d.datname = current_database())),
    ltrim(substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), '0'))
$$;
comment on function auth.event_epoch is 'Which history of the database this is.';
revoke all on function auth.event_epoch from public;
grant execute on function auth.event_epoch to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/event_floor.sql
-- For the gateway: a number that all events exceed of transactions from xid on. So a search for events that were not seen need not begin at the first.
--
-- The number is read first and xid assigned afterwards: whoever has a greater xid began to write later, and numbers are given while writing. The xmax of
-- a snapshot would not do: it follows the last transaction that has ended, and greater ones may be running. The message makes the commit wait for
-- the disk, so that after a crash neither the number nor xid is given again.
create or replace function auth.event_floor()
returns table (last_id bigint, xid xid8)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_last bigint;
  v_xid xid8;
begin
  select s.last_value into v_last from darkroom.task_events_id s;
  v_xid := pg_current_xact_id();
  perform pg_logical_emit_message(true, 'darkroom', '');
  return query select v_last, v_xid;
end
$$;
comment on function auth.event_floor is 'A number below which no event appears any more once xid has ended.';
revoke all on function auth.event_floor from public;
grant execute on function auth.event_floor to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/finish_upload.sql
-- Ends a reservation by saying what is stored now: how many bytes, null for nothing. The other columns that are null stay as they are. False: the
-- reservation is not there any more, because it had lapsed, and nothing was changed. For the gateway.
create or replace function auth.finish_upload(
  object_key text, reservation uuid, stored bigint, content_type text default null, cache_control text default null, metadata jsonb default null
)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if stored is null then
    delete from darkroom.uploads u where u.key = object_key and u.reservation = finish_upload.reservation;
    return found;
  end if;
  update darkroom.uploads u
  set bytes = stored, content_type = coalesce(finish_upload.content_type, u.content_type),
    cache_control = coalesce(finish_upload.cache_control, u.cache_control), metadata = coalesce(finish_upload.metadata, u.metadata),
    updated_at = clock_timestamp(), reservation = null, reserved = null, reserved_until = null
  where u.key = object_key and u.reservation = finish_upload.reservation;
  return found;
end
$$;
comment on function auth.finish_upload is 'Says what is stored, and ends the reservation.';
revoke all on function auth.finish_upload from public;
grant execute on function auth.finish_upload to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/give_back_task.sql
-- Queues a task of the caller's again, with a failed attempt counted: for a worker of others that breaks down and says so. Failed, when its attempts
-- are used up; otherwise it waits from 1 s to 60 s, as after fail_task. An orchestrator whose tree runs stays as it is, for its children wait for
-- nobody. worker_name: only where that worker of the caller's holds it; null: whichever does. Returns the task. Raises TD021, TD031 and TD032 as
-- fail_task does. For role worker. Writes what fail_task writes.
create or replace function auth.give_back_task(task_id uuid, worker_name text, reason text)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
begin
  v_task := darkroom.lock_held_task(give_back_task.task_id, worker_name, null);
  if not darkroom.has_live_children(v_task.id) then
    v_task := darkroom.requeue_task(v_task, 'failed', left(coalesce(nullif(btrim(reason), ''), 'The worker gave no reason.'), 4000),
      interval '1 second' * least(60, 2 ^ v_task.failed_attempts));
  end if;
  return next v_task;
end
$$;
comment on function auth.give_back_task is 'Queues a task again for a worker that broke down.';
revoke all on function auth.give_back_task from public;
grant execute on function auth.give_back_task to worker;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/holds_attempt.sql
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
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/identify_token.sql
-- The claims for a personal access token, given its SHA-256: {"role", "sub"?, "token_id", "exp"?}. Null: there is none such, or it has
-- expired or was revoked. Notes when it was last used, once a minute at most. For the gateway, which sets them in the transactions of
-- that caller.
create or replace function auth.identify_token(token_hash bytea)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token darkroom.access_tokens;
begin
  select t.* into v_token from darkroom.access_tokens t
  where t.hash = token_hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp());
  if not found then
    return null;
  end if;
  if v_token.last_used_at is null or v_token.last_used_at < clock_timestamp() - interval '1 minute' then
    update darkroom.access_tokens t set last_used_at = clock_timestamp() where t.id = v_token.id;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('role', case v_token.scope when 'worker' then 'worker' else 'authenticated' end,
    'sub', v_token.owner_id, 'token_id', v_token.id, 'exp', floor(extract(epoch from v_token.expires_at))));
end
$$;
comment on function auth.identify_token is 'Claims for a personal access token.';
revoke all on function auth.identify_token from public;
grant execute on function auth.identify_token to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/jwt.sql
-- The claims of whoever is signed in for this transaction (request.jwt.claims), or null. Anybody may ask.
create or replace function auth.jwt()
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- After a transaction that set it, the setting is '' and not null.
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
end
$$;
comment on function auth.jwt is 'The claims of who is signed in.';
revoke all on function auth.jwt from public;
grant execute on function auth.jwt to anon, authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/keep_leases.sql
-- A gateway says every second that it lives, and what its subscriptions have received: all without a position of their own up to upto, and these
-- leases up to positions (null: as all), whose clients have used the message numbers refs, and which have lost their connection or not.
create or replace function auth.keep_leases(gateway uuid, upto text, leases uuid[], refs bigint[], positions text[], lost boolean[])
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- The leases first: what a lease without a position has received must never seem more than it is.
  update darkroom.realtime_leases l
  set last_ref = s.ref, position = s.position, lost_at = case when s.lost then clock_timestamp() end, updated_at = clock_timestamp()
  from unnest(keep_leases.leases, keep_leases.refs, keep_leases.positions, keep_leases.lost) as s (id, ref, position, lost)
  where l.id = s.id and l.gateway_id = keep_leases.gateway;
  insert into darkroom.realtime_gateways as g (id, position) values (keep_leases.gateway, keep_leases.upto)
  on conflict (id) do update set position = excluded.position, seen_at = clock_timestamp();
end
$$;
comment on function auth.keep_leases is 'What the subscriptions of a gateway have received.';
revoke all on function auth.keep_leases from public;
grant execute on function auth.keep_leases to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/lapsed_uploads.sql
-- Gives the caller up to 100 reservations whose holders did not end them in time, for a minute each: he looks what is stored and ends them with
-- finish_upload. No row: there are none. For the gateway.
create or replace function auth.lapsed_uploads()
returns table (object_key text, reservation uuid)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  update darkroom.uploads u set reservation = gen_random_uuid(), reserved_until = clock_timestamp() + interval '1 minute'
  where u.key in (
    select l.key from darkroom.uploads l where l.reserved_until < clock_timestamp() order by l.reserved_until limit 100 for update skip locked
  )
  returning u.key, u.reservation
$$;
comment on function auth.lapsed_uploads is 'Takes over reservations that have lapsed.';
revoke all on function auth.lapsed_uploads from public;
grant execute on function auth.lapsed_uploads to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/login_fault.sql
-- Why the login of this connection must not be a gateway's or a worker's: it could pass by the rules, and then row security and grants protect nobody.
-- Null when nothing is wrong. Only those who are members of authenticator or worker may ask, and who owns the function.
create or replace function auth.login_fault()
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when r.rolsuper then 'it is a superuser'
    when r.rolbypassrls then 'it bypasses row security'
    when r.rolcreaterole then 'it may make roles'
    when exists (select from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and pg_has_role(session_user, c.relowner, 'member'))
      then 'it owns tables'
    when pg_has_role(session_user, 'service_role', 'usage') then 'it is the service without having to say so'
  end
  from pg_roles r where r.rolname = session_user
$$;
comment on function auth.login_fault is 'Why the login of this connection must not be a gateway''s or a worker''s.';
revoke all on function auth.login_fault from public;
grant execute on function auth.login_fault to authenticator, worker;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/note_worker.sql
-- Adds to what a worker says of itself (workers.info), without a heartbeat: for one that reports that it broke down. note is a JSON object, whose
-- keys replace those of the same name. Returns the worker; no row: the caller has none of that name. For role worker. Writes workers.
create or replace function auth.note_worker(worker_name text, note jsonb)
returns setof public.workers
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(note) is distinct from 'object' then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'What a worker says of itself must be a JSON object.';
  end if;
  return query update public.workers w set info = w.info || note where w.id = darkroom.caller_worker(worker_name) returning w.*;
end
$$;
comment on function auth.note_worker is 'Adds to what a worker says of itself.';
revoke all on function auth.note_worker from public;
grant execute on function auth.note_worker to worker;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/open_event_log.sql
-- For the gateway when it connects: makes the log readable, and returns the epoch (auth.event_epoch) and the snapshot from which on to read it.
-- In a database that was restored from a dump the transaction numbers of old events are another cluster's: they become old ones of this.
create or replace function auth.open_event_log()
returns table (epoch text, upto pg_snapshot, last_id bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_before_all constant xid8 := xid8 '3';  -- visible in every snapshot
  v_epoch text := auth.event_epoch();
  v_cluster text := regexp_replace(v_epoch, '-[^-]*$', '');
  v_before text;
  v_last bigint;
begin
  if (select l.origin from darkroom.event_log l) is distinct from v_cluster then
    select l.origin into v_before from darkroom.event_log l for update;
    if v_before is distinct from v_cluster then
      if v_before <> '' then
        update darkroom.task_events e set xid = c_before_all;
        update darkroom.event_log l set trimmed_xid = xid8 '0';
      end if;
      update darkroom.event_log l set origin = v_cluster;
    end if;
  end if;
  select s.last_value into v_last from darkroom.task_events_id s;
  return query select v_epoch, pg_current_snapshot(), v_last;
end
$$;
comment on function auth.open_event_log is 'Where the event log ends now.';
revoke all on function auth.open_event_log from public;
grant execute on function auth.open_event_log to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/read_events.sql
-- The events that somebody has not seen, in an order in which each row's changes follow each other as they were committed. For the gateway.
--
-- Transactions commit in another order than they write, so a number alone is no place in the log: numbers below it appear later. What has been seen
-- is therefore said by snapshots: all that was visible in seen, and of what was visible in upto all up to the number after_id. Without upto the
-- events up to now are read, and the first row says which now that was: it is no event, table_name is null, upto is the snapshot to go on with,
-- and id the last number that was given. It comes also when there is no event.
--
-- owner, project: only events of these; then floor, a number that all unseen events exceed, keeps the search short. max_rows: null for all.
-- record: the row after the change; what the event does not repeat is read where it stands: what cannot change of a task, and the params of its generation, in
-- the task, an entry of the ledger in the ledger. old_record: a deleted row, or the id.
-- Without owner it also asks for one NOTIFY when the log next grows (see public.arm_event_bell).
-- Raises TD090 when the position is of another epoch, or events that were not seen have been removed from the log.
create or replace function auth.read_events(
  epoch text, seen pg_snapshot, upto pg_snapshot default null, after_id bigint default 0, floor bigint default 0,
  owner uuid default null, project uuid default null, max_rows integer default null
)
returns table (id bigint, created_at timestamptz, owner_id uuid, project_id uuid, table_name text, kind text, row_id text, record jsonb, old_record jsonb,
               visible_upto pg_snapshot)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_last bigint;
  v_upto pg_snapshot := read_events.upto;
begin
  if read_events.epoch is distinct from auth.event_epoch() then
    raise exception 'Events cannot be resumed' using errcode = 'TD090', detail = 'The position is of another database, or of this one before a restore or failover.',
      hint = 'Read anew what you show, and subscribe from now on.';
  end if;
  if (select l.trimmed_xid >= pg_snapshot_xmin(read_events.seen) from darkroom.event_log l) then
    raise exception 'Events cannot be resumed' using errcode = 'TD090', detail = 'What happened since then is no longer in the event log.',
      hint = 'Read anew what you show, and subscribe from now on.';
  end if;
  if read_events.owner is null and (select b.last_value from darkroom.event_bell b) <> 2 then
    perform setval('darkroom.event_bell', 2);  -- before the snapshot is taken, and so is the number
  end if;
  select s.last_value into v_last from darkroom.task_events_id s;
  v_upto := coalesce(v_upto, pg_current_snapshot());
  return query select v_last, null::timestamptz, null::uuid, null::uuid, null::text, null::text, null::text, null::jsonb, null::jsonb, v_upto;

  return query
  with unseen as (
    select e.* from darkroom.task_events e
    where read_events.owner is null and e.xid >= pg_snapshot_xmax(read_events.seen)
      and pg_visible_in_snapshot(e.xid, v_upto) and e.id > read_events.after_id
    union all
    select e.* from darkroom.task_events e
    where read_events.owner is null and e.xid = any (array(select pg_snapshot_xip(read_events.seen)))
      and pg_visible_in_snapshot(e.xid, v_upto) and e.id > read_events.after_id
    union all
    (select e.* from darkroom.task_events e
     where e.owner_id = read_events.owner and (read_events.project is null or e.project_id = read_events.project)
       and e.id > greatest(read_events.after_id, read_events.floor)
       and not pg_visible_in_snapshot(e.xid, read_events.seen) and pg_visible_in_snapshot(e.xid, v_upto)
     order by e.id limit read_events.max_rows)
  ), page as (
    select u.* from unseen u order by u.id limit read_events.max_rows
  )
  select p.id, p.created_at, p.owner_id, p.project_id, p.table_name, p.kind, p.row_id,
    case
      when p.kind = 'DELETE' then null
      when p.table_name = 'credit_ledger' then to_jsonb(l)
      when p.table_name = 'tasks' then coalesce(to_jsonb(t), i.ids)
        || jsonb_build_object('updated_at', t.created_at) || darkroom.whole_change(p.data)
      when t.id is not null then i.ids || jsonb_build_object('tasks', jsonb_build_array(t.id), 'params', t.params) || p.data
      when p.kind = 'INSERT' and p.table_name in ('generations', 'shot_generations') then i.ids || p.data
      else p.data
    end,
    case p.kind when 'DELETE' then p.data when 'UPDATE' then jsonb_build_object('id', p.row_id) end,
    null::pg_snapshot
  from page p
  cross join lateral (select jsonb_build_object('id', p.row_id, 'owner_id', p.owner_id, 'project_id', p.project_id) as ids) i
  left join public.tasks t
    on p.kind <> 'DELETE'
      and t.id = case p.table_name when 'tasks' then p.row_id::uuid when 'generations' then case p.kind when 'INSERT' then (p.data ->> 'source_task_id')::uuid end end
  left join public.credit_ledger l
    on p.table_name = 'credit_ledger' and l.owner_id = p.owner_id and l.seq = case p.table_name when 'credit_ledger' then split_part(p.row_id, '/', 2)::bigint end
  order by p.id;
end
$$;
comment on function auth.read_events is 'The events that were not seen yet.';
revoke all on function auth.read_events from public;
grant execute on function auth.read_events to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/readable.sql
-- Which of these projects and users the caller may see: row security decides, because this runs as the caller. Realtime asks it before it shows
-- an event, again and again, so that what is taken away is no longer shown a few seconds later.
create or replace function auth.readable(ids uuid[])
returns setof uuid
language sql stable security invoker
set search_path = pg_catalog, pg_temp
as $$
  select p.id from public.projects p where p.id = any (ids)
  union all
  select u.id from public.users u where u.id = any (ids)
$$;
comment on function auth.readable is 'Which of these projects and users the caller may see.';
revoke all on function auth.readable from public;
grant execute on function auth.readable to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/readable_by.sql
-- What auth.readable answers to several callers, in one transaction: subjects[i] is a project or user that the caller number askers[i] asks about, who
-- has the role roles[n] and the claims claims[n]. Row security decides for each of them. For the gateway, whose login can become all of them;
-- afterwards the transaction is the login's own again. An error of one caller is an error of the call.
create or replace function auth.readable_by(roles text[], claims text[], askers integer[], subjects uuid[])
returns table (asker integer, subject uuid)
language plpgsql volatile security invoker
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_subjects uuid[];
begin
  for v_asker in 1 .. cardinality(readable_by.roles) loop
    v_subjects := array(
      select s.id from unnest(readable_by.askers, readable_by.subjects) as s (asker, id) where s.asker = v_asker);
    perform set_config('request.jwt.claims', readable_by.claims[v_asker], true);
    perform set_config('role', readable_by.roles[v_asker], true);
    return query select v_asker, r.id from auth.readable(v_subjects) as r (id);
    perform set_config('role', 'none', true);
  end loop;
  perform set_config('request.jwt.claims', '', true);
end
$$;
comment on function auth.readable_by is 'Which projects and users several callers may see.';
revoke all on function auth.readable_by from public;
grant execute on function auth.readable_by to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/realtime_tables.sql
-- The tables whose changes can be subscribed to, with the columns of a row. For the gateway.
-- own_rules: somebody has given the table policies that do not come with it. Realtime shows a user what happens in their projects, as the
-- policies that come with the tables do; what others would have it show, it cannot know.
create or replace function auth.realtime_tables()
returns table (table_name text, columns jsonb, own_rules boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select c.relname::text,
    (select jsonb_agg(jsonb_build_object('name', a.attname, 'type', y.typname) order by a.attnum)
     from pg_attribute a join pg_type y on y.oid = a.atttypid where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    exists (select from pg_policy p where p.polrelid = c.oid and p.polname not in ('internal', 'service', 'own', 'held'))
  from pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
    and c.relname in ('tasks', 'generations', 'shots', 'shot_generations', 'projects', 'credit_ledger')
$$;
comment on function auth.realtime_tables is 'The tables whose changes can be subscribed to.';
revoke all on function auth.realtime_tables from public;
grant execute on function auth.realtime_tables to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/role.sql
-- The role in the claims of this transaction, or null. Anybody may ask. Nothing of ours is decided by it: see darkroom.caller_owner.
create or replace function auth.role()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role';
end
$$;
comment on function auth.role is 'The role in the claims of who is signed in.';
revoke all on function auth.role from public;
grant execute on function auth.role to anon, authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/role_limits.sql
-- The timeouts that were set for the roles of requests (ALTER ROLE ... SET), for the gateway: SET ROLE alone does not apply them. '0' is none.
create or replace function auth.role_limits()
returns table (role_name text, statement_timeout text, lock_timeout text, idle_in_transaction_session_timeout text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with said as (
    -- What was set for this database comes before what was set for all.
    select distinct on (s.setrole, split_part(c, '=', 1)) s.setrole, split_part(c, '=', 1) as name, substr(c, strpos(c, '=') + 1) as value
    from pg_db_role_setting s, unnest(s.setconfig) c
    where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
    order by s.setrole, split_part(c, '=', 1), s.setdatabase desc
  )
  select r.rolname::text, coalesce(max(s.value) filter (where s.name = 'statement_timeout'), '0'),
    coalesce(max(s.value) filter (where s.name = 'lock_timeout'), '0'),
    coalesce(max(s.value) filter (where s.name = 'idle_in_transaction_session_timeout'), '0')
  from pg_roles r left join said s on s.setrole = r.oid
  where r.rolname in ('anon', 'authenticated', 'worker', 'service_role')
  group by r.rolname
$$;
comment on function auth.role_limits is 'Timeouts of the roles of requests.';
revoke all on function auth.role_limits from public;
grant execute on function auth.role_limits to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/rotate_session.sql
-- Takes a refresh token for the next one: {"session_id", "started_at", "account"}, and "reused": true when nothing else is there because an
-- old token came back. Null: no such token, or its session has ended. For the gateway, which makes next_hash of the token itself, so that
-- whoever sends it twice gets the same next token.
--
-- A token is good once. For 10 s after, and while its successor was not used, it may come again: of a second tab, or because the answer was
-- lost. Later somebody else has it too, and the session ends (RFC 9700, section 4.14.2).
create or replace function auth.rotate_session(token_hash bytea, next_hash bytea)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_grace constant interval := interval '10 seconds';
  v_session darkroom.sessions;
  v_used timestamptz;
begin
  select s.* into v_session from darkroom.sessions s
  where s.id = (select t.session_id from darkroom.refresh_tokens t where t.hash = rotate_session.token_hash)
  for update;
  if not found then
    return null;
  elsif v_session.used_at < clock_timestamp() - darkroom.session_idle() then
    delete from darkroom.sessions s where s.id = v_session.id;
    return null;
  end if;
  -- Read anew: another rotation may have held the session.
  select t.used_at into v_used from darkroom.refresh_tokens t where t.hash = rotate_session.token_hash;
  if not found then
    return null;
  elsif v_used is null then
    update darkroom.refresh_tokens t set used_at = clock_timestamp() where t.hash = rotate_session.token_hash;
    insert into darkroom.refresh_tokens (hash, session_id) values (rotate_session.next_hash, v_session.id);
    delete from darkroom.refresh_tokens t where t.session_id = v_session.id and t.used_at < clock_timestamp() - darkroom.session_idle();
    update darkroom.sessions s set used_at = clock_timestamp() where s.id = v_session.id;
  elsif v_used < clock_timestamp() - c_grace
    or not exists (select from darkroom.refresh_tokens t where t.hash = rotate_session.next_hash and t.session_id = v_session.id and t.used_at is null) then
    delete from darkroom.sessions s where s.id = v_session.id;
    return jsonb_build_object('reused', true, 'session_id', v_session.id);
  end if;
  return jsonb_build_object('session_id', v_session.id, 'started_at', v_session.started_at, 'account', darkroom.sign_in_account(v_session.user_id));
end
$$;
comment on function auth.rotate_session is 'Takes a refresh token for the next one.';
revoke all on function auth.rotate_session from public;
grant execute on function auth.rotate_session to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/sign_up.sql
-- Makes a user who signs in with email and password, and returns the account, as auth.account_of does. Null: the email is taken.
-- password_hash is what the gateway made of the password. For the gateway.
create or replace function auth.sign_up(email text, password_hash text, user_metadata jsonb default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_email text := darkroom.plain_email(sign_up.email);
  v_user uuid := gen_random_uuid();
begin
  begin
    insert into public.users (id, email) values (v_user, v_email);
    insert into darkroom.credentials (user_id, email, password_hash, user_metadata)
    values (v_user, v_email, sign_up.password_hash, sign_up.user_metadata);
  exception when unique_violation then
    return null;
  end;
  return darkroom.sign_in_account(v_user);
end
$$;
comment on function auth.sign_up is 'Makes a user who signs in with a password.';
revoke all on function auth.sign_up from public;
grant execute on function auth.sign_up to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/start_session.sql
-- Starts a session of a user whose password was checked: {"session_id", "started_at", "account"}. Null: the password is no longer the one
-- that was checked. token_hash is the SHA-256 of the session's first refresh token. Sessions that were not used for 30 days go, and of
-- more than 100 those that were not used for longest. For the gateway.
create or replace function auth.start_session(user_id uuid, password_hash text, token_hash bytea)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 100;
  v_session darkroom.sessions;
begin
  -- Before the sessions: who changes the password ends them, and none may start beside that.
  update darkroom.credentials c set last_sign_in_at = clock_timestamp()
  where c.user_id = start_session.user_id and c.password_hash = start_session.password_hash;
  if not found then
    return null;
  end if;
  delete from darkroom.sessions s
  where s.id in (select o.id from darkroom.sessions o where o.user_id = start_session.user_id order by o.used_at desc offset c_most - 1)
    or (s.user_id = start_session.user_id and s.used_at < clock_timestamp() - darkroom.session_idle());
  insert into darkroom.sessions as s (user_id) values (start_session.user_id) returning s.* into v_session;
  insert into darkroom.refresh_tokens (hash, session_id) values (start_session.token_hash, v_session.id);
  return jsonb_build_object('session_id', v_session.id, 'started_at', v_session.started_at, 'account', darkroom.sign_in_account(start_session.user_id));
end
$$;
comment on function auth.start_session is 'Starts a session of a user.';
revoke all on function auth.start_session from public;
grant execute on function auth.start_session to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/take_lease.sql
-- A subscription begins at a gateway: returns its lease, and the position that it goes on from when the same client had it before and its
-- connection broke; a null position begins now.
--
-- The same client: what it subscribed to is the same (key), and its message numbers go on (ref): they are counted by the page, and a new page
-- begins near 1. The nearest lease is taken over. One that is not known to have lost its connection stays, since it may be of another page; then
-- only its position is taken. Where several are near, the oldest position is: it costs some events twice, never one.
create or replace function auth.take_lease(gateway uuid, key bytea, owner uuid, ref bigint)
returns table (lease_id uuid, resume_from text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_near constant bigint := 16::bigint;                         -- messages that may be under way when a connection breaks, and more
  c_silent constant interval := interval '10 seconds';  -- a gateway says every second that it lives
  v_nearest record;
  v_from text;
begin
  perform pg_advisory_xact_lock(hashtextextended(encode(take_lease.key, 'hex'), 0));
  select l.id, l.last_ref, l.came_from, l.lost_at is not null or coalesce(g.seen_at < clock_timestamp() - c_silent, true) as lost into v_nearest
  from darkroom.realtime_leases l left join darkroom.realtime_gateways g on g.id = l.gateway_id
  where l.key = take_lease.key and (take_lease.ref is null or l.last_ref < take_lease.ref)
  order by case when take_lease.ref is null then l.lost_at is not null end desc, l.last_ref desc, 4 desc limit 1;
  if not found then
    return query insert into darkroom.realtime_leases as n (key, owner_id, gateway_id, last_ref)
      values (take_lease.key, take_lease.owner, take_lease.gateway, coalesce(take_lease.ref, 0)) returning n.id, null::text;
    return;
  end if;

  -- What it came from, at gateways of which nobody knew yet that they had died, is left over; unless there are others, which may have come back instead.
  with recursive before as (
    select l.id, l.came_from, l.lost_at, l.gateway_id from darkroom.realtime_leases l where l.id = v_nearest.came_from and l.key = take_lease.key
    union
    select l.id, l.came_from, l.lost_at, l.gateway_id from darkroom.realtime_leases l join before b on l.id = b.came_from where l.key = take_lease.key
  )
  delete from darkroom.realtime_leases l
  where l.id in (
      select b.id from before b left join darkroom.realtime_gateways g on g.id = b.gateway_id
      where b.lost_at is null and coalesce(g.seen_at < clock_timestamp() - c_silent, true))
    and not exists (
      select from darkroom.realtime_leases o where o.key = take_lease.key and o.id <> v_nearest.id and o.id not in (select b.id from before b));

  select coalesce(l.position, g.position) into v_from
  from darkroom.realtime_leases l left join darkroom.realtime_gateways g on g.id = l.gateway_id
  where l.key = take_lease.key
    and (take_lease.ref is null or l.last_ref < take_lease.ref and (l.id = v_nearest.id or l.last_ref >= take_lease.ref - c_near))
  order by case when l.position is null then g.seen_at else l.updated_at end limit 1;
  if v_nearest.lost then
    update darkroom.realtime_leases l
    set gateway_id = take_lease.gateway, last_ref = coalesce(take_lease.ref, l.last_ref), position = v_from, lost_at = null, updated_at = clock_timestamp()
    where l.id = v_nearest.id;
    return query select v_nearest.id, v_from;
  else
    return query insert into darkroom.realtime_leases as n (key, owner_id, gateway_id, last_ref, position, came_from)
      values (take_lease.key, take_lease.owner, take_lease.gateway, coalesce(take_lease.ref, 0), v_from, v_nearest.id) returning n.id, v_from;
  end if;
end
$$;
comment on function auth.take_lease is 'Begins a subscription, or goes on with one whose connection broke.';
revoke all on function auth.take_lease from public;
grant execute on function auth.take_lease to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/take_tokens.sql
-- Takes up to `wanted` tokens out of a bucket that holds `burst` and refills by `per_second`, for the gateway's limits of rate. All gateways of a
-- database share its buckets, so what they take together never exceeds burst + per_second * time. granted: how many were taken, 0 when there is
-- none. busy: seconds until the bucket is full again; a token comes when that is below (burst - 1) / per_second.
-- A bucket that nobody took from is full, so a full one needs no row: see auth.drop_full_buckets. Waits only for another taker of the same bucket.
create or replace function auth.take_tokens(bucket bytea, per_second double precision, burst integer, wanted integer)
returns table (granted integer, busy double precision)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_full_at timestamptz;
  v_now timestamptz;
begin
  granted := least(take_tokens.wanted, take_tokens.burst);
  busy := granted / take_tokens.per_second;
  loop
    select b.full_at into v_full_at from darkroom.rate_buckets b where b.bucket = take_tokens.bucket for update;
    exit when found;
    insert into darkroom.rate_buckets (bucket, full_at) values (take_tokens.bucket, clock_timestamp() + busy * interval '1 second')
    on conflict do nothing;
    if found then
      return next;
      return;
    end if;
  end loop;

  -- A clock that was set back must not close the bucket for longer than it takes to fill.
  v_now := clock_timestamp();
  busy := least(greatest(extract(epoch from v_full_at - v_now), 0), take_tokens.burst / take_tokens.per_second);
  granted := greatest(least(take_tokens.wanted, floor(take_tokens.burst - busy * take_tokens.per_second + 1e-6)::integer), 0);
  if granted > 0 then
    busy := busy + granted / take_tokens.per_second;
    update darkroom.rate_buckets b set full_at = v_now + busy * interval '1 second' where b.bucket = take_tokens.bucket;
  end if;
  return next;
end
$$;
comment on function auth.take_tokens is 'Takes tokens out of a bucket, for limits of rate.';
revoke all on function auth.take_tokens from public;
grant execute on function auth.take_tokens to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/token_id.sql
-- The personal access token with which this transaction is signed in, or null. Anybody may ask; row security of workers is built on it.
create or replace function auth.token_id()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'token_id', '')::uuid;
end
$$;
comment on function auth.token_id is 'The personal access token of who is signed in.';
revoke all on function auth.token_id from public;
grant execute on function auth.token_id to anon, authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/uid.sql
-- The user who is signed in for this transaction, or null. Anybody may ask; row security is built on it.
create or replace function auth.uid()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid;
end
$$;
comment on function auth.uid is 'The user who is signed in.';
revoke all on function auth.uid from public;
grant execute on function auth.uid to anon, authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/uncounted_uploads.sql
-- Which of these keys, of objects in storage, no row counts. For the gateway, which counts them then.
create or replace function auth.uncounted_uploads(object_keys text[])
returns setof text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.key from unnest(object_keys) as k (key) where not exists (select from darkroom.uploads u where u.key = k.key)
$$;
comment on function auth.uncounted_uploads is 'Keys that have no row.';
revoke all on function auth.uncounted_uploads from public;
grant execute on function auth.uncounted_uploads to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/vanished.sql
-- Which of these ids are of no project and no user any more. For the gateway: what happened in a deleted project is shown to whom it belonged,
-- since row security can no longer be asked.
create or replace function auth.vanished(ids uuid[])
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select i.id from unnest(ids) as i (id)
  where not exists (select from public.projects p where p.id = i.id) and not exists (select from public.users u where u.id = i.id)
$$;
comment on function auth.vanished is 'Which of these ids are of no project and no user any more.';
revoke all on function auth.vanished from public;
grant execute on function auth.vanished to authenticator;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/auth/worker_id.sql
-- The id of the caller's worker of that name; the name itself where the caller has none of that name. Workers that come with a token know
-- themselves by name only, and so the REST door reads names in their filters on tasks.worker_id and workers.id. For role worker.
create or replace function auth.worker_id(name text)
returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(darkroom.caller_worker(name), name)
$$;
comment on function auth.worker_id is 'Id of the caller''s worker of a name.';
revoke all on function auth.worker_id from public;
grant execute on function auth.worker_id to worker;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/able_workers.sql
-- The workers that may claim this task, by the rule of the claim: registered for its type, the owner's own or everybody's, with a token that holds.
--
-- seen: when it was last heard from; a claim counts. alive: see worker_alive. usable: alive, and the engine that does this type is not down. Only of those
-- that are alive is the rest known. engine: what workers.info says of that engine, if anything. slots: how many such tasks it runs side by side; 1 unless
-- it says otherwise. running: how many of those are taken. task_types: what it claims now, but for types whose engine is down.
--
-- Costs what there are workers, and running tasks; not what is queued. What a worker says of itself may be anything, and is never an error.
create or replace function darkroom.able_workers(p_task public.tasks)
returns setof darkroom.able_worker
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select w.id, w.owner_id is not null, s.seen, coalesce(a.alive, false), coalesce(a.alive and e.engine ->> 'state' is distinct from 'down', false),
         e.engine, n.slots, n.running, y.names
  from darkroom.worker_types v
  join public.workers w on w.id = v.worker_id
  cross join lateral darkroom.worker_seen(w) s (seen)
  -- A lease is a day at most.
  cross join lateral (select case when s.seen > clock_timestamp() - interval '1 day' then darkroom.worker_alive(w, s.seen) end as alive) a
  left join lateral (
    select jsonb_path_query_first(w.info, '$.engines[*] ? (@.task_types[*] == $type)', jsonb_build_object('type', v.task_type), true) as engine
    where a.alive
  ) e on true
  left join lateral (
    select least(m.worker_slots, m.engine_slots) as slots,
           least(m.worker_slots, m.engine_slots) - least(m.worker_slots - c.everything, m.engine_slots - c.here) as running
    from (select count(*)::integer as everything,
                 (count(*) filter (where coalesce(e.engine -> 'task_types' ? t.task_type, true)))::integer as here
          from darkroom.held_tasks(w) t) c
    cross join (select
      case when jsonb_typeof(w.info -> 'slots') = 'number' then greatest(least((w.info -> 'slots')::numeric, 10000), 0)::integer else 1 end as worker_slots,
      case when e.engine ->> 'state' = 'probing' then 1
           when jsonb_typeof(e.engine -> 'slots') = 'number' then greatest(least((e.engine -> 'slots')::numeric, 10000), 0)::integer else 10000 end as engine_slots) m
    where a.alive
  ) n on true
  left join lateral (
    select array_agg(o.task_type order by o.task_type) as names from darkroom.worker_types o
    where o.worker_id = w.id and not coalesce(jsonb_path_exists(
      w.info, '$.engines[*] ? (@.state == "down" && @.task_types[*] == $type)', jsonb_build_object('type', o.task_type), true), false)
      and a.alive
  ) y on true
  where v.task_type = p_task.task_type and (w.owner_id is null or w.owner_id = p_task.owner_id)
    and not exists (select from darkroom.access_tokens k
                    where k.id = w.token_id and (k.revoked_at is not null or k.expires_at <= clock_timestamp()));
end
$$;
comment on function darkroom.able_workers is 'The workers that may claim this task, and how they are.';
revoke all on function darkroom.able_workers from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/account.sql
-- The newest ledger row of an owner: the account. All fields null when nothing was ever granted.
create or replace function darkroom.account(p_owner uuid)
returns public.credit_ledger
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry public.credit_ledger;
begin
  select l.* into v_entry from public.credit_ledger l where l.owner_id = p_owner order by l.seq desc limit 1;
  return v_entry;
end
$$;
comment on function darkroom.account is 'Newest ledger row of an owner: balance_after and held_after are the account.';
revoke all on function darkroom.account from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/append_ledger.sql
-- Appends one ledger entry and so moves the account. The caller holds the owner's lock.
-- Where available credits rise, the lanes that can now be paid are put back in the claim's sight.
create or replace function darkroom.append_ledger(
  p_owner uuid, p_kind text, p_amount numeric, p_task uuid default null, p_attempt integer default null,
  p_idempotency_key text default null, p_note text default null)
returns public.credit_ledger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry public.credit_ledger;
begin
  insert into public.credit_ledger as l
    (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt, idempotency_key, note)
  select p_owner, coalesce(b.seq, 0) + 1, p_kind, p_amount,
    coalesce(b.balance_after, 0) + case p_kind when 'grant' then p_amount when 'settle' then -p_amount else 0 end,
    coalesce(b.held_after, 0) + case p_kind when 'hold' then p_amount when 'grant' then 0 else -p_amount end,
    p_task, p_attempt, p_idempotency_key, p_note
  from (select) one
  left join lateral (select a.* from public.credit_ledger a where a.owner_id = p_owner order by a.seq desc limit 1) b on true
  returning * into v_entry;

  if p_kind in ('grant', 'release') then
    perform darkroom.unpark_lanes(p_owner, v_entry.balance_after - v_entry.held_after);
  end if;
  return v_entry;
end
$$;
comment on function darkroom.append_ledger is 'Appends one ledger entry; the caller holds the owner''s lock.';
revoke all on function darkroom.append_ledger from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/as_uuid.sql
-- The uuid in a JSON value: a string, or an object that has it under id or uuid. Null for everything else; never an error.
create or replace function darkroom.as_uuid(p_value jsonb)
returns uuid
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_text text := case jsonb_typeof(p_value)
                   when 'string' then p_value #>> '{}'
                   when 'object' then coalesce(p_value ->> 'id', p_value ->> 'uuid')
                 end;
begin
  return case when v_text ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then v_text::uuid end;
end
$$;
comment on function darkroom.as_uuid is 'The uuid in a JSON value, or null; never an error.';
revoke all on function darkroom.as_uuid from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/audit_change.sql
-- Trigger after insert, update or delete on what only the service changes: who did it goes to darkroom.audit_log, in the same transaction.
-- Arguments: the table, the column that names the row, and the columns to be noted, none of which holds a secret or an address of a person.
-- An update that changes none of them is not noted.
create or replace function darkroom.audit_change()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_details jsonb;
begin
  select jsonb_object_agg(c.name, coalesce(v_new, v_old) -> c.name) into v_details from unnest(tg_argv[2:]) c (name)
  where v_old is null or v_new is null or v_old -> c.name is distinct from v_new -> c.name;
  if v_details is not null or tg_op <> 'UPDATE' then
    insert into darkroom.audit_log (login, role, subject, token_id, act, object, target, details)
    values (session_user, coalesce(nullif(current_setting('role'), 'none'), session_user), auth.uid(), auth.token_id(),
            tg_op, tg_argv[0], coalesce(v_new, v_old) ->> tg_argv[1], coalesce(v_details, '{}'));
  end if;
  return null;
end
$$;
comment on function darkroom.audit_change is 'Notes in the audit log who changed a row.';
revoke all on function darkroom.audit_change from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/caller_owner.sql
-- Whose rows the caller may touch: null means everybody's. The first line of every function that users or workers may call.
--
-- The service (a member of service_role, or a superuser): everybody's. A worker: those of the user in its claims, or everybody's when
-- they name none. Everybody else: those of the user in the claims; raises TD040 when nobody is signed in. The role is the one that was
-- SET, else the one that logged in: a security definer function does not change either.
create or replace function darkroom.caller_owner()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role'), 'none'), session_user);
  v_uid uuid;
begin
  if pg_has_role(v_role, 'service_role', 'usage') then
    return null;
  end if;
  v_uid := auth.uid();
  if v_uid is null and not pg_has_role(v_role, 'worker', 'usage') then
    raise exception 'Not signed in' using errcode = 'TD040', detail = 'This needs a user.',
      hint = 'Sign in, or set request.jwt.claims in the transaction.';
  end if;
  return v_uid;
end
$$;
comment on function darkroom.caller_owner is 'The user whose rows the caller may touch; null: everybody''s.';
revoke all on function darkroom.caller_owner from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/caller_token.sql
-- The token that binds what the caller may do as a worker: null for whoever is trusted with every worker's tasks (the service, and
-- workers that log in to the database). Raises TD041 for callers that are no workers.
create or replace function darkroom.caller_token()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  if pg_has_role(v_role, 'service_role', 'usage') then
    return null;
  elsif not pg_has_role(v_role, 'worker', 'usage') then
    raise exception 'Not allowed' using errcode = 'TD041', detail = 'Only workers may do this.';
  end if;
  return auth.token_id();
end
$$;
comment on function darkroom.caller_token is 'The token that the caller works under; null: trusted with every task.';
revoke all on function darkroom.caller_token from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/caller_worker.sql
-- The id of a worker by the name that it gives itself, or by the id that a claim gave it. With a token that is one of the token's own workers, so that
-- nobody can speak for somebody else's; null when there is none. Without a token the name is the id.
create or replace function darkroom.caller_worker(p_name text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token uuid := darkroom.caller_token();
begin
  if v_token is null then
    return p_name;
  end if;
  return (select w.id from public.workers w where w.token_id = v_token and p_name in (w.name, w.id) order by w.name = p_name desc limit 1);
end
$$;
comment on function darkroom.caller_worker is 'Id of one of the caller''s workers, by its name.';
revoke all on function darkroom.caller_worker from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/check_output.sql
-- Refuses an output that a task may not have. p_output is a URL or a text, of which only our own storage's public URLs are looked at, or
-- a key of our storage. It must lie in the folder of the task's owner; in the folder of another task only if that is in the tree of this one;
-- and in the folder of the attempt p_attempt where it names an attempt of this task: so what an older attempt stored late is refused.
-- Raises TD031 (another attempt's), TD041 (not this task's).
create or replace function darkroom.check_output(p_task public.tasks, p_output text, p_attempt integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_ours constant text := '/storage/v1/object/public/image_uploads/';
  v_key text := p_output;
  v_of text[];
begin
  if strpos(p_output, c_ours) > 0 then
    v_key := substr(p_output, strpos(p_output, c_ours) + length(c_ours));
  end if;
  v_key := regexp_replace(v_key, '[?#].*$', '');
  if not starts_with(v_key, p_task.owner_id || '/') or v_key ~* '(^|/)(\.|%2e)+(/|$)' then
    raise exception 'Not allowed' using errcode = 'TD041', detail = 'The output lies in somebody else''s folder.';
  end if;

  v_of := string_to_array(v_key, '/');  -- owner, 'tasks', task, attempt, name ...
  if v_of[2] <> 'tasks' then
    return;
  elsif v_of[3] <> p_task.id::text then
    if not exists (select from public.tasks c where c.id = darkroom.as_uuid(to_jsonb(v_of[3])) and c.orchestrator_task_id = p_task.id) then
      raise exception 'Not allowed' using errcode = 'TD041', detail = 'The output belongs to another task, which is not in the tree of this one.';
    end if;
  elsif v_of[4] ~ '^[0-9]{1,9}$' and v_of[5] is not null and v_of[4]::integer <> p_attempt then
    raise exception 'Lease lost' using errcode = 'TD031',
      detail = format('The output was stored by attempt %s, the task is at attempt %s.', v_of[4], p_attempt),
      hint = 'Stop working on it: nothing was changed.';
  end if;
end
$$;
comment on function darkroom.check_output is 'Refuses an output that is not the task''s.';
revoke all on function darkroom.check_output from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/check_params.sql
-- Refuses params that are no object, too large, too deep, or lack what the type requires: TD003, TD004. Otherwise returns true.
create or replace function darkroom.check_params(p_type public.task_types, p_params jsonb)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_max_bytes constant integer := 1048576;
  c_max_depth constant integer := 32;
  c_max_values constant integer := 10000;
  v_bytes integer := octet_length(p_params::text);
  v_path text;
  v_found jsonb;
begin
  if p_params is null or jsonb_typeof(p_params) <> 'object' then
    raise exception 'Missing required fields' using errcode = 'TD001',
      detail = 'params (input) must be a JSON object.', hint = 'Send {} if there is nothing to say.';
  end if;
  if v_bytes > c_max_bytes then
    raise exception 'Params too large' using errcode = 'TD004',
      detail = format('params may be up to %s bytes as text.', c_max_bytes), hint = 'Upload large inputs and send their location.';
  end if;
  -- $.**{n} is what lies n levels down; nothing may lie deeper than the limit. Each level takes two bytes at least.
  if v_bytes > 2 * c_max_depth and jsonb_path_exists(p_params, '$.**{33}') then
    raise exception 'Params too large' using errcode = 'TD004',
      detail = format('params may be nested up to %s levels.', c_max_depth), hint = 'Flatten the structure.';
  end if;

  -- Counted only where the text is long enough to hold so many.
  if v_bytes > 2 * c_max_values and (select count(*) from jsonb_path_query(p_params, '$.**')) > c_max_values then
    raise exception 'Params too large' using errcode = 'TD004',
      detail = format('params may hold up to %s values.', c_max_values), hint = 'Upload large inputs and send their location.';
  end if;

  foreach v_path in array p_type.required_params loop
    v_found := p_params #> string_to_array(v_path, '.');
    if v_found is null or v_found in ('null'::jsonb, '""'::jsonb) then
      raise exception 'Missing required fields' using errcode = 'TD001',
        detail = format('%s needs params.%s.', p_type.name, v_path), hint = 'Required params stand in task_types.required_params.';
    end if;
  end loop;
  return true;
end
$$;
comment on function darkroom.check_params is 'Refuses params that are too large, too deep or incomplete for the type.';
revoke all on function darkroom.check_params from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/check_queue_room.sql
-- Refuses a task that is to be filed when its owner has as many queued tasks as they may: TD011. With p_refuse false, for a task that somebody's
-- running tree needs, it only counts. Otherwise returns true. The caller holds the owner's lock.
--
-- Counting costs as much as there is to count, so one count serves for many tasks: with room for n more, the owner's tasks among the next n job
-- numbers fit, however many of those are theirs. Only a task outside of that range is counted for anew. What was queued before and comes back after a
-- lost attempt is never refused, and counts from the next count on.
create or replace function darkroom.check_queue_room(p_owner uuid, p_job_no bigint, p_refuse boolean)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_room darkroom.queue_room;
  v_max integer;
  v_queued integer;
begin
  select r.* into v_room from darkroom.queue_room r where r.owner_id = p_owner;
  if p_job_no between v_room.from_job_no and v_room.to_job_no then
    return true;
  end if;

  -- Locked, so that set_queue_limit finds all counts that were made with the old limit.
  select s.max_queued into v_max from darkroom.queue_settings s for share;
  v_max := coalesce(v_room.max_queued, v_max);
  select count(*)::integer into v_queued
  from (
    select r.task_id from darkroom.task_ready r where r.owner_id = p_owner
    union all select b.task_id from darkroom.task_backlog b where b.owner_id = p_owner
    union all select d.task_id from darkroom.task_delayed d where d.owner_id = p_owner
    union all (select distinct d.task_id from darkroom.task_deps d where d.owner_id = p_owner)
    limit v_max
  ) q;
  if p_refuse and v_queued >= v_max then
    raise exception 'Too many queued tasks' using errcode = 'TD011', detail = format('Up to %s tasks of one owner may be queued.', v_max),
      hint = 'Wait until some of them have run, or cancel some.';
  end if;

  insert into darkroom.queue_room as r (owner_id, from_job_no, to_job_no) values (p_owner, p_job_no, p_job_no + (v_max - v_queued) - 1)
  on conflict (owner_id) do update set from_job_no = excluded.from_job_no, to_job_no = excluded.to_job_no;
  return true;
end
$$;
comment on function darkroom.check_queue_room is 'Refuses a task when its owner has too many queued; the caller holds the owner''s lock.';
revoke all on function darkroom.check_queue_room from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/check_travel.sql
-- Refuses travel details that do not fit together, each with a sentence: TD003.
create or replace function darkroom.check_travel(p_n integer, p_images jsonb, p_frames jsonb, p_overlaps jsonb, p_seed jsonb)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wrong text;
begin
  if jsonb_typeof(p_images) is distinct from 'array' or jsonb_array_length(p_images) <> p_n + 1
     or exists (select from jsonb_array_elements(p_images) i where jsonb_typeof(i) <> 'string' or i = '""') then
    v_wrong := format('input_image_paths_resolved must list %s image locations, one more than segments', p_n + 1);
  elsif jsonb_typeof(p_frames) <> 'array' or jsonb_array_length(p_frames) <> p_n
     or exists (select from jsonb_array_elements_text(p_frames) f
                where coalesce(f, '') !~ '^[0-9]{1,4}$' or f::integer not between 2 and 1000) then
    v_wrong := format('segment_frames_expanded must list %s frame counts from 2 to 1000', p_n);
  elsif jsonb_typeof(p_overlaps) <> 'array' or jsonb_array_length(p_overlaps) <> p_n - 1
     or exists (select from jsonb_array_elements_text(p_overlaps) with ordinality as o (v, place)
                where coalesce(o.v, '') !~ '^[0-9]{1,4}$'
                   or o.v::integer >= least((p_frames ->> (o.place - 1)::integer)::integer, (p_frames ->> o.place::integer)::integer)) then
    v_wrong := format('frame_overlap_expanded must list %s overlaps, each shorter than its two segments', p_n - 1);
  elsif jsonb_typeof(p_seed) not in ('number', 'null') then
    v_wrong := 'seed_base must be a number';
  end if;
  if v_wrong is not null then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('orchestrator_details.%s.', v_wrong);
  end if;
end
$$;
comment on function darkroom.check_travel is 'Refuses travel details that do not fit together.';
revoke all on function darkroom.check_travel from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/claim_one.sql
-- The oldest task of these types that can run now, In Progress under this worker, its cost held; null when there is none. claim_next_tasks says what
-- that means; this is the same for one task, with a statement for each step, which costs half of a batch of one.
-- p_owner: only tasks of this user; null: everybody's.
create or replace function darkroom.claim_one(p_worker text, p_owner uuid, p_types text[])
returns public.tasks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_ignored boolean;
  v_mark timestamptz;
  v_head record;
  v_found darkroom.task_ready;
  v_row darkroom.task_ready;
  v_busy uuid[] := array[]::uuid[];    -- owners whose lock could not be had
  v_locked uuid[] := array[]::uuid[];  -- owners whose lock we hold
  v_armed boolean := false;
  v_task public.tasks;
begin
  loop
    -- pick and lock the oldest ready row: types in the order of their heads, each only if it can beat what is picked
    v_mark := timestamptz 'epoch' + coalesce(pg_sequence_last_value('darkroom.ready_mark'), 0) * interval '1 microsecond';
    v_row := null;
    if p_owner is not null then
      select r.* into v_row from darkroom.task_ready r
      where r.owner_id = p_owner and r.task_type = any (p_types) and not r.parked and r.owner_id <> all (v_busy)
      order by r.created_at, r.job_no limit 1
      for update skip locked;
    else
      for v_head in
        select ty.name, h.created_at, h.job_no
        from unnest(p_types) as ty (name)
        cross join lateral (select r.created_at, r.job_no from darkroom.task_ready r
                            where r.task_type = ty.name and not r.parked and r.created_at >= v_mark and r.owner_id <> all (v_busy)
                            order by r.created_at, r.job_no limit 1) h
        order by h.created_at, h.job_no
      loop
        exit when v_row.task_id is not null and (v_head.created_at, v_head.job_no) > (v_row.created_at, v_row.job_no);
        select r.* into v_found from darkroom.task_ready r
        where r.task_type = v_head.name and not r.parked and (r.created_at, r.job_no) >= (v_head.created_at, v_head.job_no) and r.owner_id <> all (v_busy)
        order by r.created_at, r.job_no limit 1
        for update skip locked;
        if found and (v_row.task_id is null or (v_found.created_at, v_found.job_no) < (v_row.created_at, v_row.job_no)) then
          v_row := v_found;
        end if;
      end loop;
    end if;

    if v_row.task_id is null then
      -- Nothing there. Ask to be woken, then look once more: what came in between has rung no bell.
      if v_armed then
        return null;
      end if;
      v_armed := true;
      if pg_sequence_last_value('darkroom.worker_bell') is distinct from 2 then
        perform setval('darkroom.worker_bell', 2);
      end if;
      continue;
    end if;

    -- lock the owner
    if v_row.owner_id <> all (v_locked) then
      if not darkroom.lock_owner(v_row.owner_id, cardinality(v_locked) = 0, '250ms') then
        v_busy := v_busy || v_row.owner_id;
        continue;
      end if;
      v_locked := v_locked || v_row.owner_id;
    end if;

    -- hold and claim: if its owner can pay, and the row says that it can run
    if v_row.cost > 0 then
      insert into public.credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
      select t.owner_id, a.seq + 1, 'hold', t.cost, a.balance_after, a.held_after + t.cost, t.id, t.attempt + 1
      from public.tasks t
      cross join lateral (select l.* from public.credit_ledger l where l.owner_id = v_row.owner_id order by l.seq desc limit 1) a
      where t.id = v_row.task_id and (t.status = 'Queued') is true and t.cost <= a.balance_after - a.held_after
        and t.owner_id = v_row.owner_id and t.task_type = v_row.task_type and t.cost = v_row.cost
        and t.created_at = v_row.created_at and t.job_no = v_row.job_no
        and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete'));
      if not found then
        perform darkroom.set_aside(v_row);
        continue;
      end if;
    end if;
    update public.tasks t
    set status = 'In Progress', worker_id = p_worker, claimed_at = clock_timestamp(), attempt = t.attempt + 1,
        progress = null, run_after = null, updated_at = clock_timestamp()
    where t.id = v_row.task_id and (t.status = 'Queued') is true
      and t.owner_id = v_row.owner_id and t.task_type = v_row.task_type and t.cost = v_row.cost
      and t.created_at = v_row.created_at and t.job_no = v_row.job_no
      and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete'))
    returning t.* into v_task;
    if not found then
      assert v_row.cost = 0, 'The task was changed by somebody who does not hold its owner''s lock.';
      perform darkroom.set_aside(v_row);
      continue;
    end if;
    delete from darkroom.task_ready r
    where r.owner_id = v_row.owner_id and r.task_type = v_row.task_type and r.cost = v_row.cost
      and r.created_at = v_row.created_at and r.job_no = v_row.job_no;
    v_ignored := darkroom.refill_lane(v_row.owner_id, v_row.task_type, v_row.cost, v_row.created_at, v_row.job_no, false);
    return v_task;
  end loop;
end
$$;
comment on function darkroom.claim_one is 'Claims the oldest task of these types for a worker, and holds its cost.';
revoke all on function darkroom.claim_one from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/close_tasks.sql
-- Ends a task as Failed or Cancelled, and with it what cannot go on: the whole tree of an orchestrator ends as it does, and
-- what waits for any of them fails, with the reason. Holds are released, running workers are told. The caller holds the
-- owner's lock. p_outcome is how the task's own attempt ended, if it was running (task_attempts.outcome).
create or replace function darkroom.close_tasks(p_owner uuid, p_task uuid, p_status text, p_error text, p_outcome text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_seeds uuid[] := array[p_task];
  v_status text := p_status;
  v_tree_error text;
  v_closed uuid[];  -- in this round: what waited for those of earlier rounds has been found, so a long chain costs what it is long
  v_tree uuid[];
  v_task public.tasks;
  v_own boolean;
begin
  v_tree_error := format('Task %s of the same tree ended as %s: %s', p_task, p_status, p_error);
  while cardinality(v_seeds) > 0 loop
    with roots as (
      select coalesce(t.orchestrator_task_id, t.id) as id from public.tasks t where t.id = any (v_seeds)
    ), tree as (
      select r.id from roots r
      union select c.id from roots r join public.tasks c on c.orchestrator_task_id = r.id
    )
    select array_agg(x.id) into v_tree from tree x;
    v_closed := '{}';

    for v_task in
      select t.* from public.tasks t
      where t.id = any (v_tree) and t.owner_id = p_owner and t.status in ('Queued', 'In Progress')
      order by t.id for update
    loop
      v_own := v_task.id = p_task;
      update public.tasks t
      set status = v_status, error_message = left(case when v_own then p_error else v_tree_error end, 4000),
          run_after = null, completed_at = clock_timestamp(), updated_at = clock_timestamp(),
          failed_attempts = t.failed_attempts + (v_own and p_outcome in ('failed', 'expired', 'lost') and t.status = 'In Progress')::integer
      where t.id = v_task.id;
      if v_task.status = 'Queued' then
        perform darkroom.drop_from_queue(v_task);
      else
        perform darkroom.end_attempt(v_task, case when v_own then p_outcome else 'cancelled' end,
                                     case when v_own then p_error else v_tree_error end);
        if not (v_own and p_outcome = 'failed') then
          perform darkroom.notify_workers(v_task.job_no);
        end if;
      end if;
      v_closed := v_closed || v_task.id;
    end loop;

    with gone as (delete from darkroom.task_deps d where d.dep_id = any (v_closed) returning d.task_id)
    select coalesce(array_agg(distinct g.task_id) filter (where g.task_id <> all (v_closed)), array[]::uuid[]) into v_seeds from gone g;
    v_status := 'Failed';
    v_tree_error := format('Waits for task %s, which ended as %s: %s', p_task, p_status, p_error);
  end loop;
end
$$;
comment on function darkroom.close_tasks is 'Ends a task as Failed or Cancelled with its tree and what waits for it; the caller holds the owner''s lock.';
revoke all on function darkroom.close_tasks from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/drop_from_queue.sql
-- Takes a task out of the queue. The caller holds the owner's lock.
-- A ready row that a claim has locked is left: the claim waits for the owner's lock, then finds it stale and removes it.
create or replace function darkroom.drop_from_queue(p_task public.tasks)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row darkroom.task_ready;
begin
  delete from darkroom.task_ready r
  using (select l.* from darkroom.task_ready l
         where (l.owner_id, l.task_type, l.cost, l.created_at, l.job_no)
             = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no)
         for update skip locked) mine
  where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no)
      = (mine.owner_id, mine.task_type, mine.cost, mine.created_at, mine.job_no)
  returning r.* into v_row;
  if found then
    perform darkroom.refill_lane(v_row.owner_id, v_row.task_type, v_row.cost, v_row.created_at, v_row.job_no, v_row.parked);
    return;
  end if;
  delete from darkroom.task_backlog b
  where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)
      = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no);
  delete from darkroom.task_deps d where d.task_id = p_task.id;
  delete from darkroom.task_delayed d where d.task_id = p_task.id;
end
$$;
comment on function darkroom.drop_from_queue is 'Takes a task out of the queue; the caller holds the owner''s lock.';
revoke all on function darkroom.drop_from_queue from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/end_attempt.sql
-- Books the end of an attempt: its row in task_attempts, and the hold settled (complete) or released (everything else).
-- p_task is the row as it was while the attempt ran. The caller holds the owner's lock. Returns whether money moved.
create or replace function darkroom.end_attempt(p_task public.tasks, p_outcome text, p_error text default null)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry public.credit_ledger;
begin
  insert into public.task_attempts (owner_id, task_id, attempt, worker_id, claimed_at, outcome, error)
  values (p_task.owner_id, p_task.id, p_task.attempt, p_task.worker_id, p_task.claimed_at, p_outcome, p_error);

  if p_task.cost > 0 then
    v_entry := darkroom.append_ledger(p_task.owner_id, case p_outcome when 'complete' then 'settle' else 'release' end,
                                      p_task.cost, p_task.id, p_task.attempt);
  end if;
  return v_entry.seq is not null;
end
$$;
comment on function darkroom.end_attempt is 'Books the end of an attempt and its money; the caller holds the owner''s lock.';
revoke all on function darkroom.end_attempt from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/ensure_user.sql
-- Makes sure that the user who is signed in has a row: the first thing that somebody does whose token another service issued.
-- Raises TD080 (the user was erased lately).
create or replace function darkroom.ensure_user(p_user uuid)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.users (id, email) values (p_user, case when p_user = auth.uid() then auth.jwt() ->> 'email' end) on conflict do nothing;
  perform darkroom.refuse_erased(p_user);  -- afterwards: the insert has waited for an erasure that was going on
end
$$;
comment on function darkroom.ensure_user is 'Makes a row for a user who signs in by another service.';
revoke all on function darkroom.ensure_user from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/expected_wait.sql
-- How long until the slots of these workers come to a task, when so many tasks of each type are before it: null when nothing is known of how long any of them takes.
--
-- A task takes as long as the median of its type among the newest 500 Complete tasks, measured from the claim that completed it; a type without history
-- as long as the task's own type. Orchestrators take no time: they wait for their tree without a slot. Each slot that runs something is free when that time has passed
-- since its claim, the others are free now; what is before the task is spread evenly over them.
create or replace function darkroom.expected_wait(p_task public.tasks, p_workers darkroom.able_worker[], p_before jsonb)
returns interval
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wait interval;
begin
  with history as materialized (
    select r.task_type, percentile_cont(0.5) within group (order by extract(epoch from r.completed_at - r.claimed_at)) as seconds
    from (select t.task_type, t.claimed_at, t.completed_at from public.tasks t where t.status = 'Complete' order by t.created_at desc limit 500) r
    where r.completed_at >= r.claimed_at group by r.task_type
  ), own as materialized (
    select (select h.seconds from history h where h.task_type = p_task.task_type) as seconds
  ), slots as (
    select case when coalesce(h.seconds, o.seconds) is not null  -- greatest() passes over null
                then greatest(coalesce(h.seconds, o.seconds) - extract(epoch from clock_timestamp() - t.claimed_at), 0) end as free_in
    from unnest(p_workers) a join public.workers w on w.id = a.id cross join lateral darkroom.held_tasks(w) t
    cross join own o left join history h on h.task_type = t.task_type
    union all
    select 0 from unnest(p_workers) w cross join lateral generate_series(1, w.slots - w.running)
  ), work as (
    select sum(b.n::numeric * case when b.task_type = 'travel_orchestrator' then 0 else coalesce(h.seconds, o.seconds) end) as seconds,
           bool_or(b.task_type <> 'travel_orchestrator' and coalesce(h.seconds, o.seconds) is null) as unknown
    from jsonb_each_text(p_before) b (task_type, n) cross join own o left join history h on h.task_type = b.task_type
  ), spread as (
    -- The first k slots to be free have done the work by then; the least of these times is when all that come into question have.
    select (coalesce(k.seconds, 0) + sum(s.free_in) over w) / count(*) over w as seconds, k.unknown, bool_or(s.free_in is null) over () as unsure
    from slots s cross join work k window w as (order by s.free_in rows unbounded preceding)
  )
  select case when bool_or(s.unknown or s.unsure) then null else min(s.seconds) * interval '1 second' end into v_wait from spread s;
  return v_wait;
end
$$;
comment on function darkroom.expected_wait is 'How long until these workers come to a task.';
revoke all on function darkroom.expected_wait from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/explain_ended.sql
-- explain_task for a task that is Complete, Failed or Cancelled: its reasons.
create or replace function darkroom.explain_ended(p_task public.tasks)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type public.task_types;
  v_generation uuid;
  v_deleted timestamptz;
  v_error public.generation_errors;
  v_attempt public.task_attempts;
  v_root public.tasks;
  v_deps jsonb;
  v_detail jsonb;
begin
  select ty.* into v_type from public.task_types ty where ty.name = p_task.task_type;

  if p_task.status = 'Complete' then
    select g.id into v_generation from public.generations g where g.source_task_id = p_task.id;
    select d.deleted_at into v_deleted from darkroom.deleted_generations d where d.task_id = p_task.id;
    select e.* into v_error from public.generation_errors e where e.task_id = p_task.id order by e.id desc limit 1;
    v_detail := jsonb_build_object('completed_at', p_task.completed_at, 'generation_id', v_generation);
    return jsonb_build_array(case
      when v_generation is not null and v_error.step = 'shot_link' then
        darkroom.reason('shot_link_failed', format('It is complete and has its generation, which stands in no shot: %s', v_error.message),
          v_detail || jsonb_build_object('sqlstate', v_error.sqlstate, 'error', v_error.message))
      when v_generation is not null then darkroom.reason('complete', 'It is complete, and its generation is there.', v_detail)
      when v_type.result_type is null then
        darkroom.reason('complete', format('It is complete; tasks of type %s make no generation.', p_task.task_type), v_detail)
      when v_deleted is not null then
        darkroom.reason('generation_deleted', format('It is complete; its generation was deleted at %s.', darkroom.in_words(v_deleted)),
          v_detail || jsonb_build_object('deleted_at', v_deleted))
      when coalesce(btrim(p_task.output_location), '') = '' then
        darkroom.reason('no_output', 'It is complete without an output_location; its generation is made when that is set.', v_detail)
      when v_error.id is not null then
        darkroom.reason('generation_failed', format('It is complete, but its generation could not be made: %s', v_error.message),
          v_detail || jsonb_build_object('sqlstate', v_error.sqlstate, 'error', v_error.message))
      else darkroom.reason('no_generation', 'It is complete, but its generation has not been made; repair_generations makes it.', v_detail) end);
  end if;

  -- Failed or Cancelled
  select a.* into v_attempt from public.task_attempts a where a.task_id = p_task.id and a.attempt = p_task.attempt;
  v_detail := jsonb_build_object('error', p_task.error_message, 'ended_at', p_task.completed_at, 'attempts', p_task.attempt,
    'failed_attempts', p_task.failed_attempts, 'max_attempts', v_type.max_attempts, 'outcome', v_attempt.outcome, 'worker_id', v_attempt.worker_id);
  if p_task.status = 'Failed' and v_attempt.outcome in ('failed', 'expired', 'lost') then
    return jsonb_build_array(case
      when v_type.max_attempts > 1 and p_task.failed_attempts >= v_type.max_attempts then
        darkroom.reason('attempts_used_up', format('All %s attempts failed. The last error: %s', v_type.max_attempts, p_task.error_message), v_detail)
      else darkroom.reason('failed', p_task.error_message, v_detail) end);
  end if;

  -- It did not run, or was stopped: for the sake of another one, or because somebody said so.
  select jsonb_agg(jsonb_build_object('task_id', d.id, 'task_type', d.task_type, 'status', d.status) order by d.created_at, d.job_no) into v_deps
  from (select t.* from public.tasks t where t.id = any (p_task.dependant_on) and t.status in ('Failed', 'Cancelled') order by t.created_at, t.job_no limit 10) d;
  select t.* into v_root from public.tasks t where t.id = p_task.orchestrator_task_id and t.status in ('Failed', 'Cancelled');
  return jsonb_build_array(case
    when v_root.id is not null then
      darkroom.reason('tree_ended', coalesce(p_task.error_message, 'Its tree ended.'), v_detail || jsonb_build_object('orchestrator_task_id', v_root.id, 'status', v_root.status))
    when p_task.status = 'Failed' and v_deps is not null then
      darkroom.reason('dependency_failed', coalesce(p_task.error_message, 'A task that it waits for ended.'), v_detail || jsonb_build_object('tasks', v_deps))
    when p_task.status = 'Failed' then darkroom.reason('failed', coalesce(p_task.error_message, 'No reason was given.'), v_detail)
    else darkroom.reason('cancelled', coalesce(p_task.error_message, 'It was cancelled.'), v_detail) end);
end
$$;
comment on function darkroom.explain_ended is 'Explains a task that has ended.';
revoke all on function darkroom.explain_ended from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/explain_queued.sql
-- explain_task for a Queued task. What the claim asks of a task is asked here: its place in the queue, what it waits for, what its owner can pay
-- (claim_next_tasks, the part "claim"). A test holds the two to each other.
create or replace function darkroom.explain_queued(p_task public.tasks)
returns public.task_explanation
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_listed constant integer := 10;  -- so many tasks or engines are named in a detail
  c_sets constant integer := 8;     -- so many kinds of workers are asked how many tasks come before
  c_entries constant integer := 500; -- so many ledger entries are looked at for holds
  v_now constant timestamptz := clock_timestamp();
  v_place constant text := darkroom.queue_place(p_task);
  v_route text;
  v_max integer;
  v_waits jsonb;
  v_waiting bigint;
  v_dead bigint;
  v_account constant public.credit_ledger := darkroom.account(p_task.owner_id);
  v_available constant numeric := coalesce(v_account.balance_after - v_account.held_after, 0);
  v_payable constant boolean := p_task.cost = 0 or p_task.cost <= v_available;
  v_holding bigint;
  v_run_after timestamptz;
  v_workers darkroom.able_worker[];
  v_able bigint;
  v_alive bigint;
  v_usable bigint;
  v_slots bigint;
  v_free bigint;
  v_seen timestamptz;
  v_down jsonb;
  v_set record;
  v_before darkroom.tasks_before;
  v_least darkroom.tasks_before;
  v_attempt public.task_attempts;
  v_reasons jsonb := '[]'::jsonb;
  v_runnable boolean;
  v_position bigint;
  v_start timestamptz;
begin
  select ty.route, ty.max_attempts into v_route, v_max from public.task_types ty where ty.name = p_task.task_type;

  -- what it waits for
  if p_task.dependant_on is not null then
    select count(*), count(*) filter (where d.status in ('Failed', 'Cancelled')),
           jsonb_agg(jsonb_build_object('task_id', d.id, 'task_type', d.task_type, 'status', d.status) order by d.status, d.created_at, d.job_no)
             filter (where d.place <= c_listed)
    into v_waiting, v_dead, v_waits
    from (select t.id, t.task_type, t.status, t.created_at, t.job_no,
                 row_number() over (order by t.status in ('Failed', 'Cancelled') desc, t.status = 'In Progress' desc, t.created_at, t.job_no) as place
          from public.tasks t where t.id = any (p_task.dependant_on) and t.status <> 'Complete') d;
  end if;
  v_runnable := v_place in ('ready', 'backlog') and coalesce(v_waiting, 0) = 0 and v_payable;

  if v_dead > 0 then
    v_reasons := v_reasons || darkroom.reason('dependency_failed', 'It waits for a task that has failed or was cancelled, and fails for that.',
      jsonb_build_object('tasks', v_waits, 'count', v_waiting));
  elsif v_waiting > 0 then
    v_reasons := v_reasons || darkroom.reason('waits_for_tasks',
      case v_waiting when 1 then format('It waits for a %s that is %s.', v_waits #>> '{0,task_type}', v_waits #>> '{0,status}')
                     else format('It waits for %s tasks.', v_waiting) end,
      jsonb_build_object('tasks', v_waits, 'count', v_waiting));
  end if;

  -- its place
  if v_place = 'delayed' then
    select d.run_after into v_run_after from darkroom.task_delayed d where d.task_id = p_task.id;
    v_reasons := v_reasons || case
      when v_run_after > v_now then darkroom.reason('retry_delayed', format('Its last attempt failed; the next one may begin at %s.', darkroom.in_words(v_run_after)),
        jsonb_build_object('run_after', v_run_after, 'failed_attempts', p_task.failed_attempts, 'max_attempts', v_max, 'error', p_task.error_message))
      else darkroom.reason('retry_due', 'The pause after its last attempt is over; admit_due_tasks, which runs each second, puts it in the queue.',
        jsonb_build_object('run_after', v_run_after, 'failed_attempts', p_task.failed_attempts, 'max_attempts', v_max, 'error', p_task.error_message)) end;
  elsif v_place = 'nowhere' and coalesce(v_dead, 0) = 0 then
    v_reasons := v_reasons || darkroom.reason('not_filed',
      'It stands nowhere in the queue. The commit of the transaction that made it files it; what was missed there, sweep_tasks mends within a minute.');
  elsif v_place = 'stuck' or v_place = 'parked' and v_payable or v_place = 'deps' and coalesce(v_waiting, 0) = 0 then
    v_reasons := v_reasons || darkroom.reason('misfiled', 'It stands in the wrong place of the queue; sweep_tasks mends that within a minute.',
      jsonb_build_object('place', v_place));
  end if;

  -- credits
  if not v_payable then
    if v_account.held_after > 0 then
      select count(*) into v_holding
      from (select l.kind, l.task_id, l.attempt from public.credit_ledger l where l.owner_id = p_task.owner_id order by l.seq desc limit c_entries) l
      join public.tasks t on t.id = l.task_id and t.attempt = l.attempt and t.status = 'In Progress' where l.kind = 'hold';
    end if;
    v_reasons := v_reasons || darkroom.reason('insufficient_credits',
      format('It costs %s credits and %s are available: %s are missing.', trim_scale(p_task.cost), trim_scale(v_available), trim_scale(p_task.cost - v_available))
        || case when v_holding > 0 then format(' %s are held for %s running tasks.', trim_scale(v_account.held_after), v_holding) else '' end,
      jsonb_build_object('needs', p_task.cost, 'available', v_available, 'missing', p_task.cost - v_available,
                         'balance', coalesce(v_account.balance_after, 0), 'held', coalesce(v_account.held_after, 0), 'held_by', coalesce(v_holding, 0)));
  end if;

  -- workers
  select array_agg(w), count(*), count(*) filter (where w.alive), count(*) filter (where w.usable), sum(w.slots) filter (where w.usable),
         sum(greatest(w.slots - w.running, 0)) filter (where w.usable), max(w.seen)
  into v_workers, v_able, v_alive, v_usable, v_slots, v_free, v_seen
  from darkroom.able_workers(p_task) w;
  if v_able = 0 then
    v_reasons := v_reasons || darkroom.reason('no_worker',
      case v_route when 'any' then format('No worker takes tasks of type %s.', p_task.task_type)
                   else format('No worker takes tasks of type %s: it needs the capability %s.', p_task.task_type, v_route) end,
      jsonb_build_object('task_type', p_task.task_type, 'route', v_route));
  elsif v_alive = 0 then
    v_reasons := v_reasons || darkroom.reason('workers_silent',
      format('No worker for tasks of type %s is alive; the last one was heard from at %s.', p_task.task_type, darkroom.in_words(v_seen)),
      jsonb_build_object('task_type', p_task.task_type, 'route', v_route, 'workers', v_able, 'last_seen', v_seen));
  elsif v_usable = 0 then
    -- Why an engine is down may name hosts of others: said of one's own workers alone.
    select jsonb_agg(jsonb_build_object('worker_id', l.id, 'name', l.engine -> 'name', 'kind', l.engine -> 'kind', 'since', l.engine -> 'since')
                     || case when l.own then jsonb_build_object('reason', l.engine -> 'reason') else '{}' end)
    into v_down
    from (select w.* from unnest(v_workers) w where w.alive order by w.id limit c_listed) l;
    v_reasons := v_reasons || darkroom.reason('engines_down', format('The engines that do tasks of type %s are down.', p_task.task_type),
      jsonb_build_object('task_type', p_task.task_type, 'workers', v_alive, 'engines', v_down));
  elsif v_runnable and v_free = 0 then
    v_reasons := v_reasons || darkroom.reason('workers_busy',
      case v_slots when 1 then 'The worker for it is busy.' else format('All %s slots for it are busy.', v_slots) end,
      jsonb_build_object('task_type', p_task.task_type, 'workers', v_usable, 'slots', v_slots));
  end if;

  -- its turn: as the worker finds it that comes to it first
  if v_runnable then
    for v_set in
      select w.own, w.task_types, array_agg(w) as workers from unnest(v_workers) w
      where w.alive and (w.usable or v_usable = 0)
      group by w.own, w.task_types order by w.own desc, cardinality(w.task_types), w.task_types limit c_sets
    loop
      v_before := darkroom.tasks_before(p_task, v_set.task_types, v_set.own);
      if v_least is null or (v_before.more, v_before.total) < (v_least.more, v_least.total) then
        v_least := v_before;
      end if;
      exit when v_least.total = 0;
    end loop;
    v_before := coalesce(v_least, darkroom.tasks_before(p_task, array[p_task.task_type], false));
    v_position := case when v_before.more then 1000 else v_before.total end + 1;
    if v_before.total > 0 then
      v_reasons := v_reasons || darkroom.reason('behind_others',
        case when v_before.more then 'More than 1000 tasks come before it.'
             when v_before.total = 1 then 'One task comes before it.' else format('%s tasks come before it.', v_before.total) end,
        jsonb_build_object('before', v_position - 1, 'of_yours', v_before.own, 'more', v_before.more, 'by_type', v_before.by_type));
    end if;
  end if;

  -- what happened to it before
  if p_task.attempt > 0 then
    select a.* into v_attempt from public.task_attempts a where a.task_id = p_task.id and a.attempt = p_task.attempt;
    v_reasons := v_reasons || darkroom.reason('queued_again',
      format('Attempt %s ended (%s): %s', p_task.attempt, v_attempt.outcome, coalesce(v_attempt.error, 'no reason was given.')),
      jsonb_build_object('attempt', p_task.attempt, 'outcome', v_attempt.outcome, 'error', v_attempt.error, 'worker_id', v_attempt.worker_id,
                         'ended_at', v_attempt.ended_at, 'failed_attempts', p_task.failed_attempts, 'max_attempts', v_max));
  end if;

  -- when
  if v_usable > 0 and v_run_after > v_now and v_payable and coalesce(v_waiting, 0) = 0 then
    v_start := v_run_after;
  elsif v_usable > 0 and v_runnable and not v_before.more then
    v_start := v_now + case when v_free >= v_position then interval '0'
      else darkroom.expected_wait(p_task, array(select w from unnest(v_workers) w where w.usable), v_before.by_type) end;
  end if;
  return (p_task.id, p_task.status, v_runnable, v_reasons, v_position, v_start)::public.task_explanation;
end
$$;
comment on function darkroom.explain_queued is 'Explains a Queued task.';
revoke all on function darkroom.explain_queued from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/explain_running.sql
-- explain_task for a task In Progress: its reasons.
create or replace function darkroom.explain_running(p_task public.tasks)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_worker public.workers;
  v_seen timestamptz;
  v_end timestamptz;
  v_max integer;
  v_last boolean;
  v_after text;
  v_all bigint;
  v_done bigint;
  v_running bigint;
  v_detail jsonb;
  v_reasons jsonb := '[]'::jsonb;
begin
  -- an orchestrator
  select count(*), count(*) filter (where c.status = 'Complete'), count(*) filter (where c.status = 'In Progress') into v_all, v_done, v_running
  from public.tasks c where c.orchestrator_task_id = p_task.id;
  if v_all > 0 then
    v_reasons := v_reasons || darkroom.reason('waits_for_children', format('It waits for the tasks of its tree: %s of %s are done.', v_done, v_all),
      jsonb_build_object('done', v_done, 'running', v_running, 'all', v_all));
    if darkroom.has_live_children(p_task.id) then
      return v_reasons;
    end if;
  end if;

  select w.* into v_worker from public.workers w where w.id = p_task.worker_id;
  v_seen := greatest(p_task.claimed_at, v_worker.last_heartbeat);
  v_end := darkroom.lease_end(p_task, v_worker);
  select ty.max_attempts into v_max from public.task_types ty where ty.name = p_task.task_type;
  v_last := p_task.failed_attempts + 1 >= v_max;
  v_after := case when v_last then 'it fails then, as its attempts are used up' else 'it is queued again then' end;
  v_detail := jsonb_build_object('worker_id', p_task.worker_id, 'attempt', p_task.attempt, 'claimed_at', p_task.claimed_at,
    'last_heartbeat', v_worker.last_heartbeat, 'lease_end', v_end, 'progress', p_task.progress, 'last_attempt', v_last);

  if v_end <= v_now then
    v_reasons := v_reasons || darkroom.reason('lease_over',
      format('Its worker %s was not heard from since %s, and its lease is over; requeue_expired_tasks, which runs every 10 s, takes it back.',
             p_task.worker_id, darkroom.in_words(v_seen)), v_detail);
  elsif not darkroom.worker_alive(v_worker, v_seen) then
    v_reasons := v_reasons || darkroom.reason('worker_silent',
      format('Its worker %s has not been heard from since %s. Its lease ends at %s; %s.', p_task.worker_id, darkroom.in_words(v_seen), darkroom.in_words(v_end), v_after), v_detail);
  elsif p_task.id <> all (v_worker.running) and v_worker.last_heartbeat > p_task.claimed_at + interval '10 seconds' then
    v_reasons := v_reasons || darkroom.reason('worker_dropped',
      format('Its worker %s is alive and does not name it among what it runs. Its lease ends at %s; %s.', p_task.worker_id, darkroom.in_words(v_end), v_after), v_detail);
  else
    v_reasons := v_reasons || darkroom.reason('running',
      format('Worker %s has been running it since %s%s.', p_task.worker_id, darkroom.in_words(p_task.claimed_at),
             case when jsonb_typeof(p_task.progress -> 'percent') = 'number' then format(' (%s %%)', round((p_task.progress -> 'percent')::numeric)) else '' end), v_detail);
  end if;
  return v_reasons;
end
$$;
comment on function darkroom.explain_running is 'Explains a running task.';
revoke all on function darkroom.explain_running from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/file_new_task.sql
-- Deferred trigger after insert on tasks: files the task at COMMIT, so that a long transaction of an app holds its owner's
-- lock for milliseconds only, and a task that commits late still stands in its place. Raises TD011 (the owner has too many queued tasks).
create or replace function darkroom.file_new_task()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
  v_filed text[];
  v_ignored boolean;
begin
  -- Of many made together the first files the others. See file_new_tasks.
  if new.dependant_on is null and current_setting('darkroom.filed', true) <> '' then
    v_filed := string_to_array(current_setting('darkroom.filed', true), '|');
    if v_filed[1] is distinct from new.project_id::text or new.job_no > v_filed[2]::bigint or new.created_at < v_filed[3]::timestamptz then
      perform darkroom.file_new_tasks(new);
    end if;
    return null;
  end if;

  v_ignored := darkroom.lock_owner(new.owner_id);
  select t.* into v_task from public.tasks t where t.id = new.id and (t.status = 'Queued') is true;
  if found then
    -- A running tree needs its children.
    v_ignored := darkroom.check_queue_room(v_task.owner_id, v_task.job_no, v_task.orchestrator_task_id is null);
    perform darkroom.file_task(v_task);
  end if;
  return null;
end
$$;
comment on function darkroom.file_new_task is 'Files a new task in the queue at commit.';
revoke all on function darkroom.file_new_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/file_new_tasks.sql
-- Files, at commit, a new task without dependencies and with it all of its project that this transaction made after it, as far as the queue has room. From the
-- first of a lane that goes to the backlog on, the lane's others follow together: they are younger. What it filed stands in the setting darkroom.filed for the
-- triggers of those. See create_tasks. Returns how many. Raises TD011 (the owner has too many queued tasks).
create or replace function darkroom.file_new_tasks(p_first public.tasks)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_upto bigint;
  v_ids uuid[];
  v_next record;
  v_task public.tasks;
  v_lane public.tasks;
  v_ignored boolean;
begin
  v_ignored := darkroom.lock_owner(p_first.owner_id);
  perform from public.tasks t where t.id = p_first.id and (t.status = 'Queued') is true;
  if not found then
    return 0;
  end if;
  v_ignored := darkroom.check_queue_room(p_first.owner_id, p_first.job_no, p_first.orchestrator_task_id is null);
  select r.to_job_no into v_upto from darkroom.queue_room r where r.owner_id = p_first.owner_id;

  -- What other transactions made of the project since then is in the queue: we hold the owner's lock.
  select array_agg(t.id), max(t.job_no) into v_ids, v_upto
  from public.tasks t
  where t.project_id = p_first.project_id and t.created_at >= p_first.created_at and t.job_no between p_first.job_no and greatest(v_upto, p_first.job_no)
    and (t.status = 'Queued') is true and t.dependant_on is null and t.run_after is null
    and not exists (select from darkroom.task_ready r where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no))
    and not exists (select from darkroom.task_backlog b where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no));
  if v_ids is null then
    return 0;
  end if;

  for v_next in
    select t.id, t.task_type, t.cost from public.tasks t where t.id = any (v_ids) order by t.task_type, t.cost, t.created_at, t.job_no
  loop
    continue when v_next.task_type = v_lane.task_type and v_next.cost = v_lane.cost;
    select t.* into v_task from public.tasks t where t.id = v_next.id;
    if darkroom.file_task(v_task) = 'backlog' then
      v_lane := v_task;
      insert into darkroom.task_backlog (owner_id, task_type, cost, created_at, job_no, task_id)
      select t.owner_id, t.task_type, t.cost, t.created_at, t.job_no, t.id
      from public.tasks t
      where t.id = any (v_ids) and t.task_type = v_lane.task_type and t.cost = v_lane.cost and (t.created_at, t.job_no) > (v_lane.created_at, v_lane.job_no);
    end if;
  end loop;
  perform set_config('darkroom.filed', concat_ws('|', p_first.project_id, v_upto, p_first.created_at), true);
  return cardinality(v_ids);
end
$$;
comment on function darkroom.file_new_tasks is 'Files a new task, and those that were made with it.';
revoke all on function darkroom.file_new_tasks from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/file_task.sql
-- Gives a Queued task its one place: delayed, deps, ready or backlog. The caller holds the owner's lock.
-- Returns where: 'delayed', 'deps', 'ready', 'backlog', or 'failed' when a dependency already ended badly.
--
-- Ready holds the oldest of each lane, up to 16; the backlog is always younger. An older arrival (a retry, a late commit)
-- goes straight to ready, so the oldest of a lane never has to be looked for.
create or replace function darkroom.file_task(p_task public.tasks)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_window constant integer := 16;
  v_mark timestamptz;
  v_window darkroom.task_ready[];
  v_behind boolean;
  v_dead record;
  v_parked boolean := false;
  v_ignored boolean;
begin
  if p_task.run_after > clock_timestamp() then
    insert into darkroom.task_delayed (owner_id, task_id, run_after) values (p_task.owner_id, p_task.id, p_task.run_after);
    return 'delayed';
  end if;

  if p_task.dependant_on is not null then
    select d.id, d.task_type, d.status into v_dead
    from public.tasks d where d.id = any (p_task.dependant_on) and d.status in ('Failed', 'Cancelled') limit 1;
    if found then
      perform darkroom.close_tasks(p_task.owner_id, p_task.id, 'Failed', format('Waits for task %s (%s), which is %s.', v_dead.id, v_dead.task_type, v_dead.status), 'failed');
      return 'failed';
    end if;
    insert into darkroom.task_deps (owner_id, dep_id, task_id)
    select p_task.owner_id, d.id, p_task.id
    from public.tasks d where d.id = any (p_task.dependant_on) and d.status <> 'Complete';
    if found then
      return 'deps';
    end if;
  end if;

  -- It goes to the backlog when it is younger than the window, and that is full or others wait behind it. The usual case of many, with others there, comes
  -- first, because it looks at two rows. Dead rows of claimed tasks lie at the old end of the window: the mark keeps the look-ups from walking over them.
  -- Parked rows may be older than the mark.
  v_mark := timestamptz 'epoch' + coalesce(pg_sequence_last_value('darkroom.ready_mark'), 0) * interval '1 microsecond';
  perform from (
    select r.created_at, r.job_no from darkroom.task_ready r
    where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and r.created_at >= v_mark
    order by r.created_at desc, r.job_no desc limit 1) youngest
  where (p_task.created_at, p_task.job_no) > (youngest.created_at, youngest.job_no) and exists (
    select from darkroom.task_backlog b
    where b.owner_id = p_task.owner_id and b.task_type = p_task.task_type and b.cost = p_task.cost
      and (b.created_at, b.job_no) > (youngest.created_at, youngest.job_no));
  v_behind := found;
  if not v_behind then
    select array_agg(w.r order by (w.r).created_at desc, (w.r).job_no desc) into v_window
    from (
      (select r from darkroom.task_ready r
       where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and r.created_at >= v_mark
       order by r.created_at desc, r.job_no desc limit c_window)
      union all
      (select r from darkroom.task_ready r
       where r.parked and r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost
         and r.created_at < v_mark)
    ) w;
    v_behind := (p_task.created_at, p_task.job_no) > (v_window[1].created_at, v_window[1].job_no)
      and (cardinality(v_window) >= c_window or exists (
        select from darkroom.task_backlog b
        where b.owner_id = p_task.owner_id and b.task_type = p_task.task_type and b.cost = p_task.cost
          and (b.created_at, b.job_no) > (v_window[1].created_at, v_window[1].job_no)));
  end if;
  if v_behind then
    insert into darkroom.task_backlog (owner_id, task_type, cost, created_at, job_no, task_id)
    values (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no, p_task.id);
    return 'backlog';
  end if;

  -- A lane is parked as a whole, but credits may have come while a row of it stood locked.
  if v_window[1].parked then
    select coalesce(a.balance_after - a.held_after, 0) < p_task.cost into v_parked from darkroom.account(p_task.owner_id) a;
  end if;
  insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id, parked)
  values (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no, p_task.id, v_parked);
  v_ignored := darkroom.lower_ready_mark(p_task.created_at);
  v_ignored := darkroom.notify_workers();
  return 'ready';
end
$$;
comment on function darkroom.file_task is 'Gives a Queued task its one place in the queue; the caller holds the owner''s lock.';
revoke all on function darkroom.file_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/fill_generation.sql
-- Trigger before insert on generations: the owner is the project's, whoever inserts. Somebody else's project is not found (TD020), as one that is not there.
create or replace function darkroom.fill_generation()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select p.owner_id into new.owner_id from public.projects p where p.id = new.project_id;
  if not found or new.owner_id <> darkroom.caller_owner() then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', new.project_id);
  end if;
  return new;
end
$$;
comment on function darkroom.fill_generation is 'Sets the owner of a generation from its project.';
revoke all on function darkroom.fill_generation from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/fill_project.sql
-- Trigger before insert on projects: whoever is signed in owns what they make; the service names the owner.
create or replace function darkroom.fill_project()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_caller uuid := darkroom.caller_owner();
begin
  if v_caller is not null then
    new.owner_id := v_caller;
    perform darkroom.ensure_user(v_caller);
  end if;
  return new;
end
$$;
comment on function darkroom.fill_project is 'Sets the owner of a new project.';
revoke all on function darkroom.fill_project from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/fill_shot_generation.sql
-- Trigger before insert or update on shot_generations: owner and project are the generation's, and the shot must be of the
-- same project (TD024), so that nobody's picture gets onto a stranger's shot. What is somebody else's is answered as what is not there.
create or replace function darkroom.fill_shot_generation()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select g.owner_id, g.project_id into new.owner_id, new.project_id from public.generations g where g.id = new.generation_id;
  if new.owner_id <> darkroom.caller_owner()
     or not exists (select from public.shots s where s.id = new.shot_id and s.project_id = new.project_id) then
    raise exception 'Shot not found' using errcode = 'TD024',
      detail = format('There is no shot %s in the project of a generation %s.', new.shot_id, new.generation_id);
  end if;
  return new;
end
$$;
comment on function darkroom.fill_shot_generation is 'Sets owner and project of a shot link and keeps it within the project.';
revoke all on function darkroom.fill_shot_generation from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/find_shot.sql
-- The shot a task's generation belongs on: the first of the paths in its params that holds a uuid. Null when there is none, or when
-- it is not a shot of the task's project; what was named and not found is recorded in generation_errors.
create or replace function darkroom.find_shot(p_task public.tasks, p_paths text[])
returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_path text;
  v_value jsonb;
  v_named jsonb;
  v_shot uuid;
begin
  foreach v_path in array p_paths loop
    v_value := p_task.params #> string_to_array(v_path, '.');
    if jsonb_typeof(v_value) is distinct from 'null' and v_value is not null then
      v_named := coalesce(v_named, v_value);
      v_shot := darkroom.as_uuid(v_value);
      exit when v_shot is not null;
    end if;
  end loop;
  if v_named is null or exists (select from public.shots s where s.id = v_shot and s.project_id = p_task.project_id) then
    return v_shot;
  end if;
  perform darkroom.log_generation_error(p_task, 'shot_link', null,
    format('No shot %s in project %s; the generation was made without link.', left(v_named::text, 100), p_task.project_id));
  return null;
end
$$;
comment on function darkroom.find_shot is 'The shot of the same project that a task''s params name, or null.';
revoke all on function darkroom.find_shot from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/finish_orchestrator.sql
-- After a child completed: completes its orchestrator when the tree is done, with the output of the stitch. A tree without a
-- stitch is done when all the segments it was priced for are, with the output of the last one, and its worker has said what it made
-- (progress.message, by update_task_status): before that the stitch may be still to come, from a worker that makes a tree task by task.
-- Until then it shows as progress how many of the tree's tasks are done. The caller holds the owner's lock.
create or replace function darkroom.finish_orchestrator(p_child public.tasks)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before public.tasks;
  v_all bigint;
  v_done bigint;
  v_open boolean;
begin
  if p_child.task_type <> 'travel_stitch' then
    select count(*), count(*) filter (where c.status = 'Complete'), bool_or(c.task_type = 'travel_stitch' or c.status in ('Queued', 'In Progress'))
    into v_all, v_done, v_open
    from public.tasks c where c.orchestrator_task_id = p_child.orchestrator_task_id;
    if v_open then
      update public.tasks t
      set progress = coalesce(t.progress, '{}') || jsonb_build_object('percent', 100 * v_done / v_all, 'value', v_done, 'max', v_all, 'phase', 'tasks'),
          updated_at = clock_timestamp()
      where t.id = p_child.orchestrator_task_id and (t.status = 'In Progress') is true;
      return;
    end if;
  end if;

  select t.* into v_before from public.tasks t
  where t.id = p_child.orchestrator_task_id and (t.status = 'In Progress') is true for update;
  if not found or v_open is not null and (
       v_done < (v_before.params #>> '{orchestrator_details,num_new_segments_to_generate}')::integer
       or not coalesce(v_before.progress ? 'message', false)) then
    return;
  end if;

  update public.tasks t
  set status = 'Complete', output_location = p_child.output_location, thumbnail_url = p_child.thumbnail_url, error_message = null,
      progress = jsonb_build_object('percent', 100), completed_at = clock_timestamp(), updated_at = clock_timestamp()
  where t.id = v_before.id;
  perform darkroom.end_attempt(v_before, 'complete');
  perform darkroom.release_dependents(v_before.id);
end
$$;
comment on function darkroom.finish_orchestrator is 'Completes an orchestrator when its tree is done; the caller holds the owner''s lock.';
revoke all on function darkroom.finish_orchestrator from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/forget_preview.sql
-- Trigger before update on tasks, when an attempt that shows a preview has ended: takes progress.preview away. Its worker deletes the picture, which
-- was of something unfinished.
create or replace function darkroom.forget_preview()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  new.progress := new.progress - 'preview';
  return new;
end
$$;
comment on function darkroom.forget_preview is 'Takes the preview from the progress of a task that does not run any more.';
revoke all on function darkroom.forget_preview from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/has_live_children.sql
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
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/held_tasks.sql
-- The tasks that a worker runs now: In Progress under it and held by its last heartbeat, or claimed about then or later. Orchestrators that wait for their tree are not
-- among them: they hold no slot.
-- By their ids where the worker named them, and of the rest only what is as new as the heartbeat: the index of all that it ever held may be full of dead rows
-- while an old transaction pins them.
create or replace function darkroom.held_tasks(p_worker public.workers)
returns setof public.tasks
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
-- Pages that cost nothing leave tasks_in_progress the cheapest index, whatever was counted when nothing ran: by any other, each worker would read what all run.
set random_page_cost = 0
set seq_page_cost = 0
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query
  with beat as materialized (
    select case when p_worker.running is null then '-infinity' else coalesce(p_worker.last_heartbeat - interval '10 seconds', '-infinity') end as since
  ), named as materialized (
    select n.* from unnest(p_worker.running) r (id) cross join lateral (select t.* from public.tasks t where t.id = r.id offset 0) n
  ), held as (
    select n.* from named n cross join beat b where n.status = 'In Progress' and n.worker_id = p_worker.id and n.claimed_at <= b.since
    union all
    select t.* from public.tasks t where t.status = 'In Progress' and t.worker_id = p_worker.id and t.claimed_at > (select b.since from beat b)
  )
  select h.* from held h
  where not exists (select from public.tasks c where c.orchestrator_task_id = h.id and c.status in ('Queued', 'In Progress'));
end
$$;
comment on function darkroom.held_tasks is 'The tasks that a worker runs now.';
revoke all on function darkroom.held_tasks from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/holds_task.sql
-- Whether the caller holds a task that names neither worker nor attempt, as callers without a fence mean it: it runs under one of the token's workers,
-- or under anybody's where the caller is trusted. With p_last also when the caller held it last: it was queued again and nobody has taken
-- it since, or it is Complete.
create or replace function darkroom.holds_task(p_task public.tasks, p_last boolean)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token uuid := darkroom.caller_token();
begin
  if p_task.status = 'In Progress' or p_last and p_task.status = 'Complete' then
    return v_token is null or exists (select from public.workers w where w.id = p_task.worker_id and w.token_id = v_token);
  end if;
  return p_last and p_task.status = 'Queued' and exists (
    select from public.task_attempts a join public.workers w on w.id = a.worker_id
    where a.task_id = p_task.id and a.attempt = p_task.attempt and (v_token is null or w.token_id = v_token));
end
$$;
comment on function darkroom.holds_task is 'Whether the caller holds a task, or held it last.';
revoke all on function darkroom.holds_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/in_words.sql
-- A time as messages say it, to the second, in UTC.
create or replace function darkroom.in_words(p_time timestamptz)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
$$;
comment on function darkroom.in_words is 'A time as messages say it.';
revoke all on function darkroom.in_words from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/insert_generations.sql
-- Inserts the generations of finished tasks and their links to shots. One that is there already for a task is that one, and so is a link.
-- p_types and p_shots: of each task, image or video, and the shot it belongs on, or null. Returns how many links are new. Raises what the rows violate.
create or replace function darkroom.insert_generations(p_tasks public.tasks[], p_types text[], p_shots uuid[])
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_links bigint;
begin
  with made as (
    insert into public.generations as g (id, owner_id, project_id, type, location, thumbnail_url, params, metadata, tasks, source_task_id, created_at)
    select darkroom.new_id(), t.owner_id, t.project_id, p_types[t.ordinality], t.output_location,
      coalesce(t.thumbnail_url, t.params #>> '{full_orchestrator_payload,thumbnail_url}', t.params ->> 'thumbnail_url'),
      t.params, t.metadata, jsonb_build_array(t.id), t.id, coalesce(t.completed_at, clock_timestamp())
    from unnest(p_tasks) with ordinality t
    on conflict (source_task_id) do nothing
    returning g.id, g.source_task_id
  )
  insert into public.shot_generations (id, owner_id, project_id, shot_id, generation_id, position)
  select darkroom.new_id(), l.owner_id, l.project_id, l.shot_id, l.generation_id, null
  from (select t.owner_id, t.project_id, p_shots[t.ordinality] as shot_id, m.id is not null as new,
          coalesce(m.id, (select g.id from public.generations g where g.source_task_id = t.id)) as generation_id
        from unnest(p_tasks) with ordinality t left join made m on m.source_task_id = t.id
        where p_shots[t.ordinality] is not null) l
  where l.new or not exists (select from public.shot_generations sg where sg.shot_id = l.shot_id and sg.generation_id = l.generation_id);
  get diagnostics v_links = row_count;
  return v_links;
end
$$;
comment on function darkroom.insert_generations is 'Inserts the generations of finished tasks, and links them to their shots.';
revoke all on function darkroom.insert_generations from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/known_task.sql
-- The task, if the caller knows of it: the service and workers that log in to the database know all tasks, a worker's token those that it sees
-- (darkroom.tasks_of_worker) and those that its workers have held. Raises TD021 for all others, TD041 for callers that are no workers.
create or replace function darkroom.known_task(p_task uuid)
returns public.tasks
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token uuid := darkroom.caller_token();
  v_task public.tasks;
begin
  select t.* into v_task from public.tasks t where t.id = p_task;
  if not found or v_task.owner_id <> darkroom.caller_owner()
     or v_token is not null and p_task <> all (darkroom.tasks_of_worker())
        and not exists (select from public.workers w where w.id = v_task.worker_id and w.token_id = v_token)
        and not exists (select from public.task_attempts a join public.workers w on w.id = a.worker_id
                        where a.task_id = p_task and w.token_id = v_token) then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', p_task);
  end if;
  return v_task;
end
$$;
comment on function darkroom.known_task is 'The task, if the caller knows of it.';
revoke all on function darkroom.known_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/lease_end.sql
-- When the lease of a running task ends: lease_timeout after the later of its claim and the last heartbeat that covers it. A
-- heartbeat that names tasks covers only those.
create or replace function darkroom.lease_end(p_task public.tasks, p_worker public.workers)
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select greatest(p_task.claimed_at,
                  case when p_worker.running is null or p_task.id = any (p_worker.running) then p_worker.last_heartbeat end)
         + coalesce(p_worker.lease_timeout, interval '30 minutes')
$$;
comment on function darkroom.lease_end is 'When the lease of a running task ends.';
revoke all on function darkroom.lease_end from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/lock_held_task.sql
-- Locks the owner of a task, then the task, and checks the fence: it must be In Progress under this worker and attempt.
-- Without worker and attempt the present holder is meant. Raises TD021 (no such task), TD031 (the lease is lost: another attempt,
-- another worker, or queued again) and TD032 (it has ended).
-- A caller with a token has only the tasks of its own workers, p_worker being the name it gives itself; other users' tasks are not found.
-- p_repeat: when this very attempt has ended with that outcome already, the task is returned as it is, not In Progress: the caller
-- repeats itself, and is answered as before. Looked up under the lock, because the first call may be on its way still.
create or replace function darkroom.lock_held_task(p_task uuid, p_worker text, p_attempt integer, p_repeat text default null)
returns public.tasks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner uuid;
  v_task public.tasks;
  v_token uuid := darkroom.caller_token();
  v_worker text := p_worker;
  v_mine boolean;
begin
  select t.owner_id into v_owner from public.tasks t where t.id = p_task and t.owner_id = coalesce(darkroom.caller_owner(), t.owner_id);
  if found then
    perform darkroom.lock_owner(v_owner);
  end if;
  select t.* into v_task from public.tasks t where t.id = p_task and t.owner_id = v_owner for update;
  if not found then  -- or not any more
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', p_task);
  end if;

  if v_token is not null then
    -- An unknown name becomes one that nobody has.
    v_worker := coalesce(darkroom.caller_worker(p_worker), case when p_worker is not null then '' end);
    v_mine := exists (select from public.workers w where w.id = v_task.worker_id and w.token_id = v_token);
  end if;

  if v_task.status <> 'In Progress' and coalesce(v_mine, true) and exists (
       select from public.task_attempts a where a.task_id = p_task and a.attempt = v_task.attempt and a.outcome = p_repeat
         and a.attempt = coalesce(p_attempt, a.attempt) and a.worker_id = coalesce(v_worker, a.worker_id)) then
    return v_task;
  elsif v_task.status <> 'In Progress' or v_worker <> v_task.worker_id or p_attempt <> v_task.attempt or not coalesce(v_mine, true) then
    perform darkroom.refuse_hold(v_task, case when v_mine or v_mine is null then v_worker else '' end, p_attempt);
  end if;
  return v_task;
end
$$;
comment on function darkroom.lock_held_task is 'Locks owner and task and checks the fence of (worker, attempt).';
revoke all on function darkroom.lock_held_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/lock_owner.sql
-- Takes the owner's lock until the end of the transaction. Every function that changes tasks, credits or the queue of an
-- owner takes it first, before any task row: lock order is owner, then task. An advisory lock, because it writes nothing.
-- After it is taken, the next statement sees what the previous holder committed; so READ COMMITTED is demanded (TD050).
-- p_wait = false: returns false at once when somebody else holds it. Otherwise waits, for p_timeout at most if given.
create or replace function darkroom.lock_owner(p_owner uuid, p_wait boolean default true, p_timeout text default null)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_space constant bigint := 7309475735962773870;
  v_key bigint := uuid_hash_extended(p_owner, c_space);
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'Wrong transaction isolation' using errcode = 'TD050',
      detail = format('This transaction is %s; the task functions need read committed.', current_setting('transaction_isolation')),
      hint = 'Call them in a transaction of their own, with the default isolation.';
  end if;

  if pg_try_advisory_xact_lock(v_key) then
    return true;
  elsif not p_wait then
    return false;
  elsif p_timeout is null then
    perform pg_advisory_xact_lock(v_key);
    return true;
  end if;

  declare
    v_before text := current_setting('lock_timeout');
  begin
    perform set_config('lock_timeout', p_timeout, true);
    perform pg_advisory_xact_lock(v_key);
    perform set_config('lock_timeout', v_before, true);
    return true;
  exception when lock_not_available then
    return false;
  end;
end
$$;
comment on function darkroom.lock_owner is 'Takes the lock of an owner until the end of the transaction; false when it could not be had.';
revoke all on function darkroom.lock_owner from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/log_generation_error.sql
-- Records why a finished task has no generation or no shot link, and says so in the server's log.
create or replace function darkroom.log_generation_error(p_task public.tasks, p_step text, p_sqlstate text, p_message text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.generation_errors (owner_id, task_id, step, sqlstate, message)
  values (p_task.owner_id, p_task.id, p_step, p_sqlstate, left(p_message, 2000));
  raise log 'task %: %: % %', p_task.id, p_step, coalesce(p_sqlstate, ''), left(p_message, 2000);
end
$$;
comment on function darkroom.log_generation_error is 'Records a failed step of generation creation.';
revoke all on function darkroom.log_generation_error from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/log_ledger_entry.sql
-- Trigger after insert on credit_ledger, for each statement: appends the entries to the event log and rings the bell. The ledger is append-only: the
-- event says which entry, as owner/seq, and auth.read_events reads it there.
create or replace function darkroom.log_ledger_entry()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into darkroom.task_events (slot, owner_id, table_name, kind, row_id, data)
  select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, 'credit_ledger', tg_op, concat(c.owner_id, '/', c.seq), '{}'
  from changed c;
  if found and pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_ledger_entry is 'Appends an entry of the ledger to the event log.';
revoke all on function darkroom.log_ledger_entry from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/log_row_change.sql
-- Trigger after insert, update or delete on generations, shots, shot_generations or projects, for each statement: appends what it changed to the event
-- log and rings the bell. The table's name is the trigger's argument. A shot's owner is its project's. The event of a new generation or link does not repeat
-- what stands in its other columns and in the generation's task: auth.read_events puts it back.
create or replace function darkroom.log_row_change()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_argv[0] = 'projects' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.id, 'projects', tg_op, c.id, to_jsonb(c) from changed c;
  elsif tg_argv[0] = 'shots' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), p.owner_id, c.project_id, 'shots', tg_op, c.id, to_jsonb(c)
    from changed c join public.projects p on p.id = c.project_id;
  elsif tg_argv[0] = 'generations' and tg_op = 'INSERT' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'generations', 'INSERT', c.id,
      case when c.source_task_id is null then to_jsonb(c)
           else jsonb_build_object('type', c.type, 'location', c.location, 'thumbnail_url', c.thumbnail_url, 'metadata', c.metadata,
                                   'source_task_id', c.source_task_id, 'created_at', c.created_at) end
    from changed c;
  elsif tg_argv[0] = 'shot_generations' and tg_op = 'INSERT' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'shot_generations', 'INSERT', c.id,
      to_jsonb(c) - '{id,owner_id,project_id}'::text[]
    from changed c;
  else
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, tg_argv[0], tg_op, c.id, to_jsonb(c) from changed c;
  end if;
  if found and pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_row_change is 'Appends a change to the event log.';
revoke all on function darkroom.log_row_change from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/lose_tasks.sql
-- Queues again what a worker holds, because it no longer runs; counted as failed attempts. An orchestrator whose tree runs needs no worker and
-- stays. Returns how many. Takes the locks of their owners, in the order of their ids.
create or replace function darkroom.lose_tasks(p_worker text, p_error text)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_held record;
  v_task public.tasks;
  v_count integer := 0;
begin
  for v_held in
    select t.owner_id, t.id from public.tasks t
    where t.worker_id = p_worker and t.status = 'In Progress' order by t.owner_id, t.id
  loop
    perform darkroom.lock_owner(v_held.owner_id);
    select t.* into v_task from public.tasks t
    where t.id = v_held.id and (t.status = 'In Progress') is true and t.worker_id = p_worker for update;
    if found and not darkroom.has_live_children(v_task.id) then
      perform darkroom.requeue_task(v_task, 'lost', p_error);
      v_count := v_count + 1;
    end if;
  end loop;
  return v_count;
end
$$;
comment on function darkroom.lose_tasks is 'Queues again what a worker holds that no longer runs.';
revoke all on function darkroom.lose_tasks from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/lower_ready_mark.sql
-- Called for a row that enters the claim's sight with this created_at. The mark stays some seconds behind now, so a young
-- row needs nothing. For an older one the mark is lowered, and a shared lock held to the end of the transaction keeps
-- ticks, which do not see the row before it is committed, from raising it again. Returns whether the row was older.
create or replace function darkroom.lower_ready_mark(p_created_at timestamptz)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_mark_lock constant bigint := 7235433876402729074;
  v_micros bigint;
begin
  if p_created_at > clock_timestamp() - interval '200 milliseconds' then
    return false;
  end if;
  v_micros := (extract(epoch from p_created_at) * 1000000)::bigint - 1;
  perform pg_advisory_xact_lock_shared(c_mark_lock);
  if (select m.last_value from darkroom.ready_mark m) > v_micros then
    perform setval('darkroom.ready_mark', greatest(v_micros, 0));
  end if;
  return true;
end
$$;
comment on function darkroom.lower_ready_mark is 'Keeps the ready mark at or below a row that enters the claim''s sight late.';
revoke all on function darkroom.lower_ready_mark from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/meet_worker.sql
-- The id of a worker that never registers, made known when it is first heard of: it serves wan2gp and is given 30 minutes of silence.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041 (the caller is no worker).
create or replace function darkroom.meet_worker(p_name text)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id text := darkroom.caller_worker(p_name);
begin
  if v_id is null or not exists (select from public.workers w where w.id = v_id) then
    select w.id into v_id from public.register_worker(p_name, '{wan2gp}', if_unknown => true) w;
  end if;
  return v_id;
end
$$;
comment on function darkroom.meet_worker is 'Id of a worker that never registers; makes it known.';
revoke all on function darkroom.meet_worker from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/new_id.sql
-- A time-ordered id (UUID version 7, RFC 9562) of a task, generation or link: what is new stands together at the end of each index of ids, where random
-- ones would write to pages all over it. Its other 74 bits are random.
create or replace function darkroom.new_id()
returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Of a version 4: its first 48 bits become the time in ms, its version 0100 becomes 0111.
  return encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
           placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid;
end
$$;
comment on function darkroom.new_id is 'A time-ordered id.';
revoke all on function darkroom.new_id from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/notify_workers.sql
-- The only place that speaks River's two wire formats (topics river_insert and river_control in schema river).
-- No argument: something can be claimed; rings only if a worker armed the bell, so that busy systems commit without NOTIFY.
-- p_cancel_job_no: tells the worker that runs this task to stop. River knows tasks by their negated job_no.
-- Returns whether it told anybody. A rollback swallows a ring: workers poll besides.
create or replace function darkroom.notify_workers(p_cancel_job_no bigint default null)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_cancel_job_no is not null then
    perform pg_notify('river.river_control',
                      jsonb_build_object('action', 'cancel', 'queue', 'tasks', 'job_id', -p_cancel_job_no)::text);
    return true;
  elsif pg_sequence_last_value('darkroom.worker_bell') = 2 then
    perform setval('darkroom.worker_bell', 1);
    perform pg_notify('river.river_insert', '{"queue":"tasks"}');
    return true;
  end if;
  return false;
end
$$;
comment on function darkroom.notify_workers is 'Wakes idle workers, or tells one to stop a task.';
revoke all on function darkroom.notify_workers from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/plain_email.sql
-- An email as it is compared: in small letters, without blanks around. By the letters of ASCII only, so that no locale decides who somebody is.
create or replace function darkroom.plain_email(p_email text)
returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
  select lower(btrim(p_email) collate "C") collate "default"
$$;
comment on function darkroom.plain_email is 'An email as it is compared.';
revoke all on function darkroom.plain_email from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/prepare_task.sql
-- Trigger before insert on tasks: the one place where a new task is checked, whether it came by create_task or by INSERT.
-- Owner, cost and all that belongs to a running task are set here; what a client says of them does not count.
-- A user makes tasks in their own projects. A worker with a token makes only tasks in the tree of an orchestrator that it runs, which are
-- free: its price covers them. A user's task in a tree would be free as well, and is refused.
-- Raises TD001-TD004 (bad input), TD010 (credits), TD020 (project), TD023 (dependency), TD032 (its orchestrator has ended), TD040 (nobody
-- is signed in), TD041 (a task in a tree that the caller does not run, or a worker's task in none).
create or replace function darkroom.prepare_task()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_caller uuid := darkroom.caller_owner();
  v_token uuid := case when auth.role() = 'worker' then auth.token_id() end;  -- of a worker; one that logs in has no claims
  c_max_deps constant integer := 500;
  v_type public.task_types;
  v_orchestrator public.tasks;
  v_missing uuid;
  v_ignored boolean;
  v_available numeric;
begin
  select p.owner_id into new.owner_id from public.projects p where p.id = new.project_id;
  if not found or new.owner_id <> v_caller then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', new.project_id);
  end if;

  v_type := darkroom.resolve_task_type(new.tool_id, new.task_type);
  v_ignored := darkroom.check_params(v_type, new.params);

  -- Dependencies and the tree stay within the project.
  if cardinality(new.dependant_on) = 0 then
    new.dependant_on := null;
  elsif new.dependant_on is not null then
    if cardinality(new.dependant_on) > c_max_deps or array_ndims(new.dependant_on) > 1 then
      raise exception 'Invalid dependency' using errcode = 'TD023', detail = format('A task may wait for up to %s others.', c_max_deps);
    end if;
    select d.id into v_missing from unnest(new.dependant_on) d (id)
    where d.id is null or not exists (select from public.tasks t where t.id = d.id and t.project_id = new.project_id) limit 1;
    if found then
      raise exception 'Invalid dependency' using errcode = 'TD023',
        detail = format('dependant_on names task %s, which is not in this project.', coalesce(v_missing::text, 'null')),
        hint = 'Create the task that is waited for first.';
    end if;
  end if;

  new.orchestrator_task_id := null;
  if new.params ->> 'orchestrator_task_id_ref' is not null then
    select t.* into v_orchestrator from public.tasks t
    where t.id = darkroom.as_uuid(new.params -> 'orchestrator_task_id_ref') and t.project_id = new.project_id
      and t.task_type = 'travel_orchestrator';
    if not found then
      raise exception 'Invalid dependency' using errcode = 'TD023',
        detail = 'params.orchestrator_task_id_ref names no travel_orchestrator of this project.';
    elsif v_orchestrator.status <> 'In Progress' then
      raise exception 'Task has ended' using errcode = 'TD032',
        detail = format('The orchestrator %s is %s.', v_orchestrator.id, v_orchestrator.status),
        hint = 'Only a running orchestrator can have new tasks in its tree.';
    end if;
    new.orchestrator_task_id := v_orchestrator.id;
  end if;
  if v_token is not null and coalesce(new.orchestrator_task_id <> all (darkroom.tasks_of_worker()), true)
     or v_token is null and v_caller is not null and new.orchestrator_task_id is not null then
    raise exception 'Not allowed' using errcode = 'TD041',
      detail = 'Only the worker that runs an orchestrator adds tasks to its tree, and it adds no others.';
  end if;

  -- The orchestrator's price covers its tree.
  new.cost := case when new.orchestrator_task_id is null then darkroom.price_of(v_type, new.params) else 0 end;
  if new.cost > 0 then
    select l.balance_after - l.held_after into v_available from public.credit_ledger l where l.owner_id = new.owner_id order by l.seq desc limit 1;
    if coalesce(v_available, 0) < new.cost then
      raise exception 'Insufficient credits' using errcode = 'TD010',
        detail = format('The task costs %s credits and %s are available.', new.cost, coalesce(v_available, 0)), hint = 'Add credits, then try again.';
    end if;
  end if;

  new.id := coalesce(new.id, darkroom.new_id());
  new.task_type := v_type.name;
  new.status := 'Queued';
  new.attempt := 0;
  new.failed_attempts := 0;
  new.worker_id := null;
  new.claimed_at := null;
  new.run_after := null;
  new.progress := null;
  new.output_location := null;
  new.thumbnail_url := null;
  new.metadata := coalesce(new.metadata, '{}');
  new.error_message := null;
  new.generation_created := false;
  new.completed_at := null;
  new.created_at := clock_timestamp();
  new.updated_at := new.created_at;
  return new;
end
$$;
comment on function darkroom.prepare_task is 'Checks a new task and sets what a client may not: owner, cost, status.';
revoke all on function darkroom.prepare_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/price_of.sql
-- Price of one task of a type, in credits: base_price + unit_price * units found at unit_path.
-- Raises TD003 when the number of units is not a whole number between 1 and max_units.
create or replace function darkroom.price_of(p_type public.task_types, p_params jsonb)
returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_units text;
begin
  if p_type.unit_price = 0 then
    return p_type.base_price;
  end if;

  v_units := p_params #>> string_to_array(p_type.unit_path, '.');
  if v_units is null or v_units !~ '^[0-9]{1,6}$' or v_units::integer not between 1 and p_type.max_units then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = format('params.%s must be a whole number from 1 to %s.', p_type.unit_path, p_type.max_units),
      hint = 'The price of this task type depends on it.';
  end if;
  return p_type.base_price + p_type.unit_price * v_units::integer;
end
$$;
comment on function darkroom.price_of is 'Price in credits of a task of this type with these params.';
revoke all on function darkroom.price_of from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/purge.sql
-- Deletes rows that have served their time, and returns how many. Each kind of row has one statement here.
create or replace function darkroom.purge()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_leases constant integer := 1000;  -- of a user that lost their connection; browsers have few
  v_count bigint;
  v_total bigint := 0::bigint;
begin
  -- Erasures whose files were deleted once more a day after: by then every token of the user has expired and every zombie has ended.
  delete from darkroom.erasures e where e.swept_at > e.requested_at + interval '1 day';
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- Sessions that nobody can go on with, and their refresh tokens.
  delete from darkroom.sessions s where s.used_at < clock_timestamp() - darkroom.session_idle();
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- Old events; subscriptions that nobody came back to while theirs were kept; and gateways that have none any more.
  perform darkroom.rotate_events();
  delete from darkroom.realtime_leases r
  using darkroom.event_log k
  where coalesce(r.lost_at, (select g.seen_at from darkroom.realtime_gateways g where g.id = r.gateway_id), r.updated_at) < clock_timestamp() - k.keep;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from darkroom.realtime_leases r  -- and of those of a user the latest stay
  where r.id in (
    select l.id from (
      select n.id, row_number() over (partition by n.owner_id order by n.lost_at desc) as nth from darkroom.realtime_leases n where n.lost_at is not null
    ) l where l.nth > c_leases);
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from darkroom.realtime_gateways g
  where g.seen_at < clock_timestamp() - interval '1 hour' and not exists (select from darkroom.realtime_leases r where r.gateway_id = g.id);
  get diagnostics v_count = row_count;
  return v_total + v_count;
end
$$;
comment on function darkroom.purge is 'Deletes rows that have served their time.';
revoke all on function darkroom.purge from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/queue_place.sql
-- Where a Queued task stands in the queue: 'ready' or 'backlog' (the claim will come to it), 'parked' (its lane is out of the claim's sight, as its owner could not
-- pay), 'deps', 'delayed'; 'stuck' (in a backlog that no window stands before) or 'nowhere', which are faults of ours.
create or replace function darkroom.queue_place(p_task public.tasks)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_mark constant timestamptz := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
  v_parked boolean;
begin
  select r.parked into v_parked from darkroom.task_ready r
  where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no);
  if found then
    return case when v_parked then 'parked' else 'ready' end;
  end if;
  if exists (select from darkroom.task_backlog b
             where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)
                 = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no)) then
    return case
      -- What is not parked is no older than the mark; dead rows are.
      when exists (select from darkroom.task_ready r
                   where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and not r.parked
                     and r.created_at >= v_mark and (r.created_at, r.job_no) < (p_task.created_at, p_task.job_no)) then 'backlog'
      when exists (select from darkroom.task_ready r
                   where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and r.parked) then 'parked'
      else 'stuck' end;
  elsif exists (select from darkroom.task_deps d where d.task_id = p_task.id) then
    return 'deps';
  elsif exists (select from darkroom.task_delayed d where d.task_id = p_task.id) then
    return 'delayed';
  end if;
  return 'nowhere';
end
$$;
comment on function darkroom.queue_place is 'Where a Queued task stands in the queue.';
revoke all on function darkroom.queue_place from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/reason.sql
-- One entry of task_explanation.reasons. The codes stand in sql/README.md.
create or replace function darkroom.reason(p_code text, p_message text, p_detail jsonb default '{}')
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', p_code, 'message', p_message, 'detail', p_detail)
$$;
comment on function darkroom.reason is 'One entry of the reasons of an explanation.';
revoke all on function darkroom.reason from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/refill_lane.sql
-- Fills a lane's window from its backlog after rows left it: from fewer than 8 up to 16. The caller holds the owner's lock.
-- p_created_at, p_job_no: the youngest row that left. Everything of the lane's backlog is younger than it, and dead rows lie
-- below it, so all look-ups start there. Returns whether rows came.
create or replace function darkroom.refill_lane(
  p_owner uuid, p_task_type text, p_cost numeric, p_created_at timestamptz, p_job_no bigint, p_parked boolean)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_low constant integer := 8;
  c_window constant integer := 16;
  v_count bigint;
  v_created_at timestamptz;
begin
  if exists (select from darkroom.task_ready r
             where r.owner_id = p_owner and r.task_type = p_task_type and r.cost = p_cost and (r.created_at, r.job_no) > (p_created_at, p_job_no)
             order by r.created_at, r.job_no offset c_low - 1)
     or not exists (select from darkroom.task_backlog b
                    where b.owner_id = p_owner and b.task_type = p_task_type and b.cost = p_cost and b.created_at >= p_created_at) then
    return false;
  end if;

  select count(*), max(r.created_at) into v_count, v_created_at
  from darkroom.task_ready r
  where r.owner_id = p_owner and r.task_type = p_task_type and r.cost = p_cost
    and (r.created_at, r.job_no) > (p_created_at, p_job_no);
  with moved as (
    delete from darkroom.task_backlog b
    using (select o.* from darkroom.task_backlog o
           where o.owner_id = p_owner and o.task_type = p_task_type and o.cost = p_cost
             and o.created_at >= coalesce(v_created_at, p_created_at)
           order by o.created_at, o.job_no limit c_window - v_count) oldest
    where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)
        = (oldest.owner_id, oldest.task_type, oldest.cost, oldest.created_at, oldest.job_no)
    returning b.*
  )
  insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id, parked)
  select m.owner_id, m.task_type, m.cost, m.created_at, m.job_no, m.task_id, p_parked from moved m;
  return found;
end
$$;
comment on function darkroom.refill_lane is 'Moves the oldest of a lane''s backlog into its window; the caller holds the owner''s lock.';
revoke all on function darkroom.refill_lane from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/refuse_change.sql
-- Trigger before update, delete or truncate on what is only ever added to. Raises TD089 for everybody.
create or replace function darkroom.refuse_change()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'Append-only' using errcode = 'TD089', detail = 'What stands here is never changed.';
end
$$;
comment on function darkroom.refuse_change is 'Raises TD089: rows are only added.';
revoke all on function darkroom.refuse_change from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/refuse_erased.sql
-- Raises TD080 for a user who was erased less than a day ago: a token of theirs that has not expired yet must not make them anew.
create or replace function darkroom.refuse_erased(p_user uuid)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from darkroom.erasures e where e.owner_id = p_user) then
    raise exception 'User was erased' using errcode = 'TD080', detail = format('User %s was erased lately.', p_user),
      hint = 'Sign out. Another account has another id.';
  end if;
end
$$;
comment on function darkroom.refuse_erased is 'Raises TD080 for a user who was erased lately.';
revoke all on function darkroom.refuse_erased from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/refuse_hold.sql
-- Says why a task is not held by this worker and attempt: always raises. TD031 (the lease is lost: another attempt, another worker,
-- or queued again) or TD032 (it has ended).
create or replace function darkroom.refuse_hold(p_task public.tasks, p_worker text, p_attempt integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_task.status in ('Queued', 'In Progress') or coalesce(p_worker <> p_task.worker_id, p_worker is not null)
     or coalesce(p_attempt <> p_task.attempt, false) then
    raise exception 'Lease lost' using errcode = 'TD031',
      detail = format('Task %s is %s, attempt %s, worker %s; not attempt %s of worker %s.', p_task.id, p_task.status, p_task.attempt,
                      coalesce(p_task.worker_id, 'none'), coalesce(p_attempt::text, 'unnamed'), coalesce(p_worker, 'unnamed')),
      hint = 'Stop working on it: nothing was changed.';
  end if;
  raise exception 'Task has ended' using errcode = 'TD032',
    detail = format('Task %s is %s.', p_task.id, p_task.status), hint = 'Terminal states are closed: nothing was changed.';
end
$$;
comment on function darkroom.refuse_hold is 'Raises why a task is not held by this worker and attempt.';
revoke all on function darkroom.refuse_hold from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/refuse_move.sql
-- Trigger before update, when a row would get another id or go to another project: raises TD041. So apps may write whole rows back, as an upsert does,
-- and what refers to a row stays right.
create or replace function darkroom.refuse_move()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'Not allowed' using errcode = 'TD041', detail = 'A row keeps its id, and a shot its project.',
    hint = 'Make a new one where it should be.';
end
$$;
comment on function darkroom.refuse_move is 'Refuses that a row gets another id or project.';
revoke all on function darkroom.refuse_move from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/refuse_tokens.sql
-- Raises TD041 for callers with a token: what follows concerns all workers, and is for those that log in to the database.
create or replace function darkroom.refuse_tokens()
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if darkroom.caller_token() is not null then
    raise exception 'Not allowed' using errcode = 'TD041', detail = 'This is not for workers with a token.';
  end if;
end
$$;
comment on function darkroom.refuse_tokens is 'Raises TD041 for callers with a token.';
revoke all on function darkroom.refuse_tokens from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/release_dependents.sql
-- Files what waited for a task that is now Complete, where it waits for nothing else. The caller holds the owner's lock.
create or replace function darkroom.release_dependents(p_done uuid)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
begin
  for v_task in
    with gone as (delete from darkroom.task_deps d where d.dep_id = p_done returning d.task_id)
    select t.* from gone g join public.tasks t on t.id = g.task_id
    where t.status = 'Queued'
      and not exists (select from darkroom.task_deps o where o.task_id = g.task_id and o.dep_id <> p_done)
    order by t.created_at, t.job_no
  loop
    perform darkroom.file_task(v_task);
  end loop;
end
$$;
comment on function darkroom.release_dependents is 'Files what waited for a completed task; the caller holds the owner''s lock.';
revoke all on function darkroom.release_dependents from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/remember_deleted_generation.sql
-- Trigger after delete on generations: notes that the task had one, so that none is missed and none is made again.
create or replace function darkroom.remember_deleted_generation()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if old.source_task_id is not null then
    insert into darkroom.deleted_generations (task_id, owner_id, generation_id) values (old.source_task_id, old.owner_id, old.id)
    on conflict do nothing;
  end if;
  return null;
end
$$;
comment on function darkroom.remember_deleted_generation is 'Notes that a task''s generation was deleted.';
revoke all on function darkroom.remember_deleted_generation from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/requeue_task.sql
-- Ends a running attempt and gives the task back: Queued, or Failed when its attempts are used up. A release is not counted.
-- An orchestrator whose children live cannot be given back: its hold pays for them; a release leaves it as it is, and a
-- failure closes the tree. p_task is the row as it was, locked. The caller holds the owner's lock. Returns the task as it is then.
create or replace function darkroom.requeue_task(p_task public.tasks, p_outcome text, p_error text, p_delay interval default null)
returns public.tasks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_counted boolean := p_outcome <> 'released';
  v_max integer;
  v_task public.tasks;
begin
  select ty.max_attempts into v_max from public.task_types ty where ty.name = p_task.task_type;

  if darkroom.has_live_children(p_task.id) then
    if v_counted then
      perform darkroom.close_tasks(p_task.owner_id, p_task.id, 'Failed', p_error, p_outcome);
    end if;
  elsif v_counted and p_task.failed_attempts + 1 >= v_max then
    perform darkroom.close_tasks(p_task.owner_id, p_task.id, 'Failed',
      case when v_max = 1 then p_error else format('%s (attempt %s of %s)', p_error, p_task.failed_attempts + 1, v_max) end, p_outcome);
  else
    update public.tasks t
    set status = 'Queued', worker_id = null, claimed_at = null, progress = null, error_message = p_error,
        failed_attempts = t.failed_attempts + v_counted::integer, run_after = clock_timestamp() + p_delay, updated_at = clock_timestamp()
    where t.id = p_task.id
    returning t.* into v_task;
    perform darkroom.end_attempt(p_task, p_outcome, p_error);
    perform darkroom.file_task(v_task);
  end if;

  select t.* into v_task from public.tasks t where t.id = p_task.id;
  return v_task;
end
$$;
comment on function darkroom.requeue_task is 'Ends an attempt and queues the task again, or fails it; the caller holds the owner''s lock.';
revoke all on function darkroom.requeue_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/resolve_task_type.sql
-- The type of task that is asked for: by name, or by the tool that makes it (table tools).
-- Raises TD001 when neither is named, TD002 when it is unknown, switched off, or the two disagree.
create or replace function darkroom.resolve_task_type(p_tool_id text, p_task_type text)
returns public.task_types
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type public.task_types;
begin
  if p_tool_id is null and p_task_type is null then
    raise exception 'Missing required fields' using errcode = 'TD001',
      detail = 'Neither tool_id nor task_type is given.', hint = 'Name a tool (table tools) or a task type (table task_types).';
  end if;

  select ty.* into v_type
  from public.task_types ty
  where ty.name = coalesce(p_task_type, (select tl.task_type from public.tools tl where tl.tool_id = p_tool_id));

  if not found or not v_type.enabled then
    raise exception 'Unknown task type' using errcode = 'TD002',
      detail = format('There is no %s.', case when p_task_type is not null then format('task type "%s"', left(p_task_type, 100))
                                              else format('tool "%s"', left(p_tool_id, 100)) end),
      hint = 'The known ones stand in the tables task_types and tools.';
  end if;
  return v_type;
end
$$;
comment on function darkroom.resolve_task_type is 'Task type by its name or by the tool that makes it.';
revoke all on function darkroom.resolve_task_type from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/revive_task.sql
-- Makes a task that was queued again run once more under the worker that held it last, for a caller that brings its result late: so the work is not
-- lost while nobody else has begun it. It gets the next attempt number and its hold, and leaves the queue. Returns whether it did: false
-- when the task is not Queued, or was last held by somebody else.
-- Takes the owner's lock. Raises TD010 when the owner cannot pay any more.
create or replace function darkroom.revive_task(p_task uuid)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
  v_worker text;
  v_available numeric;
begin
  select t.* into v_task from public.tasks t where t.id = p_task and (t.status = 'Queued') is true and t.attempt > 0;
  if not found or v_task.owner_id <> darkroom.caller_owner() then
    return false;
  end if;
  perform darkroom.lock_owner(v_task.owner_id);
  select t.* into v_task from public.tasks t where t.id = p_task for update;
  if not found or v_task.status <> 'Queued' or not darkroom.holds_task(v_task, true) then
    return false;
  end if;
  select a.worker_id into v_worker from public.task_attempts a where a.task_id = p_task and a.attempt = v_task.attempt;

  if v_task.cost > 0 then
    select coalesce(max(a.balance_after - a.held_after), 0) into v_available from darkroom.account(v_task.owner_id) a;
    if v_available < v_task.cost then
      raise exception 'Insufficient credits' using errcode = 'TD010',
        detail = format('The task costs %s credits and %s are available.', v_task.cost, v_available), hint = 'Add credits, then try again.';
    end if;
  end if;

  perform darkroom.drop_from_queue(v_task);
  update public.tasks t
  set status = 'In Progress', worker_id = v_worker, claimed_at = clock_timestamp(), attempt = t.attempt + 1,
      progress = null, run_after = null, updated_at = clock_timestamp()
  where t.id = p_task;
  if v_task.cost > 0 then
    perform darkroom.append_ledger(v_task.owner_id, 'hold', v_task.cost, p_task, v_task.attempt + 1);
  end if;
  return true;
end
$$;
comment on function darkroom.revive_task is 'Lets the worker that held a task last finish it, while nobody else has it.';
revoke all on function darkroom.revive_task from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/ring_event_bell.sql
-- Wakes the readers of the event log. The triggers call it when a reader armed the bell since it last rang (arm_event_bell).
-- At most one NOTIFY per arming, because commits with a NOTIFY are serialised. A rollback swallows a ring: readers poll besides.
create or replace function darkroom.ring_event_bell()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform setval('darkroom.event_bell', 1);
  perform pg_notify('darkroom_events', '');
end
$$;
comment on function darkroom.ring_event_bell is 'Wakes the readers of the event log and disarms the bell.';
revoke all on function darkroom.ring_event_bell from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/rotate_events.sql
-- Goes on to the next partition of the event log when the present one has been written to for a seventh of event_log.keep, and empties it first:
-- it holds the oldest events. Where somebody reads the log for long, such as a backup, it waits 200 ms and leaves it to the next call.
-- Returns whether it went on.
create or replace function darkroom.rotate_events()
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  c_slots constant integer := 8;
  v_next integer;
  v_xid xid8;
  v_at timestamptz;
begin
  perform from darkroom.event_log l
  where l.slot_since < clock_timestamp() - l.keep / (c_slots - 1) for update skip locked;
  if not found then
    return false;
  end if;
  v_next := (((select s.last_value from darkroom.event_slot s) + 1) % c_slots)::integer;
  begin
    case v_next  -- no statement is made up of texts
      when 0 then lock table darkroom.task_events_0 in access exclusive mode;
      when 1 then lock table darkroom.task_events_1 in access exclusive mode;
      when 2 then lock table darkroom.task_events_2 in access exclusive mode;
      when 3 then lock table darkroom.task_events_3 in access exclusive mode;
      when 4 then lock table darkroom.task_events_4 in access exclusive mode;
      when 5 then lock table darkroom.task_events_5 in access exclusive mode;
      when 6 then lock table darkroom.task_events_6 in access exclusive mode;
      else lock table darkroom.task_events_7 in access exclusive mode;
    end case;
  exception when lock_not_available then
    return false;
  end;
  select e.xid into v_xid from darkroom.task_events e where e.slot = v_next order by e.xid desc limit 1;
  select max(e.created_at) into v_at from darkroom.task_events e where e.slot = v_next;
  case v_next
    when 0 then truncate darkroom.task_events_0;
    when 1 then truncate darkroom.task_events_1;
    when 2 then truncate darkroom.task_events_2;
    when 3 then truncate darkroom.task_events_3;
    when 4 then truncate darkroom.task_events_4;
    when 5 then truncate darkroom.task_events_5;
    when 6 then truncate darkroom.task_events_6;
    else truncate darkroom.task_events_7;
  end case;
  update darkroom.event_log l
  set slot_since = clock_timestamp(), trimmed_xid = greatest(l.trimmed_xid, coalesce(v_xid, xid8 '0')), trimmed_at = greatest(l.trimmed_at, v_at);
  perform setval('darkroom.event_slot', v_next);
  return true;
end
$$;
comment on function darkroom.rotate_events is 'Empties the oldest partition of the event log and goes on to it.';
revoke all on function darkroom.rotate_events from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/session_idle.sql
-- How long a session may lie unused before it has ended, and how long used refresh tokens are remembered.
create or replace function darkroom.session_idle()
returns interval
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select interval '30 days'
$$;
comment on function darkroom.session_idle is 'How long a session may lie unused.';
revoke all on function darkroom.session_idle from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/set_aside.sql
-- A ready row that a claim has picked and cannot have: it leaves the queue when its task cannot run (it has ended, or the hint is wrong), and its
-- lane is parked when the owner cannot pay for it. The caller holds the owner's lock and the row's.
create or replace function darkroom.set_aside(p_row darkroom.task_ready)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_available numeric;
begin
  delete from darkroom.task_ready r
  where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p_row.owner_id, p_row.task_type, p_row.cost, p_row.created_at, p_row.job_no)
    and not exists (
      select from public.tasks t
      where t.id = p_row.task_id and (t.status = 'Queued') is true
        and (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) = (p_row.owner_id, p_row.task_type, p_row.cost, p_row.created_at, p_row.job_no)
        and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete')));
  if found then
    perform darkroom.refill_lane(p_row.owner_id, p_row.task_type, p_row.cost, p_row.created_at, p_row.job_no, false);
  end if;

  select coalesce(max(a.balance_after - a.held_after), 0) into v_available from darkroom.account(p_row.owner_id) a;
  if p_row.cost > v_available then
    update darkroom.task_ready r set parked = true
    from (select l.* from darkroom.task_ready l
          where l.owner_id = p_row.owner_id and l.task_type = p_row.task_type and l.cost = p_row.cost and not l.parked
          for update skip locked) lane
    where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (lane.owner_id, lane.task_type, lane.cost, lane.created_at, lane.job_no);
  end if;
end
$$;
comment on function darkroom.set_aside is 'What becomes of a ready row that cannot be claimed.';
revoke all on function darkroom.set_aside from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/sign_in_account.sql
-- What a user who signs in here is told of the account: see auth.account_of. Null: the user does not sign in here.
create or replace function darkroom.sign_in_account(p_user uuid)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', c.user_id, 'email', c.email, 'user_metadata', c.user_metadata,
    'created_at', c.created_at, 'updated_at', c.updated_at, 'last_sign_in_at', c.last_sign_in_at)
  from darkroom.credentials c
  where c.user_id = p_user
$$;
comment on function darkroom.sign_in_account is 'Account of a user who signs in here.';
revoke all on function darkroom.sign_in_account from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/tasks_before.sql
-- How many tasks a claim of these types would hand out before this one: older, shown in the queue, and such as their owner can pay. Counted up to 1000;
-- more: there are at least that many. own: of the same owner. by_type: {"type": how many}. p_own_only: as for a worker that runs its user's tasks alone.
--
-- Bounded for any length of the queue: it reads the older rows of the windows (task_ready) from the mark on, as the claim does, and then the backlogs of just
-- those lanes; no other lane has an older backlog, since all of a lane's window is older than its backlog.
create or replace function darkroom.tasks_before(p_task public.tasks, p_types text[], p_own_only boolean)
returns darkroom.tasks_before
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_most constant integer := 1000;
  v_mark timestamptz := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
  v_window darkroom.task_ready[];
  v_before darkroom.tasks_before;
begin
  if p_own_only then
    select array_agg(w.r) into v_window
    from (select r from darkroom.task_ready r
          where r.owner_id = p_task.owner_id and r.task_type = any (p_types) and not r.parked
            and (r.created_at, r.job_no) < (p_task.created_at, p_task.job_no)
          limit c_most + 1) w;
  else
    select array_agg(w.r) into v_window
    from (select o.r from unnest(p_types) ty (name)
          cross join lateral (
            select r from darkroom.task_ready r
            where r.task_type = ty.name and not r.parked and r.created_at >= v_mark and (r.created_at, r.job_no) < (p_task.created_at, p_task.job_no)
            order by r.created_at, r.job_no limit c_most + 1) o
          limit c_most + 1) w;
  end if;

  with lanes as materialized (
    select r.owner_id, r.task_type, r.cost, count(*) as shown from unnest(v_window) r group by r.owner_id, r.task_type, r.cost
  ), payable as materialized (
    select l.* from lanes l
    where l.cost = 0 or l.cost <= coalesce((select a.balance_after - a.held_after from public.credit_ledger a
                                            where a.owner_id = l.owner_id order by a.seq desc limit 1), 0)
  ), waiting as materialized (
    select p.owner_id, p.task_type from payable p
    cross join lateral (
      select from darkroom.task_backlog b
      where b.owner_id = p.owner_id and b.task_type = p.task_type and b.cost = p.cost
        and (b.created_at, b.job_no) < (p_task.created_at, p_task.job_no)
      limit c_most + 1) b
    limit c_most + 1
  ), counted as (
    select p.owner_id, p.task_type, p.shown as n from payable p
    union all select w.owner_id, w.task_type, count(*) from waiting w group by w.owner_id, w.task_type
  ), by_type as (
    select c.task_type, sum(c.n)::bigint as n, (coalesce(sum(c.n) filter (where c.owner_id = p_task.owner_id), 0))::bigint as own
    from counted c group by c.task_type
  )
  select (coalesce(sum(b.n), 0))::bigint, (coalesce(sum(b.own), 0))::bigint, coalesce(sum(b.n), 0) > c_most, coalesce(jsonb_object_agg(b.task_type, b.n), '{}')
  into v_before.total, v_before.own, v_before.more, v_before.by_type
  from by_type b;
  v_before.more := v_before.more or coalesce(cardinality(v_window), 0) > c_most;
  return v_before;
end
$$;
comment on function darkroom.tasks_before is 'How many tasks a claim would hand out before this one, up to 1000.';
revoke all on function darkroom.tasks_before from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/tasks_of_worker.sql
-- The tasks that a worker's token may see: those that its workers run, the trees of orchestrators among them, and what they wait for.
-- Row security of tasks is built on it, so it must not raise. Empty without a token.
create or replace function darkroom.tasks_of_worker()
returns uuid[]
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with held as (
    select t.id, t.task_type, t.dependant_on from public.tasks t
    where t.status = 'In Progress' and t.worker_id in (select w.id from public.workers w where w.token_id = auth.token_id())
  )
  select coalesce(array_agg(v.id), '{}') from (
    select h.id from held h
    union select c.id from held h join public.tasks c on c.orchestrator_task_id = h.id where h.task_type = 'travel_orchestrator'
    union select unnest(h.dependant_on) from held h
  ) v
$$;
comment on function darkroom.tasks_of_worker is 'Tasks that the caller''s token may see.';
revoke all on function darkroom.tasks_of_worker from public;
grant execute on function darkroom.tasks_of_worker to worker;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/unpark_lanes.sql
-- Puts the lanes that the owner can pay for back in the claim's sight. The caller holds the owner's lock.
-- Rows that stand locked belong to a claim that waits for that lock and decides anew.
create or replace function darkroom.unpark_lanes(p_owner uuid, p_available numeric)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_oldest timestamptz;
begin
  with parked as (
    select r.* from darkroom.task_ready r
    where r.owner_id = p_owner and r.parked and r.cost <= p_available
    for update skip locked
  ), shown as (
    update darkroom.task_ready r set parked = false from parked p
    where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p.owner_id, p.task_type, p.cost, p.created_at, p.job_no)
    returning r.created_at
  )
  select min(s.created_at) into v_oldest from shown s;

  if v_oldest is not null then
    perform darkroom.lower_ready_mark(v_oldest);
    perform darkroom.notify_workers();
  end if;
end
$$;
comment on function darkroom.unpark_lanes is 'Shows the lanes an owner can pay for to the claim again.';
revoke all on function darkroom.unpark_lanes from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/wanted_types.sql
-- The types of task that a worker may claim now: those its capabilities allow, of those that it registered for, of those that it wants (p_types; null:
-- all). Empty when these have nothing in common. The guard of every claim.
-- Raises TD022 (p_worker is not registered; p_name is what the caller called it), TD050 (isolation).
create or replace function darkroom.wanted_types(p_worker text, p_name text, p_types text[])
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_types text[];
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'Wrong transaction isolation' using errcode = 'TD050',
      detail = format('This transaction is %s; a claim needs read committed.', current_setting('transaction_isolation')),
      hint = 'Call it in a transaction of its own, with the default isolation.';
  end if;
  select coalesce(array_agg(v.task_type) filter (where v.task_type = any (coalesce(p_types, array[v.task_type]))), '{}') into v_types
  from darkroom.worker_types v where v.worker_id = p_worker group by v.worker_id;
  if v_types is null then
    raise exception 'Unknown worker' using errcode = 'TD022',
      detail = format('No worker "%s" is registered.', left(p_name, 200)), hint = 'Call register_worker first.';
  end if;
  return v_types;
end
$$;
comment on function darkroom.wanted_types is 'Types of task that a worker may claim now.';
revoke all on function darkroom.wanted_types from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/whole_change.sql
-- What can change of a task, whole: the data of an event leaves out what is as in a new task.
create or replace function darkroom.whole_change(p_data jsonb)
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"status": "Queued", "attempt": 0, "worker_id": null, "failed_attempts": 0, "claimed_at": null, "run_after": null, "progress": null, "output_location": null,
    "thumbnail_url": null, "metadata": {}, "error_message": null, "generation_created": false, "completed_at": null}'::jsonb || p_data;
end
$$;
comment on function darkroom.whole_change is 'What can change of a task, from the data of an event.';
revoke all on function darkroom.whole_change from public;
grant execute on function darkroom.whole_change to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/worker_alive.sql
-- Whether a worker that was last heard from then counts as alive. Whoever sends heartbeats sends several in a lease: half a lease of silence is too long.
-- One that never sent any may be silent for its whole lease.
create or replace function darkroom.worker_alive(p_worker public.workers, p_seen timestamptz)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_seen > clock_timestamp() - p_worker.lease_timeout / case when p_worker.last_heartbeat is null then 1 else 2 end;
end
$$;
comment on function darkroom.worker_alive is 'Whether a worker counts as alive.';
revoke all on function darkroom.worker_alive from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/worker_seen.sql
-- When a worker was last heard from: its last heartbeat, or when it was made known; or the claim of a task that it has still, which is looked up only where the heartbeat is
-- too old to be alive by.
create or replace function darkroom.worker_seen(p_worker public.workers)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_worker.last_heartbeat > clock_timestamp() - p_worker.lease_timeout / 2 then
    return p_worker.last_heartbeat;
  end if;
  return greatest(coalesce(p_worker.last_heartbeat, p_worker.created_at),
    (select max(t.claimed_at) from public.tasks t where t.worker_id = p_worker.id and t.status = 'In Progress'));
end
$$;
comment on function darkroom.worker_seen is 'When a worker was last heard from.';
revoke all on function darkroom.worker_seen from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/admit_due_tasks.sql
-- Files the tasks whose retry is due and returns how many. To be called about every second. Busy owners come at the next call.
create or replace function public.admit_due_tasks(max_tasks integer default 1000)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_due record;
  v_task public.tasks;
  v_count integer := 0;
begin
  perform darkroom.refuse_tokens();
  for v_due in
    select d.owner_id, d.task_id from darkroom.task_delayed d where d.run_after <= clock_timestamp()
    order by d.run_after limit admit_due_tasks.max_tasks
  loop
    continue when not darkroom.lock_owner(v_due.owner_id, false);
    delete from darkroom.task_delayed d where d.task_id = v_due.task_id and d.run_after <= clock_timestamp();
    if found then
      select t.* into v_task from public.tasks t where t.id = v_due.task_id and (t.status = 'Queued') is true;
      if found then
        perform darkroom.file_task(v_task);
        v_count := v_count + 1;
      end if;
    end if;
  end loop;
  return v_count;
end
$$;
comment on function public.admit_due_tasks is 'Files the tasks whose retry is due.';
revoke all on function public.admit_due_tasks from public;
grant execute on function public.admit_due_tasks to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/admit_tasks.sql
-- Repairs the queue of one owner: each Queued task gets its one right place, what is not Queued leaves, affordable lanes are shown.
-- Returns how many faults it mended. It should find none; each one is recorded in darkroom.queue_repairs.
create or replace function public.admit_tasks(user_id uuid)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
  v_account public.credit_ledger;
  v_lane record;
  v_faults integer := 0;
  v_found integer;
begin
  perform darkroom.lock_owner(admit_tasks.user_id);

  -- hints that the task's row does not bear out
  with queued as (
    select t.*, t.run_after > clock_timestamp() as delayed, exists (
             select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete') as waits
    from public.projects p join public.tasks t on t.project_id = p.id
    where p.owner_id = admit_tasks.user_id and t.status = 'Queued'
  ), runnable as (
    select q.* from queued q where not coalesce(q.delayed, false) and not q.waits
  ), stale_ready as (
    delete from darkroom.task_ready r
    using (select l.* from darkroom.task_ready l where l.owner_id = admit_tasks.user_id
             and not exists (select from runnable t where t.id = l.task_id
               and (t.task_type, t.cost, t.created_at, t.job_no) = (l.task_type, l.cost, l.created_at, l.job_no)) for update skip locked) s
    where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (s.owner_id, s.task_type, s.cost, s.created_at, s.job_no)
    returning r.task_id, 'ready, but cannot run' as fault
  ), stale_backlog as (
    delete from darkroom.task_backlog b where b.owner_id = admit_tasks.user_id
      and (not exists (select from runnable t where t.id = b.task_id
             and (t.task_type, t.cost, t.created_at, t.job_no) = (b.task_type, b.cost, b.created_at, b.job_no))
           or exists (select from darkroom.task_ready r
             where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)))
    returning b.task_id, 'backlog, but cannot run or is also ready' as fault
  ), stale_deps as (
    delete from darkroom.task_deps d where d.owner_id = admit_tasks.user_id
      and not exists (select from queued t join public.tasks w on w.id = d.dep_id
        where t.id = d.task_id and d.dep_id = any (t.dependant_on) and w.status in ('Queued', 'In Progress'))
    returning d.task_id, 'waits for nothing' as fault
  ), stale_delayed as (
    delete from darkroom.task_delayed d where d.owner_id = admit_tasks.user_id
      and (not exists (select from queued t where t.id = d.task_id and t.run_after = d.run_after)
           or d.run_after <= clock_timestamp() and (
             exists (select from darkroom.task_ready r where r.owner_id = d.owner_id and r.task_id = d.task_id)
             or exists (select from darkroom.task_backlog b where b.owner_id = d.owner_id and b.task_id = d.task_id)))
    returning d.task_id, 'delayed, but not Queued or not delayed' as fault
  ), missing_deps as (
    insert into darkroom.task_deps (owner_id, dep_id, task_id)
    select t.owner_id, d.id, t.id from queued t join public.tasks d on d.id = any (t.dependant_on)
    where d.status in ('Queued', 'In Progress')
    on conflict do nothing
    returning task_id, 'does not wait for all it must' as fault
  )
  insert into darkroom.queue_repairs (owner_id, task_id, fault)
  select admit_tasks.user_id, f.task_id, f.fault
  from (select * from stale_ready union all select * from stale_backlog union all select * from stale_deps
        union all select * from stale_delayed union all select * from missing_deps) f;
  get diagnostics v_found = row_count;
  v_faults := v_faults + v_found;

  -- lanes whose backlog is not younger than their ready rows, or that stand empty before it: bring the oldest forward
  for v_lane in
    select b.owner_id, b.task_type, b.cost, min(b.created_at) as oldest,
           (select max(r.created_at) from darkroom.task_ready r
            where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost) as youngest
    from darkroom.task_backlog b where b.owner_id = admit_tasks.user_id
    group by b.owner_id, b.task_type, b.cost
  loop
    with moved as (
      delete from darkroom.task_backlog b
      where b.owner_id = v_lane.owner_id and b.task_type = v_lane.task_type and b.cost = v_lane.cost
        and b.created_at <= coalesce(v_lane.youngest, v_lane.oldest)
      returning b.*
    ), shown as (
      insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id)
      select m.owner_id, m.task_type, m.cost, m.created_at, m.job_no, m.task_id from moved m
    )
    insert into darkroom.queue_repairs (owner_id, task_id, fault)
    select m.owner_id, m.task_id, 'backlog, but as old as ready' from moved m;
    get diagnostics v_found = row_count;
    v_faults := v_faults + v_found;
    perform darkroom.lower_ready_mark(v_lane.oldest);
    perform darkroom.refill_lane(v_lane.owner_id, v_lane.task_type, v_lane.cost, '-infinity', 0, false);
  end loop;

  -- Queued tasks that stand nowhere
  for v_task in
    select t.* from public.projects p join public.tasks t on t.project_id = p.id
    where p.owner_id = admit_tasks.user_id and t.status = 'Queued'
      and not exists (select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no))
      and not exists (select from darkroom.task_backlog b
        where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no))
      and not exists (select from darkroom.task_deps d where d.task_id = t.id)
      and not exists (select from darkroom.task_delayed d where d.task_id = t.id)
    order by t.created_at, t.job_no
  loop
    perform darkroom.file_task(v_task);
    insert into darkroom.queue_repairs (owner_id, task_id, fault) values (v_task.owner_id, v_task.id, 'Queued, but nowhere');
    v_faults := v_faults + 1;
  end loop;

  -- parked lanes that can be paid
  v_account := darkroom.account(admit_tasks.user_id);
  insert into darkroom.queue_repairs (owner_id, task_id, fault)
  select r.owner_id, r.task_id, 'parked, but affordable' from darkroom.task_ready r
  where r.owner_id = admit_tasks.user_id and r.parked and r.cost <= coalesce(v_account.balance_after - v_account.held_after, 0);
  get diagnostics v_found = row_count;
  if v_found > 0 then
    perform darkroom.unpark_lanes(admit_tasks.user_id, coalesce(v_account.balance_after - v_account.held_after, 0));
  end if;
  return v_faults + v_found;
end
$$;
comment on function public.admit_tasks is 'Repairs the queue of one owner; it should find nothing to mend.';
revoke all on function public.admit_tasks from public;
grant execute on function public.admit_tasks to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/arm_event_bell.sql
-- Asks that the next change written to the event log rings NOTIFY darkroom_events, once. For listeners: arm, read the log, wait,
-- and arm again some 20 ms later. Poll besides: a rollback swallows a ring.
create or replace function public.arm_event_bell()
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform darkroom.refuse_tokens();
  if (select b.last_value from darkroom.event_bell b) <> 2 then
    perform setval('darkroom.event_bell', 2);
  end if;
end
$$;
comment on function public.arm_event_bell is 'Asks for one NOTIFY when the event log next grows.';
revoke all on function public.arm_event_bell from public;
grant execute on function public.arm_event_bell to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/broadcast_task_status_update.sql
-- Trigger on tasks after update or delete for each statement, after insert for each row, so that a row is in the log before anything is done to it (by
-- file_new_task, where constraints are immediate). Appends what was changed to the event log in the same transaction and rings the bell.
-- An event carries the columns that can change, but for what is as in a new task (darkroom.whole_change): nothing, when it is new. The others stand in the row.
create or replace function public.broadcast_task_status_update()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'tasks', 'UPDATE', c.id,
      jsonb_strip_nulls(jsonb_build_object(
        'status', c.status, 'worker_id', c.worker_id, 'attempt', c.attempt, 'failed_attempts', nullif(c.failed_attempts, 0),
        'claimed_at', c.claimed_at, 'run_after', c.run_after, 'output_location', c.output_location, 'thumbnail_url', c.thumbnail_url,
        'error_message', c.error_message, 'generation_created', nullif(c.generation_created, false), 'updated_at', c.updated_at,
        'completed_at', c.completed_at))
      || case when c.progress is null then '{}' else jsonb_build_object('progress', c.progress) end
      || case when c.metadata = '{}' then '{}' else jsonb_build_object('metadata', c.metadata) end
    from changed c;
  elsif tg_op = 'INSERT' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    values (coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), new.owner_id, new.project_id, 'tasks', 'INSERT', new.id, '{}');
  else
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'tasks', 'DELETE', c.id, to_jsonb(c) - 'params' from changed c;
  end if;
  if found and pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function public.broadcast_task_status_update is 'Appends each change of a task to the event log.';
revoke all on function public.broadcast_task_status_update from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/calculate_task_cost.sql
-- What a task would cost now, in credits. Takes what create_task takes: tool_id and input, or task_type and params.
-- Raises TD001, TD002, TD003 and TD004 as create_task does. Anybody may ask; nothing is written.
create or replace function public.calculate_task_cost(
  tool_id text default null, input jsonb default null, task_type text default null, params jsonb default null)
returns numeric
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type public.task_types := darkroom.resolve_task_type(tool_id, task_type);
  v_params jsonb := coalesce(params, input, '{}');
begin
  perform darkroom.check_params(v_type, v_params);
  return darkroom.price_of(v_type, v_params);
end
$$;
comment on function public.calculate_task_cost is 'Price of a task in credits.';
revoke all on function public.calculate_task_cost from public;
grant execute on function public.calculate_task_cost to anon, authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/cancel_task.sql
-- Cancels a Queued or running task, with its tree; what waits for it fails. Holds are released, nothing is charged, and a running
-- worker is told at once and at its next heartbeat. Returns the task; a task that is Cancelled already is returned as it is.
-- Raises TD021 (no such task that the caller may cancel), TD032 (it is Complete or Failed). A worker with a token may cancel what it runs
-- and the tree of an orchestrator that it runs.
create or replace function public.cancel_task(task_id uuid, reason text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid;
  v_task public.tasks;
begin
  select t.owner_id into v_owner from public.tasks t where t.id = cancel_task.task_id;
  if not found or v_owner <> darkroom.caller_owner()
     or auth.token_id() is not null and auth.role() = 'worker' and cancel_task.task_id <> all (darkroom.tasks_of_worker()) then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', cancel_task.task_id);
  end if;
  perform darkroom.lock_owner(v_owner);
  select t.* into v_task from public.tasks t where t.id = cancel_task.task_id for update;
  if not found then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s any more.', cancel_task.task_id);
  elsif v_task.status = 'Cancelled' then
    return v_task;
  elsif v_task.status not in ('Queued', 'In Progress') then
    raise exception 'Task has ended' using errcode = 'TD032',
      detail = format('Task %s is %s.', v_task.id, v_task.status), hint = 'Terminal states are closed: nothing was changed.';
  end if;

  perform darkroom.close_tasks(v_owner, v_task.id, 'Cancelled', left(coalesce(cancel_task.reason, 'Cancelled.'), 4000), 'cancelled');
  select t.* into v_task from public.tasks t where t.id = cancel_task.task_id;
  return v_task;
end
$$;
comment on function public.cancel_task is 'Cancels a task and its tree; nothing is charged.';
revoke all on function public.cancel_task from public;
grant execute on function public.cancel_task to authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/check_completion.sql
-- Where files of a task go that the caller is about to complete, and whether files stored already may be its output: {"folder", "owner_id", "status",
-- "output_location", "thumbnail_url"}; folder is "{owner}/tasks/{task}/{attempt}". The caller holds the task, or held it last and it is Queued again
-- or Complete. storage_paths are keys of our storage; see darkroom.check_output. Decides nothing: complete_task asks all of it again.
-- Raises TD021 (no task that the caller knows of), TD031 (the caller does not hold it, or a file is another attempt's), TD032 (it has ended), TD041 (a file is not the task's).
create or replace function public.check_completion(task_id uuid, storage_paths text[] default '{}')
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(check_completion.task_id);
  v_path text;
begin
  if not darkroom.holds_task(v_task, true) then
    perform darkroom.refuse_hold(v_task, null, null);
  end if;
  if v_task.status <> 'Complete' then
    foreach v_path in array storage_paths loop
      perform darkroom.check_output(v_task, v_path, v_task.attempt);
    end loop;
  end if;
  return jsonb_build_object('folder', format('%s/tasks/%s/%s', v_task.owner_id, v_task.id, v_task.attempt), 'owner_id', v_task.owner_id,
    'status', v_task.status, 'output_location', v_task.output_location, 'thumbnail_url', v_task.thumbnail_url);
end
$$;
comment on function public.check_completion is 'Where files of a task go that the caller holds.';
revoke all on function public.check_completion from public;
grant execute on function public.check_completion to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/claim_for_silent_worker.sql
-- claim_next_task for a worker that never registers: it is made known by its first claim, serves wan2gp, and may be silent for 30 minutes. One
-- that sent heartbeats (func_worker_heartbeat_with_logs) and stopped gets those 30 minutes back. Returns a row, or none: nothing to do.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041, TD050. Writes workers and what claim_next_tasks writes.
create or replace function public.claim_for_silent_worker(worker_id text)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id text := darkroom.meet_worker(claim_for_silent_worker.worker_id);
begin
  update public.workers w set lease_timeout = interval '30 minutes', info = w.info - 'silent_lease'
  where w.id = v_id and w.info ? 'silent_lease' and w.last_heartbeat < clock_timestamp() - w.lease_timeout;
  return query select t.* from public.claim_next_tasks(claim_for_silent_worker.worker_id, 1) t;
end
$$;
comment on function public.claim_for_silent_worker is 'Claims for a worker that never registers.';
revoke all on function public.claim_for_silent_worker from public;
grant execute on function public.claim_for_silent_worker to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/claim_next_task.sql
-- Hands this worker the oldest task it may run, In Progress; no row when there is none. See claim_next_tasks.
create or replace function public.claim_next_task(worker_id text)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_worker text := darkroom.caller_worker(claim_next_task.worker_id);
  v_task public.tasks;
begin
  v_task := darkroom.claim_one(v_worker, darkroom.caller_owner(), darkroom.wanted_types(v_worker, claim_next_task.worker_id, null));
  if v_task.id is not null then
    return next v_task;
  end if;
end
$$;
comment on function public.claim_next_task is 'Hands a worker its next task, oldest first, and holds its cost.';
revoke all on function public.claim_next_task from public;
grant execute on function public.claim_next_task to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/claim_next_tasks.sql
-- Hands this worker up to max_tasks tasks, oldest first, and returns them In Progress, each with its attempt number: the fence
-- that heartbeat, progress, completion, failure and release must carry. No row: nothing this worker may run can be claimed now.
--
-- A task is handed out when it is Queued, what it waits for is Complete, its type is one the worker runs, and its owner's
-- available credits cover its cost; then the cost is held. Among those the oldest is taken, but for what another claim has
-- locked at that moment. A batch may hold less than max_tasks although more could be claimed (a busy owner's): ask again.
--
-- task_types: the only types wanted now, of those the worker registered, such as those it has a free slot for; null: all of them.
-- A worker that finds none of them is woken by the next task of any type.
--
-- A worker with a user's token gets only tasks of that user.
--
-- The queue is a hint (darkroom.task_ready), the row is the truth: all is decided again under the owner's lock. It waits for that
-- lock 250 ms at most, and only while it holds no other; then it takes somebody else's task.
-- Raises TD003 (max_tasks), TD022 (unknown worker), TD050 (isolation). Workers may call it.
create or replace function public.claim_next_tasks(worker_id text, max_tasks integer default 1, task_types text[] default null)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_owner_only uuid := darkroom.caller_owner();
  v_worker text := darkroom.caller_worker(claim_next_tasks.worker_id);
  -- While a lane has a backlog, its window holds 8 rows or more (refill_lane): a round that ends with the eighth of a lane is in exact order.
  c_lane constant integer := 8;
  c_round constant integer := 100;
  v_types text[];
  v_one public.tasks;
  v_want integer;
  v_seen integer;
  v_refilled boolean;
  v_total integer := 0;
  v_mark timestamptz;
  v_head record;
  v_found darkroom.task_ready[];
  v_picked darkroom.task_ready[];
  v_busy uuid[] := array[]::uuid[];      -- owners whose lock could not be had
  v_locked uuid[] := array[]::uuid[];    -- owners whose lock we hold
  v_owner uuid;
  v_count integer := 0;
  v_armed boolean := false;
  v_lane darkroom.task_ready;
begin
  -- guard
  if max_tasks is null or max_tasks not between 1 and 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_tasks must be 1 to 1000.';
  end if;
  v_types := darkroom.wanted_types(v_worker, claim_next_tasks.worker_id, claim_next_tasks.task_types);
  if max_tasks = 1 then
    v_one := darkroom.claim_one(v_worker, v_owner_only, v_types);
    if v_one.id is not null then
      return next v_one;
    end if;
    return;
  end if;

  loop
    -- pick and lock the oldest ready rows: types in the order of their heads, each only as far as it can beat what is picked
    v_want := least(c_round, max_tasks - v_total);
    v_mark := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
    v_picked := '{}';
    if v_owner_only is not null then
      select coalesce(array_agg(l.r), '{}') into v_picked
      from (select r from darkroom.task_ready r
            where r.owner_id = v_owner_only and r.task_type = any (v_types) and not r.parked and r.owner_id <> all (v_busy)
            order by r.created_at, r.job_no limit v_want
            for update skip locked) l;
    else
      for v_head in
        select ty.name, h.created_at, h.job_no
        from unnest(v_types) as ty (name)
        cross join lateral (select r.created_at, r.job_no from darkroom.task_ready r
                            where r.task_type = ty.name and not r.parked and r.created_at >= v_mark and r.owner_id <> all (v_busy)
                            order by r.created_at, r.job_no limit 1) h
        order by h.created_at, h.job_no
      loop
        exit when cardinality(v_picked) = v_want
          and (v_head.created_at, v_head.job_no) > (v_picked[v_want].created_at, v_picked[v_want].job_no);
        select array_agg(l.r) into v_found
        from (select r from darkroom.task_ready r
              where r.task_type = v_head.name and not r.parked and (r.created_at, r.job_no) >= (v_head.created_at, v_head.job_no) and r.owner_id <> all (v_busy)
              order by r.created_at, r.job_no limit v_want
              for update skip locked) l;
        if cardinality(v_picked) = 0 then
          v_picked := coalesce(v_found, '{}');
        else
          select array_agg(m.r) into v_picked
          from (select f as r from unnest(v_picked || v_found) f order by f.created_at, f.job_no limit v_want) m;
        end if;
      end loop;
    end if;

    v_seen := cardinality(v_picked);
    if cardinality(v_picked) > c_lane then
      select array_agg(c.r order by c.place) into v_picked
      from (select n.r, n.place, max(n.nth) over (order by n.place rows between unbounded preceding and 1 preceding) as before
            from (select p as r, row_number() over (order by p.created_at, p.job_no) as place,
                    row_number() over (partition by p.owner_id, p.task_type, p.cost order by p.created_at, p.job_no) as nth
                  from unnest(v_picked) p) n) c
      where coalesce(c.before, 0) < c_lane;
    end if;

    if cardinality(v_picked) = 0 then
      -- Nothing there. Ask to be woken, then look once more: what came in between has rung no bell.
      exit when v_armed or v_total > 0;
      v_armed := true;
      if (select b.last_value from darkroom.worker_bell b) <> 2 then
        perform setval('darkroom.worker_bell', 2);
      end if;
      continue;
    end if;

    -- lock the owners
    for v_owner in
      select p.owner_id from unnest(v_picked) p where p.owner_id <> all (v_locked) group by p.owner_id
      order by min(p.created_at), p.owner_id
    loop
      if darkroom.lock_owner(v_owner, cardinality(v_locked) = 0, '250ms') then
        v_locked := v_locked || v_owner;
      else
        v_busy := v_busy || v_owner;
      end if;
    end loop;

    -- claim: what its owner can pay in order of age, if the row says that it can run; hold its cost; take it out of the queue
    return query
    with mine as (
      select p.*, sum(p.cost) over (partition by p.owner_id order by p.created_at, p.job_no) as upto
      from unnest(v_picked) p
      where p.owner_id = any (v_locked)
    ), accounts as (
      select o.owner_id, a.seq, a.balance_after, a.held_after
      from (select distinct m.owner_id from mine m where m.cost > 0) o
      cross join lateral (select l.* from public.credit_ledger l where l.owner_id = o.owner_id order by l.seq desc limit 1) a
    ), claimed as (
      update public.tasks t
      set status = 'In Progress', worker_id = v_worker, claimed_at = clock_timestamp(), attempt = t.attempt + 1,
          progress = null, run_after = null, updated_at = clock_timestamp()
      from mine m left join accounts a on a.owner_id = m.owner_id
      where t.id = m.task_id and (t.status = 'Queued') is true and (m.cost = 0 or m.upto <= a.balance_after - a.held_after)
        and (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) = (m.owner_id, m.task_type, m.cost, m.created_at, m.job_no)
        and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete'))
      returning t.*
    ), holds as (
      insert into public.credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
      select c.owner_id, a.seq + row_number() over w, 'hold', c.cost, a.balance_after, a.held_after + sum(c.cost) over w, c.id, c.attempt
      from claimed c join accounts a on a.owner_id = c.owner_id
      where c.cost > 0
      window w as (partition by c.owner_id order by c.created_at, c.job_no)
    ), gone as (
      delete from darkroom.task_ready r using claimed c
      where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (c.owner_id, c.task_type, c.cost, c.created_at, c.job_no)
    )
    select c.* from claimed c order by c.created_at, c.job_no;
    get diagnostics v_count = row_count;

    -- what could not be claimed
    if v_count < cardinality(v_picked) then
      perform darkroom.set_aside(p) from unnest(v_picked) p
      where p.owner_id = any (v_locked) and exists (
        select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p.owner_id, p.task_type, p.cost, p.created_at, p.job_no));
    end if;

    -- refill the lanes that rows have left
    v_refilled := false;
    for v_lane in
      select distinct on (p.owner_id, p.task_type, p.cost) p.* from unnest(v_picked) p
      where p.owner_id = any (v_locked) and not exists (
        select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p.owner_id, p.task_type, p.cost, p.created_at, p.job_no))
      order by p.owner_id, p.task_type, p.cost, p.created_at desc, p.job_no desc
    loop
      v_refilled := darkroom.refill_lane(v_lane.owner_id, v_lane.task_type, v_lane.cost, v_lane.created_at, v_lane.job_no, false) or v_refilled;
    end loop;

    v_total := v_total + v_count;
    exit when v_total >= max_tasks or v_seen < v_want and v_count = v_seen and not v_refilled;  -- that was all
  end loop;
end
$$;
comment on function public.claim_next_tasks is 'Hands a worker its next tasks, oldest first, and holds their cost.';
revoke all on function public.claim_next_tasks from public;
grant execute on function public.claim_next_tasks to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/complete_task.sql
-- Completes a running task in one transaction: status, output, the hold settled, the generation and its shot link (by the trigger
-- create_generation_on_task_complete), what waited for it, its orchestrator, the events. Returns the task.
--
-- worker_id and attempt are the fence, as the claim gave them. Without them the present holder is meant: only for callers that
-- cannot know them. If the task was queued again and nobody has it, that is who held it last: its late result counts, as an attempt of its own.
-- A repeat by the same attempt answers as the first did and changes nothing.
-- With a token, or without the fence, an output in our own storage must be the task's: see darkroom.check_output. metadata is added to what is there.
-- Raises TD003 (metadata is no object), TD006 (no output_location), TD010 (a late result that the owner cannot pay any more), TD021 (no such
-- task), TD031 (lease lost) and TD032 (it has ended otherwise), TD041 (somebody else's file).
-- Writes tasks, task_attempts, credit_ledger, generations, shot_generations, the queue.
create or replace function public.complete_task(
  task_id uuid, output_location text, worker_id text default null, attempt integer default null,
  metadata jsonb default '{}', thumbnail_url text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  c_ours constant text := '/storage/v1/object/public/image_uploads/';
  v_token uuid := darkroom.caller_token();
  v_unfenced boolean := complete_task.worker_id is null and complete_task.attempt is null;
  v_worker text := complete_task.worker_id;
  v_attempt integer := complete_task.attempt;
  v_caller uuid := darkroom.caller_owner();
  v_revived boolean := false;
  v_before public.tasks;
  v_task public.tasks;
  v_url text;
  v_ignored boolean;
begin
  -- guard
  if jsonb_typeof(coalesce(complete_task.metadata, '{}')) <> 'object' or octet_length(complete_task.metadata::text) > 65536 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'metadata must be a JSON object of up to 64 kB.';
  end if;
  if coalesce(btrim(complete_task.output_location), '') = '' then
    raise exception 'Missing output' using errcode = 'TD006',
      detail = 'A task is complete only with an output_location.', hint = 'Send output_location, or call fail_task.';
  end if;

  -- lock
  if v_unfenced or v_token is not null then
    if v_unfenced then
      v_revived := darkroom.revive_task(complete_task.task_id);
    end if;
    v_before := darkroom.lock_held_task(complete_task.task_id, complete_task.worker_id, complete_task.attempt, 'complete');
    if v_before.status = 'In Progress' then
      foreach v_url in array array[complete_task.output_location, complete_task.thumbnail_url] loop
        if strpos(v_url, c_ours) > 0 then
          perform darkroom.check_output(v_before, v_url, v_before.attempt - v_revived::integer);
        end if;
      end loop;
    end if;
    v_worker := v_before.worker_id;
    v_attempt := v_before.attempt;
  end if;

  -- write, if the fence lets it through; the owner's lock comes before the row's
  update public.tasks t
  set status = 'Complete', output_location = complete_task.output_location, thumbnail_url = complete_task.thumbnail_url,
      metadata = t.metadata || coalesce(complete_task.metadata, '{}'), error_message = null, completed_at = clock_timestamp(), updated_at = clock_timestamp()
  where t.id = complete_task.task_id and (t.status = 'In Progress') is true
    and t.worker_id = coalesce(v_worker, t.worker_id) and t.attempt = coalesce(v_attempt, t.attempt)
    and t.owner_id = coalesce(v_caller, t.owner_id) and darkroom.lock_owner(t.owner_id)
  returning t.* into v_task;
  if not found then
    v_before := darkroom.lock_held_task(complete_task.task_id, complete_task.worker_id, complete_task.attempt, 'complete');
    if complete_task.attempt is null and v_before.output_location is distinct from complete_task.output_location then
      raise exception 'Task has ended' using errcode = 'TD032',
        detail = format('Task %s is Complete with another output.', v_before.id), hint = 'Terminal states are closed: nothing was changed.';
    end if;
    return v_before;  -- a repeat
  end if;

  v_ignored := darkroom.end_attempt(v_task, 'complete');
  if exists (select from darkroom.task_deps d where d.dep_id = v_task.id) then
    perform darkroom.release_dependents(v_task.id);
  end if;
  if v_task.orchestrator_task_id is not null then
    perform darkroom.finish_orchestrator(v_task);
  end if;
  return v_task;
end
$$;
comment on function public.complete_task is 'Completes a running task: output, credits, generation and events in one transaction.';
revoke all on function public.complete_task from public;
grant execute on function public.complete_task to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/complete_tasks.sql
-- Completes several tasks of one worker; one that is refused does not touch the others. Returns a row per task, in the order
-- given, with its status then, or the code and message of the refusal. Owners are locked in the order of their ids.
-- Raises TD003 for more than 1,000 at once. Writes what complete_task writes.
--
-- What the fence lets through is completed together, which costs a fraction of one by one, and so are its generations made; where that is refused, the trigger
-- create_generation_on_task_complete makes each by itself. The rest, and all for callers with a token, by complete_task.
create or replace function public.complete_tasks(worker_id text, completions public.completion[])
returns setof public.completion_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_owner uuid;
  v_task public.tasks;
  v_one record;
  v_done uuid[];
  v_done_places bigint[];
  v_ignored boolean;
  v_rest_places bigint[] := array[]::bigint[];
  v_rest public.completion_result[] := array[]::public.completion_result[];
begin
  if cardinality(completions) > 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'Up to 1000 tasks can be completed at once.';
  end if;

  if complete_tasks.worker_id is not null and darkroom.caller_token() is null then
    -- lock
    for v_owner in
      select distinct t.owner_id from unnest(completions) c join public.tasks t on t.id = c.task_id
      where t.owner_id = coalesce(v_caller, t.owner_id)
      order by t.owner_id
    loop
      v_ignored := darkroom.lock_owner(v_owner);
    end loop;

    -- write, what the fence lets through
    begin
      with wanted as (
        select distinct on (c.task_id) c.* from unnest(completions) with ordinality as c (task_id, attempt, output_location, metadata, thumbnail_url, place)
        where btrim(c.output_location) <> '' and jsonb_typeof(coalesce(c.metadata, '{}')) = 'object' and octet_length(coalesce(c.metadata, '{}')::text) <= 65536
        order by c.task_id, c.place
      ), done as (
        update public.tasks t
        set status = 'Complete', output_location = w.output_location, thumbnail_url = w.thumbnail_url,
            metadata = t.metadata || coalesce(w.metadata, '{}'), error_message = null, completed_at = clock_timestamp(), updated_at = clock_timestamp(),
            generation_created = ty.result_type is not null
        from wanted w, public.task_types ty
        where t.id = w.task_id and ty.name = t.task_type and (t.status = 'In Progress') is true and t.worker_id = complete_tasks.worker_id and t.attempt = coalesce(w.attempt, t.attempt)
          and t.owner_id = coalesce(v_caller, t.owner_id)
        returning w.place, t.id, t.owner_id, t.attempt, t.worker_id, t.claimed_at, t.cost
      ), attempts as (
        insert into public.task_attempts (owner_id, task_id, attempt, worker_id, claimed_at, outcome)
        select d.owner_id, d.id, d.attempt, d.worker_id, d.claimed_at, 'complete' from done d
      ), accounts as (
        select o.owner_id, a.seq, a.balance_after, a.held_after
        from (select distinct d.owner_id from done d where d.cost > 0) o
        cross join lateral (select l.* from public.credit_ledger l where l.owner_id = o.owner_id order by l.seq desc limit 1) a
      ), settles as (
        insert into public.credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
        select d.owner_id, a.seq + row_number() over w, 'settle', d.cost, a.balance_after - sum(d.cost) over w, a.held_after - sum(d.cost) over w, d.id, d.attempt
        from done d join accounts a on a.owner_id = d.owner_id
        where d.cost > 0
        window w as (partition by d.owner_id order by d.place)
      )
      select array_agg(d.id), array_agg(d.place) into v_done, v_done_places from done d;
      -- as create_generation_on_task_complete does for each whose flag is not set
      perform darkroom.insert_generations(array_agg(t), array_agg(ty.result_type), array_agg(darkroom.find_shot(t, ty.shot_id_paths)))
      from public.tasks t join public.task_types ty on ty.name = t.task_type where t.id = any (v_done) and t.generation_created;
    exception when integrity_constraint_violation or data_exception or raise_exception then
      v_done := null;  -- one of them is at fault: each on its own
      v_done_places := null;
    end;

    for v_task in
      select t.* from public.tasks t
      where t.id = any (v_done) and (t.orchestrator_task_id is not null or exists (select from darkroom.task_deps o where o.dep_id = t.id))
      order by t.owner_id, t.created_at, t.job_no
    loop
      perform darkroom.release_dependents(v_task.id);
      if v_task.orchestrator_task_id is not null then
        perform darkroom.finish_orchestrator(v_task);
      end if;
    end loop;
  end if;

  -- the rest: repeats, refusals
  for v_one in
    select c.* from unnest(completions) with ordinality as c (task_id, attempt, output_location, metadata, thumbnail_url, place)
    left join public.tasks t on t.id = c.task_id
    where c.place <> all (coalesce(v_done_places, '{}'))
    order by t.owner_id, c.place
  loop
    v_rest_places := v_rest_places || v_one.place;
    begin
      v_task := public.complete_task(v_one.task_id, v_one.output_location, complete_tasks.worker_id, v_one.attempt, v_one.metadata,
                                     v_one.thumbnail_url);
      v_rest := v_rest || row(v_one.task_id, v_task.status, null, null)::public.completion_result;
    exception when sqlstate 'TD003' or sqlstate 'TD006' or sqlstate 'TD021' or sqlstate 'TD031' or sqlstate 'TD032' then
      v_rest := v_rest || row(v_one.task_id, null, sqlstate, sqlerrm)::public.completion_result;
    end;
  end loop;

  return query
  select a.task_id, a.status, a.error_code, a.error_message
  from (
    select d.task_id, 'Complete'::text as status, null::text as error_code, null::text as error_message, d.place
    from unnest(v_done, v_done_places) as d (task_id, place)
    union all
    select r.task_id, r.status, r.error_code, r.error_message, r.place
    from unnest(v_rest, v_rest_places) as r (task_id, status, error_code, error_message, place)
  ) a
  order by a.place;
end
$$;
comment on function public.complete_tasks is 'Completes several tasks of one worker, each on its own.';
revoke all on function public.complete_tasks from public;
grant execute on function public.complete_tasks to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_access_token.sql
-- Makes a personal access token and returns it. `token` is shown this once: only its hash is kept.
-- scope: 'worker' runs tasks of that user ("my own GPU"); 'user' acts as the user. user_id: null for the caller; the service names
-- any user, or with scope 'worker' and null nobody: that worker runs everybody's tasks. expires_in: null for no end.
-- Raises TD003 (scope, label over 200 characters, or a time that is not ahead; or over 100 tokens), TD025 (no such user), TD040, TD041.
create or replace function public.create_access_token(
  scope text, label text default '', expires_in interval default null, user_id uuid default null)
returns public.new_access_token
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 100;
  v_caller uuid := darkroom.caller_owner();
  v_owner uuid := coalesce(create_access_token.user_id, v_caller);
  -- 244 random bits of PostgreSQL's strong generator.
  v_secret text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  v_token darkroom.access_tokens;
begin
  if auth.token_id() is not null then
    raise exception 'Not allowed' using errcode = 'TD041', detail = 'A token cannot make tokens.', hint = 'Sign in with a password.';
  elsif coalesce(create_access_token.scope, '') not in ('worker', 'user') or length(create_access_token.label) > 200
     or create_access_token.expires_in <= interval '0' or (v_owner is null and create_access_token.scope <> 'worker') then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = 'scope must be worker or user, label short, expires_in ahead, and a token of scope user needs a user.';
  elsif v_caller <> v_owner then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_owner);
  elsif v_caller is not null then
    perform darkroom.ensure_user(v_caller);
  elsif v_owner is not null and not exists (select from public.users u where u.id = v_owner) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_owner);
  end if;
  if v_owner is not null then
    perform darkroom.lock_owner(v_owner);
    if (select count(*) from darkroom.access_tokens t
        where t.owner_id = v_owner and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp())) >= c_most then
      raise exception 'Invalid params' using errcode = 'TD003', detail = format('A user may have up to %s tokens.', c_most),
        hint = 'Revoke those that are not used.';
    end if;
  end if;

  v_secret := 'dr_' || create_access_token.scope || '_' || v_secret;
  insert into darkroom.access_tokens as t (owner_id, scope, label, prefix, hash, expires_at)
  values (v_owner, create_access_token.scope, coalesce(create_access_token.label, ''), left(v_secret, length(create_access_token.scope) + 12),
          sha256(convert_to(v_secret, 'UTF8')), clock_timestamp() + create_access_token.expires_in)
  returning t.* into v_token;
  return (v_token.id, v_secret, v_token.scope, v_token.label, v_token.expires_at)::public.new_access_token;
end
$$;
comment on function public.create_access_token is 'Makes a personal access token, shown once.';
revoke all on function public.create_access_token from public;
grant execute on function public.create_access_token to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_generation_on_task_complete.sql
-- Trigger before update on tasks, when status is Complete and generation_created is false: makes the generation of a
-- finished task, links it to its shot, and sets generation_created. BEFORE, so that the flag is part of the same row version;
-- gated on the flag and not on a change of status, so that UPDATE tasks SET status = status repairs a task whose generation failed.
-- (A task is always inserted as Queued: prepare_task.)
--
-- Only types with a result_type make one (single_image an image, travel_stitch a video). Missing output_location: skipped, and made
-- when it is set. A shot id that is no uuid, unknown, or of another project: a generation without link. What the insert violates is
-- recorded in generation_errors and logged, and never fails the update. One per task: unique source_task_id.
create or replace function public.create_generation_on_task_complete()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type record;
  v_shot uuid;
  v_state text;
  v_message text;
  v_ignored bigint;
begin
  select ty.result_type, ty.shot_id_paths into v_type from public.task_types ty where ty.name = new.task_type;
  if v_type.result_type is null or coalesce(btrim(new.output_location), '') = '' then
    return new;
  end if;
  v_shot := darkroom.find_shot(new, v_type.shot_id_paths);

  begin
    v_ignored := darkroom.insert_generations(array[new], array[v_type.result_type], array[v_shot]);
    new.generation_created := true;
    return new;
  exception when integrity_constraint_violation or data_exception or raise_exception or sqlstate 'TD020' or sqlstate 'TD024' then
    v_state := sqlstate;
    v_message := sqlerrm;
  end;

  -- If only the link was refused, the generation is good without it.
  begin
    v_ignored := darkroom.insert_generations(array[new], array[v_type.result_type], array[null::uuid]);
    new.generation_created := true;
  exception when integrity_constraint_violation or data_exception or raise_exception or sqlstate 'TD020' or sqlstate 'TD024' then
    if (sqlstate, sqlerrm) <> (v_state, v_message) then
      perform darkroom.log_generation_error(new, 'shot_link', v_state, v_message);
    end if;
    perform darkroom.log_generation_error(new, 'generation', sqlstate, sqlerrm);
    return new;
  end;
  perform darkroom.log_generation_error(new, 'shot_link', v_state, v_message);
  return new;
end
$$;
comment on function public.create_generation_on_task_complete is 'Makes exactly one generation of a finished task, and links it to its shot.';
revoke all on function public.create_generation_on_task_complete from public;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_project.sql
-- Makes a project of a user, by default the caller's, and returns it. Raises TD025 (no such user, or not the caller), TD040.
create or replace function public.create_project(user_id uuid default null, name text default '')
returns public.projects
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_owner uuid := coalesce(create_project.user_id, v_caller);
  v_project public.projects;
begin
  if v_caller = v_owner then
    perform darkroom.ensure_user(v_caller);
  elsif v_owner is null or v_caller is not null or not exists (select from public.users u where u.id = v_owner) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_owner);
  end if;
  insert into public.projects as p (owner_id, name) values (v_owner, left(coalesce(create_project.name, ''), 200))
  returning p.* into v_project;
  return v_project;
end
$$;
comment on function public.create_project is 'Makes a project of a user.';
revoke all on function public.create_project from public;
grant execute on function public.create_project to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_shot.sql
-- Makes a shot in a project and returns it. Raises TD020 (no such project of the caller's), TD040.
create or replace function public.create_shot(project_id uuid, name text default '')
returns public.shots
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_shot public.shots;
begin
  if not exists (select from public.projects p where p.id = create_shot.project_id and p.owner_id = coalesce(v_caller, p.owner_id)) then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', create_shot.project_id);
  end if;
  insert into public.shots as s (project_id, name) values (create_shot.project_id, left(coalesce(create_shot.name, ''), 200))
  returning s.* into v_shot;
  return v_shot;
end
$$;
comment on function public.create_shot is 'Makes a shot in a project.';
revoke all on function public.create_shot from public;
grant execute on function public.create_shot to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_task.sql
-- Creates one task, Queued, and returns it. Takes the spec's {project_id, tool_id, input} or the worker's
-- {task_id, project_id, task_type, params, dependant_on}; both may be mixed. It is filed for claiming at COMMIT.
--
-- Idempotent: the same task_id or idempotency_key with the same body returns the task that is there; with another body TD030.
-- Raises TD001 missing fields, TD002 unknown type, TD003 invalid params, TD004 too large or deep, TD010 insufficient credits,
-- TD020 no such project of the caller's, TD023 invalid dependency, TD032 its orchestrator has ended, TD040 and TD041 (see
-- darkroom.prepare_task).
-- One transaction creates for one owner, or in order of owner ids. Writes tasks (and at commit the queue).
create or replace function public.create_task(
  project_id uuid, tool_id text default null, input jsonb default null, task_id uuid default null, task_type text default null,
  params jsonb default null, dependant_on uuid[] default null, idempotency_key text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid;
  v_type public.task_types;
  v_params jsonb := coalesce(create_task.params, create_task.input);
  v_deps uuid[] := nullif(create_task.dependant_on, '{}');
  v_task public.tasks;
begin
  if create_task.project_id is null then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'project_id is missing.';
  elsif length(create_task.idempotency_key) not between 1 and 200 then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'idempotency_key must have 1 to 200 characters.';
  end if;

  -- Without id and key it is no repeat.
  if create_task.task_id is null and create_task.idempotency_key is null then
    insert into public.tasks as t (project_id, tool_id, task_type, params, dependant_on)
    values (create_task.project_id, create_task.tool_id, create_task.task_type, v_params, v_deps)
    returning t.* into v_task;
    return v_task;
  end if;

  v_caller := darkroom.caller_owner();
  v_type := darkroom.resolve_task_type(create_task.tool_id, create_task.task_type);
  if not exists (select from public.projects p where p.id = create_task.project_id and p.owner_id = coalesce(v_caller, p.owner_id)) then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', create_task.project_id);
  end if;

  -- A repeat is answered before prices and credits are looked at: they may have changed since.
  select t.* into v_task from public.tasks t where t.id = create_task.task_id;
  if not found and create_task.idempotency_key is not null then
    select t.* into v_task from public.tasks t
    join public.projects p on p.owner_id = t.owner_id
    where p.id = create_task.project_id and t.idempotency_key = create_task.idempotency_key;
  end if;

  if v_task.id is null then
    insert into public.tasks as t (id, project_id, tool_id, task_type, params, dependant_on, idempotency_key)
    values (create_task.task_id, create_task.project_id, create_task.tool_id, v_type.name, v_params,
            v_deps, create_task.idempotency_key)
    on conflict do nothing
    returning t.* into v_task;
    if found then
      return v_task;
    end if;
    -- Somebody committed the same one just now.
    select t.* into v_task from public.tasks t
    where t.id = create_task.task_id
       or t.idempotency_key = create_task.idempotency_key
          and t.owner_id = (select p.owner_id from public.projects p where p.id = create_task.project_id)
    limit 1;
  end if;

  if v_task.project_id <> create_task.project_id or v_task.task_type <> v_type.name or v_task.params is distinct from v_params
     or v_task.dependant_on is distinct from v_deps or v_task.id <> create_task.task_id
     or v_task.idempotency_key is distinct from create_task.idempotency_key then
    raise exception 'Already created with another body' using errcode = 'TD030',
      detail = 'A task with this id or idempotency key exists and differs.', hint = 'Use a new id or key for a new task.';
  end if;
  return v_task;
end
$$;
comment on function public.create_task is 'Creates one task, Queued, after checking it and the credits.';
revoke all on function public.create_task from public;
grant execute on function public.create_task to authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_tasks.sql
-- Creates several tasks in one transaction, all or none, and returns them in the order given. Each is an element of type
-- new_task: the arguments of create_task. A later one may depend on an earlier one by its task_id. All must be of one owner, or
-- given in order of owners. Raises what create_task raises. TD003 for more than 10,000 at once.
create or replace function public.create_tasks(tasks public.new_task[])
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_max constant integer := 10000;
  v_new public.new_task;
begin
  if cardinality(tasks) > c_max then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('Up to %s tasks can be created at once.', c_max);
  end if;

  -- To be filed together. See darkroom.file_new_tasks.
  if cardinality(tasks) > 1 then
    perform set_config('darkroom.filed', '-|0|infinity', true);
  end if;

  -- Without ids and keys none is a repeat: together.
  if not exists (select from unnest(create_tasks.tasks) n where n.project_id is null or n.task_id is not null or n.idempotency_key is not null) then
    return query
    insert into public.tasks as t (project_id, tool_id, task_type, params, dependant_on)
    select n.project_id, n.tool_id, n.task_type, coalesce(n.params, n.input), nullif(n.dependant_on, '{}')
    from unnest(create_tasks.tasks) with ordinality n (project_id, tool_id, input, task_id, task_type, params, dependant_on, idempotency_key, place)
    order by n.place
    returning t.*;
    return;
  end if;
  foreach v_new in array coalesce(tasks, '{}') loop
    return next public.create_task(v_new.project_id, v_new.tool_id, v_new.input, v_new.task_id, v_new.task_type, v_new.params,
                                   v_new.dependant_on, v_new.idempotency_key);
  end loop;
end
$$;
comment on function public.create_tasks is 'Creates several tasks, all or none.';
revoke all on function public.create_tasks from public;
grant execute on function public.create_tasks to authenticated, worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/create_user.sql
-- Makes a user known and returns the row; one that exists is returned as it is.
-- Raises TD080 (that user was erased less than a day ago).
create or replace function public.create_user(user_id uuid default null, email text default null)
returns public.users
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_user public.users;
begin
  insert into public.users as u (id, email) values (coalesce(create_user.user_id, gen_random_uuid()), create_user.email)
  on conflict (id) do nothing
  returning u.* into v_user;
  perform darkroom.refuse_erased(create_user.user_id);
  if v_user.id is null then
    select u.* into v_user from public.users u where u.id = create_user.user_id;
  end if;
  return v_user;
end
$$;
comment on function public.create_user is 'Makes a user known.';
revoke all on function public.create_user from public;
grant execute on function public.create_user to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/due_erasures.sql
-- The erased users whose files are to be deleted now, those who wait longest first: everything in storage below "{user_id}/". No row: none.
-- A user is due at once, and each hour for a day after: a worker that was cut off, or somebody whose token has not expired yet, may store a
-- file late. Whoever has deleted them calls mark_erasure_swept. Writes nothing. Raises TD041 (a worker with a token).
-- Workers and the service may call it.
create or replace function public.due_erasures()
returns setof public.erasure
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform darkroom.refuse_tokens();
  return query
  select e.owner_id, e.requested_at, e.swept_at from darkroom.erasures e
  where e.swept_at is null or e.swept_at < clock_timestamp() - interval '1 hour'
  order by e.requested_at;
end
$$;
comment on function public.due_erasures is 'Erased users whose files are to be deleted now.';
revoke all on function public.due_erasures from public;
grant execute on function public.due_erasures to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/erase_user.sql
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
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/expand_travel_orchestrator.sql
-- Turns a claimed travel_orchestrator into its tree in one transaction: a travel_segment per pair of images, independent of each
-- other, and a travel_stitch that waits for all of them. The children are free: the orchestrator's hold pays. It stays In Progress
-- without a lease while they live, and completes with the stitch. Returns the children; if they exist already, those.
--
-- params.orchestrator_details: input_image_paths_resolved (n+1 locations), num_new_segments_to_generate (n), and optionally
-- segment_frames_expanded [n] (25), frame_overlap_expanded [n-1] (1: the shared image is shown once), base_prompts_expanded [n],
-- negative_prompts_expanded [n], parsed_resolution_wh ("768x512"), fps_helpers (16), seed_base, run_id, shot_id.
-- Raises TD003 (these do not fit together), TD021, TD031, TD032.
create or replace function public.expand_travel_orchestrator(task_id uuid, worker_id text, attempt integer)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
  v_d jsonb;
  v_n integer;
  v_images jsonb;
  v_frames jsonb;
  v_overlaps jsonb;
  v_segments uuid[];
  v_common jsonb;
begin
  v_task := darkroom.lock_held_task(expand_travel_orchestrator.task_id, coalesce(expand_travel_orchestrator.worker_id, ''), coalesce(expand_travel_orchestrator.attempt, 0));
  if v_task.task_type <> 'travel_orchestrator' then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('Task %s is a %s.', v_task.id, v_task.task_type);
  end if;

  if not exists (select from public.tasks c where c.orchestrator_task_id = v_task.id) then
    -- validate
    v_d := v_task.params -> 'orchestrator_details';
    v_n := (v_d ->> 'num_new_segments_to_generate')::integer;
    v_images := v_d -> 'input_image_paths_resolved';
    v_frames := coalesce(v_d -> 'segment_frames_expanded', (select jsonb_agg(25) from generate_series(1, v_n)));
    v_overlaps := coalesce(v_d -> 'frame_overlap_expanded', (select jsonb_agg(1) from generate_series(1, v_n - 1)), '[]');
    perform darkroom.check_travel(v_n, v_images, v_frames, v_overlaps, v_d -> 'seed_base');
    v_common := jsonb_build_object(
      'orchestrator_task_id_ref', v_task.id, 'orchestrator_run_id', coalesce(v_d ->> 'run_id', v_task.id::text), 'project_id', v_task.project_id,
      'parsed_resolution_wh', coalesce(v_d ->> 'parsed_resolution_wh', '768x512'), 'fps_helpers', coalesce(v_d -> 'fps_helpers', '16'),
      'orchestrator_details', v_d || jsonb_build_object('orchestrator_task_id', v_task.id));

    -- write
    with made as (
      insert into public.tasks as t (project_id, task_type, params)
      select v_task.project_id, 'travel_segment', v_common || jsonb_build_object(
        'segment_index', i, 'is_first_segment', i = 0, 'is_last_segment', i = v_n - 1,
        'start_image', v_images -> i, 'end_image', v_images -> (i + 1),
        'base_prompt', coalesce(v_d -> 'base_prompts_expanded' -> i, '""'),
        'negative_prompt', coalesce(v_d -> 'negative_prompts_expanded' -> i, '""'),
        'segment_frames_target', v_frames -> i,
        'frame_overlap_from_previous', case when i = 0 then 0 else (v_overlaps ->> (i - 1))::integer end,
        'seed_to_use', case when jsonb_typeof(v_d -> 'seed_base') = 'number' then (v_d ->> 'seed_base')::numeric else 0 end + i)
      from generate_series(0, v_n - 1) i
      order by i
      returning t.id, t.params
    )
    select array_agg(m.id order by (m.params ->> 'segment_index')::integer) into v_segments from made m;

    insert into public.tasks (project_id, task_type, dependant_on, params)
    values (v_task.project_id, 'travel_stitch', v_segments, v_common || jsonb_build_object(
      'num_total_segments_generated', v_n, 'frame_overlap_settings_expanded', v_overlaps,
      -- what the spec's trigger reads there; the whole of it stands in orchestrator_details already
      'full_orchestrator_payload', jsonb_build_object('shot_id', v_d -> 'shot_id', 'thumbnail_url', v_d -> 'thumbnail_url')));
  end if;

  return query select c.* from public.tasks c where c.orchestrator_task_id = v_task.id order by c.created_at, c.job_no;
end
$$;
comment on function public.expand_travel_orchestrator is 'Makes the segments and the stitch of a claimed travel_orchestrator.';
revoke all on function public.expand_travel_orchestrator from public;
grant execute on function public.expand_travel_orchestrator to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/explain_task.sql
-- Why a task is not running, or how it is: in reasons, [{"code", "message", "detail"}], the most important first. The codes stand in sql/README.md; match them, messages
-- are for people and may change. Empty when a Queued task waits for nothing: it goes to the next claim.
--
-- runnable: a claim may hand it out when its turn comes. It is Queued and filed, what it waits for is Complete, and its owner can pay it now.
-- queue_position: of a runnable task, its turn with the worker that comes to it first: 1 is what that worker's next claim gives. Tasks that their owners cannot pay
-- do not count. Counted up to 1000; 1001 says: more than 1000 come before it (behind_others, more).
-- expected_start: an estimate, see darkroom.expected_wait: now where a slot is free for it, else by how long tasks of these types took lately; of a retry the end of
-- its pause. Null when it is not known: no worker is alive, nothing like it has run yet, something else than its turn keeps it, too many are before it.
--
-- It is asked what a claim asks at this moment, in one snapshot; claims that are under way count as not yet made. Reads only; bounded, however long the queue is.
-- Raises TD021 (no such task of the caller's), TD040.
create or replace function public.explain_task(task_id uuid)
returns public.task_explanation
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- Planned for any size of the tables, as the claim.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_task public.tasks := public.get_task(explain_task.task_id);
begin
  if v_task.status = 'Queued' then
    return darkroom.explain_queued(v_task);
  end if;
  return (v_task.id, v_task.status, false,
          case v_task.status when 'In Progress' then darkroom.explain_running(v_task) else darkroom.explain_ended(v_task) end,
          null, null)::public.task_explanation;
end
$$;
comment on function public.explain_task is 'Why a task is not running, its place in the queue, and when it may start.';
revoke all on function public.explain_task from public;
grant execute on function public.explain_task to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/fail_task.sql
-- Ends a running attempt as failed, with the reason: the task is Failed, its hold released, and what waits for it or stands in its
-- tree fails too. With retryable it is Queued again instead while attempts are left (task_types.max_attempts), after a pause that
-- doubles from 1 s to 60 s. Returns the task. A repeat by the same attempt answers as the first did.
-- worker_id and attempt are the fence, as for complete_task. Raises TD021, TD031, TD032. Writes what complete_task writes.
create or replace function public.fail_task(
  task_id uuid, error_message text, worker_id text default null, attempt integer default null, retryable boolean default false,
  retry_delay interval default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_max_delay constant interval := interval '1 hour';
  v_error text := left(coalesce(nullif(btrim(fail_task.error_message), ''), 'The worker gave no reason.'), 4000);
  v_task public.tasks;
begin
  v_task := darkroom.lock_held_task(fail_task.task_id, fail_task.worker_id, fail_task.attempt, 'failed');
  if v_task.status <> 'In Progress' then
    return v_task;
  end if;
  if fail_task.retryable then
    return darkroom.requeue_task(v_task, 'failed', v_error,
      least(coalesce(fail_task.retry_delay, interval '1 second' * least(60, 2 ^ v_task.failed_attempts)), c_max_delay));
  end if;

  perform darkroom.close_tasks(v_task.owner_id, v_task.id, 'Failed', v_error, 'failed');
  select t.* into v_task from public.tasks t where t.id = fail_task.task_id;
  return v_task;
end
$$;
comment on function public.fail_task is 'Ends a running attempt as failed; Queued again only where the worker calls it retryable.';
revoke all on function public.fail_task from public;
grant execute on function public.fail_task to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/func_worker_heartbeat_with_logs.sql
-- The heartbeat of Headless-Wan2GP, by the name and parameters that it calls: says that a worker is alive and holds all that it runs. Returns
-- {"success": true, "worker_id", "requeued", "dropped_logs"}. A worker that is not known is made known, as by its first claim. While heartbeats come, one every 20 s, its tasks
-- are held for 90 s of silence. status_param 'crashed' says that its process is gone: what it held is queued again at once.
--
-- The log is not stored: it may speak of anybody's prompts, and what matters of a failure comes with the failure. Nothing in it is an error here.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041. Writes workers, and for 'crashed' the tasks it held.
create or replace function public.func_worker_heartbeat_with_logs(
  worker_id_param text, vram_total_mb_param numeric default null, vram_used_mb_param numeric default null, logs_param jsonb default null,
  status_param text default 'active')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id text := darkroom.meet_worker(worker_id_param);
  v_requeued integer := 0;
begin
  update public.workers w
  set last_heartbeat = clock_timestamp(), running = null, lease_timeout = least(w.lease_timeout, interval '90 seconds'),
      info = case when jsonb_typeof(w.info) = 'object' then w.info else '{}' end
        || jsonb_build_object('vram_total_mb', vram_total_mb_param, 'vram_used_mb', vram_used_mb_param, 'status', left(status_param, 40))
        || case when w.lease_timeout > interval '90 seconds' then '{"silent_lease": true}'::jsonb else '{}' end
  where w.id = v_id;
  if status_param = 'crashed' then
    v_requeued := darkroom.lose_tasks(v_id, format('Worker %s crashed.', worker_id_param));
  end if;
  return jsonb_build_object('success', true, 'worker_id', worker_id_param, 'requeued', v_requeued,
    'dropped_logs', case when jsonb_typeof(logs_param) = 'array' then jsonb_array_length(logs_param) else 0 end);
end
$$;
comment on function public.func_worker_heartbeat_with_logs is 'The heartbeat of Headless-Wan2GP.';
revoke all on function public.func_worker_heartbeat_with_logs from public;
grant execute on function public.func_worker_heartbeat_with_logs to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_completed_segments.sql
-- The finished segments of a run, [{"segment_index", "output_location"}] in the order of their creation, of the trees in which the caller runs a task:
-- the stitch, a segment or the orchestrator. Empty when there is none. project_id narrows it further. Raises TD001 (no run), TD041.
create or replace function public.get_completed_segments(run_id text, project_id uuid default null)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_token uuid := darkroom.caller_token();
  v_owner uuid := darkroom.caller_owner();
begin
  if get_completed_segments.run_id is null then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'run_id is missing.';
  end if;
  return (
    with trees as (
      select distinct coalesce(t.orchestrator_task_id, t.id) as id from public.tasks t
      where t.status = 'In Progress' and (v_owner is null or t.owner_id = v_owner)
        and (v_token is null or t.worker_id in (select w.id from public.workers w where w.token_id = v_token))
    )
    select coalesce(jsonb_agg(jsonb_build_object('segment_index', s.params -> 'segment_index', 'output_location', s.output_location)
                              order by s.created_at, s.job_no), '[]')
    from trees r join public.tasks s on s.orchestrator_task_id = r.id
    where s.task_type = 'travel_segment' and s.status = 'Complete' and s.params ->> 'orchestrator_run_id' = get_completed_segments.run_id
      and (get_completed_segments.project_id is null or s.project_id = get_completed_segments.project_id));
end
$$;
comment on function public.get_completed_segments is 'Finished segments of a run that the caller works on.';
revoke all on function public.get_completed_segments from public;
grant execute on function public.get_completed_segments to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_credits.sql
-- The account of a user, by default the caller's: balance, what running tasks hold of it, and what is available. Zeros when nothing was ever granted.
-- Raises TD025 (no such user, or not the caller), TD040.
create or replace function public.get_credits(user_id uuid default null)
returns public.credit_account
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_user uuid := coalesce(get_credits.user_id, v_caller);
  v_entry public.credit_ledger;
begin
  if v_user is null or v_user <> v_caller or v_caller is null and not exists (select from public.users u where u.id = v_user) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_user);
  end if;
  v_entry := darkroom.account(v_user);
  return (v_user, coalesce(v_entry.balance_after, 0), coalesce(v_entry.held_after, 0),
          coalesce(v_entry.balance_after - v_entry.held_after, 0))::public.credit_account;
end
$$;
comment on function public.get_credits is 'Balance, held and available credits of a user.';
revoke all on function public.get_credits from public;
grant execute on function public.get_credits to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_dependency_outputs.sql
-- What the tasks that this one waits for have made, in the order of dependant_on. No row: it waits for none.
-- Raises TD021 (no such task, or with a token: none that it runs).
create or replace function public.get_dependency_outputs(task_id uuid)
returns setof public.dependency_output
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_deps uuid[];
begin
  select t.dependant_on into v_deps from public.tasks t where t.id = get_dependency_outputs.task_id;
  if not found or darkroom.caller_token() is not null and get_dependency_outputs.task_id <> all (darkroom.tasks_of_worker()) then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', get_dependency_outputs.task_id);
  end if;
  return query
  select d.place::integer, t.id, t.task_type, t.output_location, t.params, t.metadata
  from unnest(v_deps) with ordinality as d (id, place) join public.tasks t on t.id = d.id
  order by d.place;
end
$$;
comment on function public.get_dependency_outputs is 'Outputs of the tasks that a task waits for.';
revoke all on function public.get_dependency_outputs from public;
grant execute on function public.get_dependency_outputs to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_orchestrator_children.sql
-- The tasks of an orchestrator's tree, oldest first: {"tasks": [{"id", "task_type", "status", "params", "output_location", "dependant_on"}]}. A failed one says why in
-- output_location. Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_orchestrator_children(orchestrator_task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_orchestrator_children.orchestrator_task_id);
begin
  return jsonb_build_object('tasks', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', c.id, 'task_type', c.task_type, 'status', c.status, 'params', c.params, 'dependant_on', c.dependant_on,
      'output_location', coalesce(c.output_location, case when c.status = 'Failed' then c.error_message end)) order by c.created_at, c.job_no), '[]')
    from public.tasks c where c.orchestrator_task_id = v_task.id));
end
$$;
comment on function public.get_orchestrator_children is 'The tasks of an orchestrator''s tree.';
revoke all on function public.get_orchestrator_children from public;
grant execute on function public.get_orchestrator_children to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_predecessor_output.sql
-- What the task made that this one waits for: {"predecessor_id", "output_location", "status"}; null when it waits for none. Of several it is the first, and all
-- stand in "predecessors". Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_predecessor_output(task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_predecessor_output.task_id);
  v_list jsonb;
begin
  select jsonb_agg(jsonb_build_object('predecessor_id', t.id, 'output_location', t.output_location, 'status', t.status) order by d.place) into v_list
  from unnest(v_task.dependant_on) with ordinality as d (id, place) join public.tasks t on t.id = d.id;
  return v_list -> 0 || case when jsonb_array_length(v_list) > 1 then jsonb_build_object('predecessors', v_list) else '{}' end;
end
$$;
comment on function public.get_predecessor_output is 'Output of the task that a task waits for.';
revoke all on function public.get_predecessor_output from public;
grant execute on function public.get_predecessor_output to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_task.sql
-- One task. Raises TD021 (no such task of the caller's), TD040.
create or replace function public.get_task(task_id uuid)
returns public.tasks
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
begin
  select t.* into v_task from public.tasks t where t.id = get_task.task_id;
  if not found or v_task.owner_id <> darkroom.caller_owner() then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', get_task.task_id);
  end if;
  return v_task;
end
$$;
comment on function public.get_task is 'One task.';
revoke all on function public.get_task from public;
grant execute on function public.get_task to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_task_output.sql
-- {"status", "output_location", "params", "dependant_on"} of a task; a failed one says why in output_location.
-- Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_task_output(task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_task_output.task_id);
begin
  return jsonb_build_object('status', v_task.status, 'params', v_task.params, 'dependant_on', v_task.dependant_on,
    'output_location', coalesce(v_task.output_location, case when v_task.status = 'Failed' then v_task.error_message end));
end
$$;
comment on function public.get_task_output is 'Status, output and params of a task.';
revoke all on function public.get_task_output from public;
grant execute on function public.get_task_output to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/get_task_status.sql
-- {"status"} of a task. Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_task_status(task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_task_status.task_id);
begin
  return jsonb_build_object('status', v_task.status);
end
$$;
comment on function public.get_task_status is 'Status of a task.';
revoke all on function public.get_task_status from public;
grant execute on function public.get_task_status to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/grant_credits.sql
-- Adds credits to a user's account and returns the ledger entry. What could not be paid before can be claimed at once.
-- The same idempotency_key with the same amount returns the entry that is there; with another amount TD030.
-- Raises TD005 (the amount is not a positive number with at most 3 decimals), TD025 (no such user).
create or replace function public.grant_credits(
  user_id uuid, amount numeric, idempotency_key text default null, note text default null)
returns public.credit_ledger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_max constant numeric := 100000000.0;
  v_entry public.credit_ledger;
begin
  if amount is null or amount = 'NaN' or amount <= 0 or amount > c_max or amount <> round(amount, 3) then
    raise exception 'Invalid amount' using errcode = 'TD005',
      detail = format('%s is not an amount of credits: above 0, up to %s, at most 3 decimals.', coalesce(trim_scale(amount)::text, 'null'), c_max);
  end if;
  perform darkroom.lock_owner(grant_credits.user_id);
  if not exists (select from public.users u where u.id = grant_credits.user_id) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', grant_credits.user_id);
  end if;

  select l.* into v_entry from public.credit_ledger l
  where l.owner_id = grant_credits.user_id and l.idempotency_key = grant_credits.idempotency_key;
  if found then
    if v_entry.amount <> grant_credits.amount then
      raise exception 'Already created with another body' using errcode = 'TD030',
        detail = format('This idempotency key granted %s credits.', v_entry.amount), hint = 'Use a new key for a new grant.';
    end if;
    return v_entry;
  end if;
  return darkroom.append_ledger(grant_credits.user_id, 'grant', grant_credits.amount, null, null,
                                grant_credits.idempotency_key, left(grant_credits.note, 1000));
end
$$;
comment on function public.grant_credits is 'Adds credits to a user''s account.';
revoke all on function public.grant_credits from public;
grant execute on function public.grant_credits to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/heartbeat_worker.sql
-- Says that a worker is alive, and returns what it must stop: one row per task it should no longer work on, with the verdict
-- 'cancelled' (the task has ended) or 'lost' (the lease is gone). No row: go on.
-- running: what it works on, as JSON [{"task_id", "attempt", "progress"?}]; tasks not named are not held by this heartbeat. Null:
-- it does not say, and all that it holds stays held. Progress is written as report_progress does, but skipped where somebody else
-- has the row locked. info: replaces what the worker said of itself; null leaves it. Raises TD022 (unknown worker), TD003 (running is malformed). Writes workers, tasks.progress.
create or replace function public.heartbeat_worker(worker_id text, running jsonb default null, info jsonb default null)
returns setof public.heartbeat_verdict
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_worker text := darkroom.caller_worker(heartbeat_worker.worker_id);
  v_names uuid[];
begin
  if running is not null then
    if jsonb_typeof(running) <> 'array' or jsonb_array_length(running) > 1000 or exists (
         select from jsonb_array_elements(running) r
         where darkroom.as_uuid(r -> 'task_id') is null or coalesce(r ->> 'attempt', '') !~ '^[0-9]{1,9}$'
            or coalesce(jsonb_typeof(r -> 'progress'), 'object') not in ('object', 'null')) then
      raise exception 'Invalid params' using errcode = 'TD003',
        detail = 'running must be a list of up to 1000 {"task_id": uuid, "attempt": number, "progress"?: object}.';
    end if;
    select coalesce(array_agg(darkroom.as_uuid(r -> 'task_id')), '{}') into v_names from jsonb_array_elements(running) r;
  end if;

  update public.workers w
  set last_heartbeat = clock_timestamp(), running = v_names, info = coalesce(heartbeat_worker.info, w.info)
  where w.id = v_worker;
  if not found then
    raise exception 'Unknown worker' using errcode = 'TD022',
      detail = format('No worker "%s" is registered.', left(heartbeat_worker.worker_id, 200)), hint = 'Call register_worker first.';
  end if;

  with said as (
    select darkroom.as_uuid(r -> 'task_id') as id, (r ->> 'attempt')::integer as attempt, r -> 'progress' as progress
    from jsonb_array_elements(running) r where jsonb_typeof(r -> 'progress') = 'object'
  ), mine as (
    select t.id, s.progress from said s join public.tasks t on t.id = s.id
    where (t.status = 'In Progress') is true and t.worker_id = v_worker and t.attempt = s.attempt
      and t.progress is distinct from s.progress
    for update of t skip locked
  )
  update public.tasks t set progress = m.progress, updated_at = clock_timestamp() from mine m where t.id = m.id;

  -- With a token, a worker learns nothing of tasks that it never held: they are lost, whether they exist or not.
  return query
  select s.id, s.attempt,
    case when t.status in ('Complete', 'Failed', 'Cancelled') and t.attempt = s.attempt and (
           darkroom.caller_token() is null or exists (
             select from public.task_attempts a where a.task_id = t.id and a.attempt = t.attempt and a.worker_id = v_worker))
         then 'cancelled' else 'lost' end
  from (select darkroom.as_uuid(r -> 'task_id') as id, (r ->> 'attempt')::integer as attempt from jsonb_array_elements(running) r) s
  left join public.tasks t on t.id = s.id
  where t.id is null or t.status <> 'In Progress' or t.worker_id <> v_worker or t.attempt <> s.attempt;
end
$$;
comment on function public.heartbeat_worker is 'Says that a worker is alive; returns the tasks it must stop.';
revoke all on function public.heartbeat_worker from public;
grant execute on function public.heartbeat_worker to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/list_access_tokens.sql
-- The caller's tokens, newest first, without their secrets; the service sees those of user_id, or all. No row: there are none.
create or replace function public.list_access_tokens(user_id uuid default null)
returns setof public.access_token
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid := coalesce(darkroom.caller_owner(), list_access_tokens.user_id);
begin
  return query
  select t.id, t.owner_id, t.scope, t.label, t.prefix, t.created_at, t.expires_at, t.revoked_at, t.last_used_at
  from darkroom.access_tokens t where t.owner_id = v_owner or v_owner is null
  order by t.created_at desc, t.id;
end
$$;
comment on function public.list_access_tokens is 'Personal access tokens, without their secrets.';
revoke all on function public.list_access_tokens from public;
grant execute on function public.list_access_tokens to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/list_audit.sql
-- The audit log, newest first: who changed users, tokens, prices and tools, and who granted credits. For the service.
-- target: only what was done to that row (a user's, a token's id, a name). older_than: the id of the last entry seen. max_rows: 1 to 1000.
-- No row: there is none. Raises TD003 (max_rows).
create or replace function public.list_audit(target text default null, max_rows integer default 100, older_than bigint default null)
returns setof public.audit_entry
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if list_audit.max_rows is null or list_audit.max_rows not between 1 and 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_rows is 1 to 1000.';
  end if;
  return query
  select a.id, a.created_at, a.login, a.role, a.subject, a.token_id, a.act, a.object, a.target, a.details
  from darkroom.audit_log a
  where (list_audit.target is null or a.target = list_audit.target) and a.id < coalesce(list_audit.older_than, 9223372036854775807)
  order by a.id desc limit list_audit.max_rows;
end
$$;
comment on function public.list_audit is 'Who changed users, tokens, prices and tools, and who granted credits.';
revoke all on function public.list_audit from public;
grant execute on function public.list_audit to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/list_generations.sql
-- The gallery of a project, or of one shot of it, newest first. older_than: created_at of the last one seen, to read on.
-- No row: there is none (any more). Raises TD020 (no such project of the caller's), TD003 (max_rows not 1 to 1000), TD040.
create or replace function public.list_generations(
  project_id uuid, shot_id uuid default null, max_rows integer default 100, older_than timestamptz default null)
returns setof public.generations
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
begin
  if max_rows is null or max_rows not between 1 and 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_rows must be 1 to 1000.';
  elsif not exists (
      select from public.projects p where p.id = list_generations.project_id and p.owner_id = coalesce(v_caller, p.owner_id)) then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', list_generations.project_id);
  end if;
  return query
  select g.* from public.generations g
  where g.project_id = list_generations.project_id and g.created_at < coalesce(older_than, 'infinity')
    and (list_generations.shot_id is null or exists (
      select from public.shot_generations sg where sg.generation_id = g.id and sg.shot_id = list_generations.shot_id))
  order by g.created_at desc, g.id
  limit max_rows;
end
$$;
comment on function public.list_generations is 'The gallery of a project or shot, newest first.';
revoke all on function public.list_generations from public;
grant execute on function public.list_generations to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/list_workers.sql
-- The workers that may run the caller's tasks, those that are alive first, at most 200: everybody's and their own; the service sees all. Who was silent for a day is
-- left out.
--
-- alive: heard from within half of its lease_timeout, or the whole of it where it sends no heartbeats. task_types: all that it takes, as the claim reads it.
-- running: [{"task_id", "task_type", "attempt", "claimed_at"}], the caller's own tasks alone, oldest first; not orchestrators, which hold no slot while their tree runs.
-- info: of one's own workers what they say of themselves. Of everybody's: slots, busy, and of each engine name, kind, device, memory, models, types, slots and
-- state. Not why an engine is down, nor what else a worker says: it may name hosts, files, other users' work.
--
-- For pages that ask every few seconds: it costs what there are workers and running tasks. Raises TD040.
create or replace function public.list_workers()
returns setof public.worker_status
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  c_most constant integer := 200;
  c_public constant text[] := array['name', 'kind', 'device', 'memory_bytes', 'models', 'task_types', 'slots', 'busy', 'state', 'since'];
  v_caller uuid := darkroom.caller_owner();
begin
  return query
  with seen as materialized (
    select w.id, darkroom.worker_alive(w, s.seen) and not exists (
             select from darkroom.access_tokens k where k.id = w.token_id and (k.revoked_at is not null or k.expires_at <= clock_timestamp())) as alive
    from public.workers w cross join lateral darkroom.worker_seen(w) s (seen)
    where (v_caller is null or w.owner_id is null or w.owner_id = v_caller) and s.seen > clock_timestamp() - interval '1 day'
    order by alive desc, s.seen desc, w.id
    limit c_most
  )
  select w.id, s.alive, w.last_heartbeat,
    array(select v.task_type from darkroom.worker_types v where v.worker_id = w.id and v.task_type is not null order by v.task_type), w.capabilities,
    case when v_caller is null or w.owner_id is not null then w.info
         else jsonb_strip_nulls(jsonb_build_object('slots', w.info -> 'slots', 'busy', w.info -> 'busy', 'engines', (
           select jsonb_agg((select jsonb_object_agg(f.key, f.value) from jsonb_each(case when jsonb_typeof(e.engine) = 'object' then e.engine end) f
                             where f.key = any (c_public)) order by e.place)
           from jsonb_array_elements(case when jsonb_typeof(w.info -> 'engines') = 'array' then w.info -> 'engines' end) with ordinality e (engine, place)))) end,
    coalesce((select jsonb_agg(jsonb_build_object('task_id', t.id, 'task_type', t.task_type, 'attempt', t.attempt, 'claimed_at', t.claimed_at)
                               order by t.claimed_at, t.job_no)
              from darkroom.held_tasks(w) t where v_caller is null or t.owner_id = v_caller), '[]')
  from seen s join public.workers w on w.id = s.id
  order by s.alive desc, w.id;
end
$$;
comment on function public.list_workers is 'The workers that may run the caller''s tasks, and what they run of them.';
revoke all on function public.list_workers from public;
grant execute on function public.list_workers to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/mark_erasure_swept.sql
-- Notes that the files of an erased user were deleted just now, and returns the erasure. Raises TD025 (the user is not among the erased), TD041 (a
-- worker with a token). Workers and the service may call it.
create or replace function public.mark_erasure_swept(user_id uuid)
returns public.erasure
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_erasure darkroom.erasures;
begin
  perform darkroom.refuse_tokens();
  update darkroom.erasures e set swept_at = clock_timestamp() where e.owner_id = mark_erasure_swept.user_id returning e.* into v_erasure;
  if not found then
    raise exception 'User not found' using errcode = 'TD025', detail = format('User %s was not erased lately.', mark_erasure_swept.user_id);
  end if;
  return (v_erasure.owner_id, v_erasure.requested_at, v_erasure.swept_at)::public.erasure;
end
$$;
comment on function public.mark_erasure_swept is 'Notes that the files of an erased user are deleted.';
revoke all on function public.mark_erasure_swept from public;
grant execute on function public.mark_erasure_swept to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/orphaned_outputs.sql
-- Which of these folders in storage, "{owner}/tasks/{task}/{attempt}", hold what nobody will ever see: files of an attempt that is over
-- and whose files no row names. With "/previews" at its end, a folder holds pictures of what is unfinished: those of an attempt that is over are
-- orphans whoever names them. The array holds some of those given, each once; null elements, and what is no such folder, are passed over.
--
-- In doubt a folder is not among them: its task is unknown here or another owner's, its attempt is the task's last and the task may still
-- complete, or is one that this database has not given out; or any task or generation names it anywhere, in locations, params or metadata.
-- Writes nothing. Reads tasks and generations whole, unless each folder is out of the question by its task alone.
-- Files are to be a day old before their folder is asked for, so that nothing is deleted that is just being stored or completed.
create or replace function public.orphaned_outputs(folders text[])
returns text[]
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_uuid constant text := '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
  v_over text[];
  v_previews text[];
begin
  perform darkroom.refuse_tokens();
  with given as materialized (
    select distinct f.folder, split_part(f.folder, '/', 1)::uuid as owner_id, split_part(f.folder, '/', 3)::uuid as task_id,
      split_part(f.folder, '/', 4)::integer as attempt, f.folder like '%/previews' as previews
    from unnest(orphaned_outputs.folders) as f (folder)
    where f.folder ~ ('^' || c_uuid || '/tasks/' || c_uuid || '/[1-9][0-9]{0,8}(/previews)?$')
  )
  select array_agg(g.folder) filter (where not g.previews and strpos(t::text, g.folder) = 0),
    coalesce(array_agg(g.folder order by g.folder) filter (where g.previews), '{}')
  into v_over, v_previews
  from given g join public.tasks t on t.id = g.task_id and t.owner_id = g.owner_id
  where g.attempt < t.attempt or g.attempt = t.attempt and t.status in ('Complete', 'Failed', 'Cancelled');
  if v_over is null then
    return v_previews;
  end if;

  return (
    with texts as (
      select concat_ws(' ', t.output_location, t.thumbnail_url, t.params, t.metadata, t.progress) as said from public.tasks t
      union all
      select concat_ws(' ', g.location, g.thumbnail_url, g.params, g.metadata) from public.generations g
    ), named as (
      select m.folder[1] as folder
      from texts x cross join lateral regexp_matches(x.said, '(' || c_uuid || '/tasks/' || c_uuid || '/[0-9]+)', 'g') as m (folder)
      where strpos(x.said, '/tasks/') > 0
    )
    select coalesce(array_agg(o.folder order by o.folder), '{}') from unnest(v_over || v_previews) as o (folder)
    where o.folder = any (v_previews) or not exists (select from named n where n.folder = o.folder)
  );
end
$$;
comment on function public.orphaned_outputs is 'Folders of outputs that no row refers to.';
revoke all on function public.orphaned_outputs from public;
grant execute on function public.orphaned_outputs to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/process_completed_task.sql
-- The spec's name for the end of a task: output {"output_location", "metadata"?, "thumbnail_url"?} completes it, and
-- {"success": false, "error_message"} fails it. See complete_task and fail_task for the fence and the errors.
create or replace function public.process_completed_task(
  task_id uuid, output jsonb, worker_id text default null, attempt integer default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if output is null or jsonb_typeof(output) <> 'object' then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'output must be a JSON object.';
  elsif output -> 'success' = 'false' then
    return public.fail_task(process_completed_task.task_id, coalesce(output ->> 'error_message', 'The worker gave no reason.'),
                            process_completed_task.worker_id, process_completed_task.attempt);
  end if;
  return public.complete_task(process_completed_task.task_id, output ->> 'output_location', process_completed_task.worker_id,
                              process_completed_task.attempt, coalesce(output -> 'metadata', '{}'), output ->> 'thumbnail_url');
end
$$;
comment on function public.process_completed_task is 'The spec''s name for complete_task and fail_task.';
revoke all on function public.process_completed_task from public;
grant execute on function public.process_completed_task to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/purge_expired.sql
-- Deletes rows that have served their time, a few seconds' worth, and returns how many: see darkroom.purge. Raises TD041 (a worker with a token).
-- Workers and the service may call it.
create or replace function public.purge_expired()
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform darkroom.refuse_tokens();
  return darkroom.purge();
end
$$;
comment on function public.purge_expired is 'Deletes rows that have served their time.';
revoke all on function public.purge_expired from public;
grant execute on function public.purge_expired to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/register_worker.sql
-- Makes a worker known, or says that it started anew; returns its row. What it held before is lost work: queued again at once,
-- counted as a failed attempt. To be called when a worker starts, before its first claim.
-- capabilities: routes it serves besides 'any' (travel types want wan2gp). task_types: the only types it wants; null for all that
-- its capabilities allow. if_unknown: leaves a worker that is known as it is, for callers that see only its claims.
-- lease_timeout: how long it may be silent; 30 minutes unless it sends heartbeats more often. info: what it says of itself, for people.
-- A caller with a token has workers of its own: others may have the same name, and a user's run only that user's tasks.
-- Raises TD002 for a task type that is not in the table, TD003 for an id, a list or a lease out of bounds. Writes workers, and the
-- tasks it held.
create or replace function public.register_worker(
  worker_id text, capabilities text[] default '{}', task_types text[] default null,
  lease_timeout interval default interval '30 minutes', info jsonb default '{}',
  if_unknown boolean default false)
returns public.workers
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 100;
  v_owner uuid := darkroom.caller_owner();
  v_token uuid := darkroom.caller_token();
  v_id text := register_worker.worker_id;
  v_lease interval := coalesce(register_worker.lease_timeout, interval '30 minutes');
  v_worker public.workers;
  v_unknown text;
begin
  if length(coalesce(register_worker.worker_id, '')) not between 1 and 200
     or v_lease not between interval '1 second' and interval '1 day'
     or cardinality(register_worker.capabilities) > 100 or cardinality(register_worker.task_types) > 1000 then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = 'worker_id needs 1 to 200 characters, lease_timeout 1 second to 1 day, and the lists must be short.';
  end if;
  select wanted.name into v_unknown
  from unnest(register_worker.task_types) wanted (name) where not exists (select from public.task_types ty where ty.name = wanted.name) limit 1;
  if found then
    raise exception 'Unknown task type' using errcode = 'TD002', detail = format('There is no task type "%s".', left(v_unknown, 100)),
      hint = 'Add a row to the table task_types, or do not offer to run it.';
  end if;

  -- A token's worker has the id of its name, or where that is taken one that nobody else can have. A user's has always such a one: otherwise
  -- users could take the names of the service's own workers before those start.
  if v_token is not null then
    v_id := (select w.id from public.workers w where w.token_id = v_token and w.name = register_worker.worker_id);
    if v_id is null then
      if (select count(*) from public.workers w where w.token_id = v_token) >= c_most then
        raise exception 'Invalid params' using errcode = 'TD003', detail = format('A token may have up to %s workers.', c_most),
          hint = 'Give workers names that stay the same when they start anew.';
      end if;
      v_id := register_worker.worker_id;
      if v_owner is not null or exists (select from public.workers w where w.id = v_id) then
        v_id := v_id || '#' || left(v_token::text, 18);
      end if;
    end if;
  end if;

  insert into public.workers as w (id, token_id, name, owner_id, capabilities, task_types, lease_timeout, info, running, last_heartbeat)
  values (v_id, v_token, case when v_token is not null then register_worker.worker_id end, v_owner,
          coalesce(register_worker.capabilities, '{}'), register_worker.task_types, v_lease, coalesce(register_worker.info, '{}'),
          case when not register_worker.if_unknown then '{}'::uuid[] end, case when not register_worker.if_unknown then clock_timestamp() end)
  on conflict (id) do update
  set capabilities = excluded.capabilities, task_types = excluded.task_types, lease_timeout = excluded.lease_timeout,
      info = excluded.info, running = '{}', last_heartbeat = excluded.last_heartbeat
  where w.token_id is not distinct from excluded.token_id and not register_worker.if_unknown
  returning w.* into v_worker;
  if not found then
    select w.* into v_worker from public.workers w where w.id = v_id and w.token_id is not distinct from v_token;
    if not found then
      raise exception 'Invalid params' using errcode = 'TD003', detail = format('Another worker has the id "%s".', v_id),
        hint = 'Give this one another id.';
    end if;
    return v_worker;
  end if;

  perform darkroom.lose_tasks(v_id, format('Worker %s started anew and lost it.', v_id));
  return v_worker;
end
$$;
comment on function public.register_worker is 'Makes a worker known; what it held before is queued again.';
revoke all on function public.register_worker from public;
grant execute on function public.register_worker to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/release_task.sql
-- Gives a running task back without blame: Queued again, in its old place, the attempt not counted. For a worker that stops.
-- Returns the task. An orchestrator whose tree still runs stays In Progress. Fenced; raises TD021, TD031, TD032.
create or replace function public.release_task(task_id uuid, worker_id text, attempt integer, reason text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
begin
  v_task := darkroom.lock_held_task(release_task.task_id, coalesce(release_task.worker_id, ''), coalesce(release_task.attempt, 0));
  return darkroom.requeue_task(v_task, 'released', left(release_task.reason, 4000));
end
$$;
comment on function public.release_task is 'Gives a running task back; the attempt is not counted.';
revoke all on function public.release_task from public;
grant execute on function public.release_task to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/repair_generations.sql
-- Tries again to make the generations that finished tasks lack ("can manually process" of the spec), and returns those made.
-- No row: none was missing, or the cause still stands (see generation_errors). project_id: only there.
create or replace function public.repair_generations(project_id uuid default null, max_tasks integer default 1000)
returns setof public.generations
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task record;
begin
  for v_task in
    select t.id, t.owner_id from public.tasks t join public.task_types ty on ty.name = t.task_type
    where t.status = 'Complete' and not t.generation_created and ty.result_type is not null
      and btrim(t.output_location) <> '' and (repair_generations.project_id is null or t.project_id = repair_generations.project_id)
    order by t.owner_id, t.id
    limit repair_generations.max_tasks
  loop
    perform darkroom.lock_owner(v_task.owner_id);
    update public.tasks t set status = status where t.id = v_task.id and not t.generation_created;
    return query select g.* from public.generations g where g.source_task_id = v_task.id;
  end loop;
end
$$;
comment on function public.repair_generations is 'Makes the generations that finished tasks lack.';
revoke all on function public.repair_generations from public;
grant execute on function public.repair_generations to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/report_progress.sql
-- Writes how far the running attempt is: {"percent", "value", "max", "phase", "preview"?}, shown in the task and the event log. preview is the
-- address of a small picture of the unfinished result, and is taken away when the attempt ends (forget_preview).
-- Fenced in the statement that writes. Raises TD003 (no object, or over 4 kB), TD021, TD031 (lease lost), TD032 (ended).
create or replace function public.report_progress(task_id uuid, worker_id text, attempt integer, progress jsonb)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
  v_worker text := darkroom.caller_worker(report_progress.worker_id);
begin
  if progress is null or jsonb_typeof(progress) <> 'object' or octet_length(progress::text) > 4096 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'progress must be a JSON object of up to 4 kB.';
  end if;
  update public.tasks t set progress = report_progress.progress, updated_at = clock_timestamp()
  where t.id = report_progress.task_id and (t.status = 'In Progress') is true
    and t.worker_id = v_worker and t.attempt = report_progress.attempt;
  if not found then
    -- The update may have locked the row before it found it changed: the owner's lock, which comes first, must not be taken now.
    select t.* into v_task from public.tasks t where t.id = report_progress.task_id;
    if not found or v_task.owner_id <> darkroom.caller_owner() then
      raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', report_progress.task_id);
    end if;
    perform darkroom.refuse_hold(v_task, coalesce(v_worker, ''), coalesce(report_progress.attempt, 0));
  end if;
end
$$;
comment on function public.report_progress is 'Writes how far a running attempt is.';
revoke all on function public.report_progress from public;
grant execute on function public.report_progress to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/requeue_expired_tasks.sql
-- Queues again what is held by a worker that has not been heard from, and returns those tasks as they are then; Failed when their
-- attempts are used up. A lease ends lease_timeout after the later of the claim and the worker's last heartbeat that covers the task.
-- To be called every few seconds. When it was not (the database was down, no caller was there), workers first get 90 s to be
-- heard: an outage burns no lease. An orchestrator whose tree still runs has no lease. Owners that are busy come at the next call.
create or replace function public.requeue_expired_tasks(max_tasks integer default 1000)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_gap constant interval := interval '60 seconds';
  c_grace constant interval := interval '90 seconds';
  v_now timestamptz := clock_timestamp();
  v_resumed timestamptz;
  v_due record;
  v_task public.tasks;
begin
  perform darkroom.refuse_tokens();
  update darkroom.lease_watch l
  set last_run = v_now, resumed_at = case when l.last_run < v_now - c_gap then v_now else l.resumed_at end
  returning l.resumed_at into v_resumed;

  for v_due in
    select t.owner_id, t.id
    from public.tasks t left join public.workers w on w.id = t.worker_id
    where t.status = 'In Progress' and darkroom.lease_end(t, w) < v_now
      and v_now > v_resumed + least(coalesce(w.lease_timeout, c_grace), c_grace)
      and not darkroom.has_live_children(t.id)
    order by t.owner_id, t.id
    limit requeue_expired_tasks.max_tasks
  loop
    continue when not darkroom.lock_owner(v_due.owner_id, false);
    select t.* into v_task from public.tasks t left join public.workers w on w.id = t.worker_id
    where t.id = v_due.id and (t.status = 'In Progress') is true and darkroom.lease_end(t, w) < v_now and not darkroom.has_live_children(t.id)
    for update of t;
    if found then
      return next darkroom.requeue_task(v_task, 'expired', format('Worker %s was not heard from.', v_task.worker_id));
      -- Whoever still runs it hears of it when next it is heard from. A message now could stop the attempt that comes next.
    end if;
  end loop;
end
$$;
comment on function public.requeue_expired_tasks is 'Queues again what is held by workers that have fallen silent.';
revoke all on function public.requeue_expired_tasks from public;
grant execute on function public.requeue_expired_tasks to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/retry_task.sql
-- Makes a Failed or Cancelled task again: a new one with the same tool, type, params and dependencies, checked and priced as create_task does it now. Returns it;
-- the old one stays as it is. With an idempotency_key a repeat returns the task that is there.
-- Raises TD021 (no such task of the caller's), TD033 (it has not failed, it belongs to a travel's tree, or what it waits for ended badly), TD040, and what
-- create_task raises: TD001-TD004, TD010, TD030 and, at commit, TD011. Writes what create_task writes.
create or replace function public.retry_task(task_id uuid, idempotency_key text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := public.get_task(retry_task.task_id);
  v_dead uuid;
begin
  if v_task.status not in ('Failed', 'Cancelled') then
    raise exception 'Nothing to retry' using errcode = 'TD033', detail = format('Task %s is %s.', v_task.id, v_task.status),
      hint = 'Only a Failed or Cancelled task can be made again.';
  elsif v_task.orchestrator_task_id is not null then
    raise exception 'Nothing to retry' using errcode = 'TD033', detail = format('Task %s belongs to the tree of task %s.', v_task.id, v_task.orchestrator_task_id),
      hint = 'Retry that one: it makes the tree anew.';
  end if;
  select t.id into v_dead from public.tasks t where t.id = any (v_task.dependant_on) and t.status in ('Failed', 'Cancelled') limit 1;
  if found then
    raise exception 'Nothing to retry' using errcode = 'TD033', detail = format('It waits for task %s, which will not be complete.', v_dead),
      hint = 'Retry that one, and create this one anew to wait for the new one.';
  end if;
  return public.create_task(v_task.project_id, tool_id => v_task.tool_id, task_type => v_task.task_type, params => v_task.params,
    dependant_on => v_task.dependant_on, idempotency_key => retry_task.idempotency_key);
end
$$;
comment on function public.retry_task is 'Makes a Failed or Cancelled task again, as a new one.';
revoke all on function public.retry_task from public;
grant execute on function public.retry_task to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/revoke_access_token.sql
-- Ends a personal access token: the gateway refuses it within 5 seconds. Returns it; one that was revoked already stays as it is.
-- What its workers run is given to others when the lease is over. Raises TD026 (no such token of the caller's), TD040.
create or replace function public.revoke_access_token(token_id uuid)
returns public.access_token
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_token darkroom.access_tokens;
begin
  update darkroom.access_tokens t set revoked_at = coalesce(t.revoked_at, clock_timestamp())
  where t.id = revoke_access_token.token_id and (v_caller is null or t.owner_id = v_caller)
  returning t.* into v_token;
  if not found then
    raise exception 'Token not found' using errcode = 'TD026', detail = format('There is no token %s.', revoke_access_token.token_id);
  end if;
  return (v_token.id, v_token.owner_id, v_token.scope, v_token.label, v_token.prefix, v_token.created_at, v_token.expires_at,
          v_token.revoked_at, v_token.last_used_at)::public.access_token;
end
$$;
comment on function public.revoke_access_token is 'Ends a personal access token.';
revoke all on function public.revoke_access_token from public;
grant execute on function public.revoke_access_token to authenticated, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/set_queue_limit.sql
-- Says how many queued tasks an owner may have, or without a user how many everybody may have for whom nothing else was said. Returns that number.
-- max_queued null is the standard again: for a user what holds for everybody, for everybody 10,000. 2147483647 is no limit. What is queued already
-- stays. Raises TD003 (not a positive number), TD025 (no such user).
create or replace function public.set_queue_limit(max_queued integer default null, user_id uuid default null)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_max integer;
begin
  if set_queue_limit.max_queued < 1 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_queued must be 1 or more.', hint = 'To stop an owner, set 1.';
  end if;

  if set_queue_limit.user_id is null then
    update darkroom.queue_settings s set max_queued = coalesce(set_queue_limit.max_queued, 10000) returning s.max_queued into v_max;
    update darkroom.queue_room r set from_job_no = null, to_job_no = null where r.max_queued is null;
    return v_max;
  end if;

  if not exists (select from public.users u where u.id = set_queue_limit.user_id) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', set_queue_limit.user_id);
  end if;
  perform darkroom.lock_owner(set_queue_limit.user_id);
  insert into darkroom.queue_room as r (owner_id, max_queued) values (set_queue_limit.user_id, set_queue_limit.max_queued)
  on conflict (owner_id) do update set max_queued = excluded.max_queued, from_job_no = null, to_job_no = null;
  return coalesce(set_queue_limit.max_queued, (select s.max_queued from darkroom.queue_settings s));
end
$$;
comment on function public.set_queue_limit is 'Says how many queued tasks an owner, or everybody, may have.';
revoke all on function public.set_queue_limit from public;
grant execute on function public.set_queue_limit to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/sweep_tasks.sql
-- The slow repair behind everything: looks at the oldest Queued tasks and at all hints, and calls admit_tasks for the owners where
-- something does not fit; makes missing generations. To be called about once a minute. Returns what it looked at and mended:
-- anything but zero repairs is a fault of ours and worth an alarm. Owners that are busy come at the next call.
create or replace function public.sweep_tasks(max_tasks integer default 20000)
returns public.sweep_report
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid;
  v_report public.sweep_report := (0, 0, 0);
begin
  perform darkroom.refuse_tokens();
  -- first, because it waits for owners, in their order: afterwards none is waited for
  select count(*)::integer into v_report.admitted from public.repair_generations(null, 1000);

  for v_owner in
    with queued as (
      select t.* from public.tasks t where t.status = 'Queued' order by t.created_at limit sweep_tasks.max_tasks
    ), backlog as (
      select b.* from darkroom.task_backlog b limit sweep_tasks.max_tasks
    )
    -- Queued, but nowhere, or not waiting for all it must
    select q.owner_id from queued q
    where not exists (select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no))
      and not exists (select from darkroom.task_backlog b
        where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no))
      and not exists (select from darkroom.task_deps d where d.task_id = q.id)
      and not exists (select from darkroom.task_delayed d where d.task_id = q.id)
    union
    select q.owner_id from queued q join public.tasks w on w.id = any (q.dependant_on)
    where w.status <> 'Complete' and not exists (select from darkroom.task_deps d where d.dep_id = w.id and d.task_id = q.id)
    union
    -- ready or backlog, but cannot run, or in two places
    select h.owner_id
    from (select r.owner_id, r.task_type, r.cost, r.created_at, r.job_no, r.task_id from darkroom.task_ready r
          union all select b.* from backlog b) h
    where not exists (select from public.tasks t where t.id = h.task_id and (t.status = 'Queued') is true and coalesce(t.run_after <= clock_timestamp(), true)
            and (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) = (h.owner_id, h.task_type, h.cost, h.created_at, h.job_no))
       or exists (select from darkroom.task_deps d where d.task_id = h.task_id)
       or exists (select from darkroom.task_delayed d where d.task_id = h.task_id)
    union
    select b.owner_id from backlog b
    where exists (select from darkroom.task_ready r
      where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no))
    union
    -- parked, but affordable
    select r.owner_id from (select distinct l.owner_id, l.cost from darkroom.task_ready l where l.parked) r
    left join lateral darkroom.account(r.owner_id) a on true
    where r.cost <= coalesce(a.balance_after - a.held_after, 0)
    union
    -- backlog, but as old as ready
    select b.owner_id from (select o.owner_id, o.task_type, o.cost, min(o.created_at) as oldest
                            from darkroom.task_backlog o group by o.owner_id, o.task_type, o.cost) b
    where not exists (select from darkroom.task_ready r
                      where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost)
       or exists (select from darkroom.task_ready r
                  where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost and r.created_at > b.oldest)
    union
    -- waits for what has ended, or for what it does not depend on
    select d.owner_id from darkroom.task_deps d
    where not exists (select from public.tasks t join public.tasks w on w.id = d.dep_id
      where t.id = d.task_id and (t.status = 'Queued') is true and d.dep_id = any (t.dependant_on) and w.status in ('Queued', 'In Progress'))
    union
    -- delayed, but not Queued, or until another time
    select d.owner_id from darkroom.task_delayed d
    where not exists (select from public.tasks t where t.id = d.task_id and (t.status = 'Queued') is true and t.run_after = d.run_after)
    order by 1
  loop
    v_report.checked := v_report.checked + 1;
    if darkroom.lock_owner(v_owner, false) then
      v_report.repaired := v_report.repaired + public.admit_tasks(v_owner);
    end if;
  end loop;
  return v_report;
end
$$;
comment on function public.sweep_tasks is 'Looks for anything the queue or the trigger missed, and mends it.';
revoke all on function public.sweep_tasks from public;
grant execute on function public.sweep_tasks to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/task_counts.sql
-- How much there is to do for the caller, as {"totals": {"queued_only", "eligible_queued", "active_only"}}: tasks that stand in line, those of them that could be
-- claimed now, and those that the caller's workers run. Read from the indexes of the queue and bounded, so that an idle worker may ask at
-- every poll: each number ends at 1000, eligible_queued looks at 16 tasks of a kind at most (the windows of the queue), and tasks that
-- wait for others or for a retry are not counted. eligible_queued is above zero whenever something can be claimed. Raises TD041.
create or replace function public.task_counts()
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_most constant integer := 1000;
  v_token uuid := darkroom.caller_token();
  v_owner uuid := darkroom.caller_owner();
  v_mark timestamptz := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
  v_eligible bigint;
  v_others bigint;
  v_active bigint;
begin
  if v_owner is not null then
    select count(*) filter (where not r.parked), count(*) filter (where r.parked) into v_eligible, v_others
    from (select q.parked from darkroom.task_ready q where q.owner_id = v_owner limit c_most) r;
    v_others := v_others + (select count(*) from (select from darkroom.task_backlog b where b.owner_id = v_owner limit c_most) b);
  else
    select count(*) into v_eligible
    from (select from public.task_types ty cross join lateral (
            select from darkroom.task_ready r where r.task_type = ty.name and not r.parked and r.created_at >= v_mark limit c_most) r
          limit c_most) e;
    v_others := (select count(*) from (select from darkroom.task_ready r where r.parked limit c_most) p)
      + (select count(*) from (select from darkroom.task_backlog b limit c_most) b);
  end if;

  select count(*) into v_active
  from (select from public.tasks t
        where t.status = 'In Progress' and (v_owner is null or t.owner_id = v_owner)
          and (v_token is null or t.worker_id in (select w.id from public.workers w where w.token_id = v_token))
        limit c_most) a;
  return jsonb_build_object('totals', jsonb_build_object('queued_only', least(v_eligible + v_others, c_most), 'eligible_queued', v_eligible,
                                                         'active_only', v_active));
end
$$;
comment on function public.task_counts is 'How much there is to do, bounded.';
revoke all on function public.task_counts from public;
grant execute on function public.task_counts to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/tick_ready_mark.sql
-- Moves the mark where claims start reading: up to the oldest row they can see, and at least 3 s behind now. To be called about every
-- 25 ms while claims happen (whole = false: from the mark upward), and every 2 s from the start (whole = true), which also mends a
-- mark that is too high. Skips, and returns false, while a late row is being committed or another tick runs.
-- From the start it reads all dead rows that an old transaction pins. So however many call it, that is done once in 2 s, and takes 1/500 of the time at
-- most; a call before it is due reads from the mark upward.
-- Without ticks everything is right, but claims walk over the dead rows of claimed tasks while an old transaction pins them.
create or replace function public.tick_ready_mark(whole boolean default false)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_mark_lock constant bigint := 7235433876402729074;
  c_pause constant bigint := bigint '1900000';
  v_now timestamptz := clock_timestamp();
  v_micros bigint := (extract(epoch from v_now) * 1000000)::bigint;
  v_whole boolean;
  v_mark bigint;
  v_oldest timestamptz;
begin
  perform darkroom.refuse_tokens();
  if not pg_try_advisory_xact_lock(c_mark_lock) then
    return false;
  end if;
  v_whole := tick_ready_mark.whole and v_micros >= coalesce(pg_sequence_last_value('darkroom.whole_tick'), 0);
  v_mark := coalesce(pg_sequence_last_value('darkroom.ready_mark'), 0);
  select min(h.created_at) into v_oldest
  from public.task_types ty
  cross join lateral (
    select r.created_at from darkroom.task_ready r
    where r.task_type = ty.name and not r.parked
      and r.created_at >= case when v_whole then '-infinity' else timestamptz 'epoch' + v_mark * interval '1 microsecond' end
    order by r.created_at, r.job_no limit 1) h;
  v_oldest := least(v_oldest, v_now - interval '3 seconds');
  if v_whole or v_oldest > timestamptz 'epoch' + v_mark * interval '1 microsecond' then
    perform setval('darkroom.ready_mark', greatest((extract(epoch from v_oldest) * 1000000)::bigint - 1, 0));
  end if;
  if v_whole then
    perform setval('darkroom.whole_tick', v_micros + greatest(c_pause, 500 * (extract(epoch from clock_timestamp() - v_now) * 1000000)::bigint));
  end if;
  return true;
end
$$;
comment on function public.tick_ready_mark is 'Moves the mark where claims start reading.';
revoke all on function public.tick_ready_mark from public;
grant execute on function public.tick_ready_mark to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/update_shot_pair_prompts.sql
-- Keeps the prompts that a worker wrote for the pairs of pictures of a shot, in the metadata of the task that it holds: {"enhanced_prompts": {"shot_id", "prompts"}}.
-- Returns {"success": true}. Raises TD003 (no list of up to 200 texts or 32 kB), TD021, TD024 (the shot is not of the task's project), TD031 and TD032 (the
-- caller does not hold the task).
create or replace function public.update_shot_pair_prompts(task_id uuid, shot_id uuid, enhanced_prompts jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
begin
  if jsonb_typeof(enhanced_prompts) is distinct from 'array' or octet_length(enhanced_prompts::text) > 32768 or jsonb_array_length(enhanced_prompts) > 200 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'enhanced_prompts must be a list of up to 200 texts, 32 kB in all.';
  end if;
  v_task := darkroom.lock_held_task(update_shot_pair_prompts.task_id, null, null);
  if not exists (select from public.shots s where s.id = update_shot_pair_prompts.shot_id and s.project_id = v_task.project_id) then
    raise exception 'Shot not found' using errcode = 'TD024', detail = format('There is no shot %s.', update_shot_pair_prompts.shot_id);
  end if;
  update public.tasks t
  set metadata = t.metadata || jsonb_build_object('enhanced_prompts',
        jsonb_build_object('shot_id', update_shot_pair_prompts.shot_id, 'prompts', update_shot_pair_prompts.enhanced_prompts)),
      updated_at = clock_timestamp()
  where t.id = v_task.id;
  return jsonb_build_object('success', true);
end
$$;
comment on function public.update_shot_pair_prompts is 'Keeps the prompts that a worker wrote for a shot''s pairs.';
revoke all on function public.update_shot_pair_prompts from public;
grant execute on function public.update_shot_pair_prompts to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/update_task_status.sql
-- What a worker says of a task that it holds, as Headless-Wan2GP says it: with neither worker nor attempt, the token tells whose it is. Returns
-- {"success": true, "changed", "task_id", "status"}.
--
-- status 'In Progress': output_location is a progress text, which goes to progress.message; the worker counts as heard from.
-- 'Failed': output_location (or error_details) is the reason. A reason that is a passing fault of the connection to us
-- ([EDGE_FAIL:<function>:5XX_TRANSIENT], HTTP_500, TIMEOUT, NETWORK) queues the task again while attempts are left.
-- 'Queued': queues it again, counted as a failed attempt: Failed when they are used up. An orchestrator whose tree runs stays as it is.
-- 'Complete': complete_task. 'Cancelled': cancel_task.
--
-- Whoever does not hold the task (any more) changes nothing with all but 'Complete', and is told "changed": false: such reports follow a
-- completion that was refused. 'Complete' for a task that is Complete changes nothing either, whatever its output.
-- Raises TD003 (no such status), TD021 (no task that the caller knows of), and for 'Complete' what complete_task raises. Writes what the
-- functions named write.
create or replace function public.update_task_status(
  task_id uuid, status text, output_location text default null, thumbnail_url text default null, error_details text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_passing constant text := '\[EDGE_FAIL:[^]]*:(5XX_TRANSIENT|HTTP_5[0-9][0-9]|TIMEOUT|NETWORK)\]';
  v_text text := nullif(btrim(coalesce(update_task_status.error_details, update_task_status.output_location)), '');
  v_before public.tasks;
  v_task public.tasks;
  v_child public.tasks;
begin
  if update_task_status.status is null or update_task_status.status not in ('Queued', 'In Progress', 'Complete', 'Failed', 'Cancelled') then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = 'status must be Queued, In Progress, Complete, Failed or Cancelled.';
  end if;
  v_before := darkroom.known_task(update_task_status.task_id);
  -- A worker's row is locked before its tasks' owners, here as in register_worker.
  if darkroom.holds_task(v_before, false) then
    update public.workers w set last_heartbeat = clock_timestamp() where w.id = v_before.worker_id;
  end if;
  perform darkroom.lock_owner(v_before.owner_id);
  select t.* into v_before from public.tasks t where t.id = v_before.id for update;
  v_task := v_before;

  if update_task_status.status = 'Complete' then
    if v_before.status <> 'Complete' then
      v_task := public.complete_task(v_before.id, update_task_status.output_location, thumbnail_url => update_task_status.thumbnail_url);
    end if;
  elsif update_task_status.status = 'Cancelled' then
    if v_before.status = 'Queued' and darkroom.holds_task(v_before, true) or darkroom.holds_task(v_before, false)
       or v_before.status in ('Queued', 'In Progress')
          and exists (select from public.tasks o where o.id = v_before.orchestrator_task_id and darkroom.holds_task(o, false)) then
      perform darkroom.close_tasks(v_before.owner_id, v_before.id, 'Cancelled', left(coalesce(v_text, 'Cancelled.'), 4000), 'cancelled');
    end if;
  elsif not darkroom.holds_task(v_before, false) then
    null;
  elsif update_task_status.status = 'Failed' then
    v_task := public.fail_task(v_before.id, v_text, retryable => coalesce(v_text ~ c_passing, false));
  elsif update_task_status.status = 'Queued' then
    if not darkroom.has_live_children(v_before.id) then
      v_task := public.fail_task(v_before.id, v_text, retryable => true);
    end if;
  elsif v_text is not null then
    update public.tasks t
    set progress = coalesce(t.progress, '{}') || jsonb_build_object('message', left(v_text, 1000)), updated_at = clock_timestamp()
    where t.id = v_before.id;
    -- Its tree may have been done before it said that it had made it.
    select c.* into v_child from public.tasks c
    where c.orchestrator_task_id = v_before.id and c.status = 'Complete' order by c.completed_at desc limit 1;
    if found then
      perform darkroom.finish_orchestrator(v_child);
    end if;
  end if;

  select t.* into v_task from public.tasks t where t.id = v_before.id;
  return jsonb_build_object('success', true, 'changed', v_task is distinct from v_before, 'task_id', v_task.id, 'status', v_task.status);
end
$$;
comment on function public.update_task_status is 'What a worker says of a task that it holds, by the token alone.';
revoke all on function public.update_task_status from public;
grant execute on function public.update_task_status to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/update_worker_model.sql
-- Notes in workers.info which model a worker has loaded; one that is not known is made known. Returns {"success": true}.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041.
create or replace function public.update_worker_model(worker_id text, model text)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id text := darkroom.meet_worker(update_worker_model.worker_id);
begin
  update public.workers w
  set info = case when jsonb_typeof(w.info) = 'object' then w.info else '{}' end || jsonb_build_object('model', left(update_worker_model.model, 200))
  where w.id = v_id;
  return jsonb_build_object('success', true);
end
$$;
comment on function public.update_worker_model is 'Notes which model a worker has loaded.';
revoke all on function public.update_worker_model from public;
grant execute on function public.update_worker_model to worker, service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/internal/worker_types.sql
-- Which types of task each worker may claim: those of its routes, or of them the ones that it named. A worker that may claim none has one row without type.
-- The claim and what explains it read this one.
create or replace view darkroom.worker_types with (security_invoker = true) as
select w.id as worker_id, w.owner_id, ty.name as task_type
from public.workers w left join public.task_types ty
  on (ty.route = 'any' or ty.route = any (w.capabilities)) and (w.task_types is null or ty.name = any (w.task_types));
comment on view darkroom.worker_types is 'Which types of task each worker may claim.';
grant select on darkroom.worker_types to service_role;
-- +goose StatementEnd

-- +goose StatementBegin
-- sql/invariant_violations.sql
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
-- +goose StatementEnd

-- +goose Down
set local check_function_bodies = off;

-- +goose StatementBegin
drop view public.invariant_violations;
-- +goose StatementEnd

-- +goose StatementBegin
drop view darkroom.worker_types;
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.update_worker_model(text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.update_task_status(uuid,text,text,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.update_shot_pair_prompts(uuid,uuid,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.tick_ready_mark(boolean);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.task_counts();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.sweep_tasks(integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.set_queue_limit(integer,uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.revoke_access_token(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.retry_task(uuid,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.requeue_expired_tasks(integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.report_progress(uuid,text,integer,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.repair_generations(uuid,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.release_task(uuid,text,integer,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.register_worker(text,text[],text[],interval,jsonb,boolean);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.purge_expired();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.process_completed_task(uuid,jsonb,text,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.orphaned_outputs(text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.mark_erasure_swept(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.list_workers();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.list_generations(uuid,uuid,integer,timestamp with time zone);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.list_audit(text,integer,bigint);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.list_access_tokens(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.heartbeat_worker(text,jsonb,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.grant_credits(uuid,numeric,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_task_status(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_task_output(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_task(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_predecessor_output(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_orchestrator_children(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_dependency_outputs(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_credits(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.get_completed_segments(text,uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.func_worker_heartbeat_with_logs(text,numeric,numeric,jsonb,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.fail_task(uuid,text,text,integer,boolean,interval);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.explain_task(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.expand_travel_orchestrator(uuid,text,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.erase_user(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.due_erasures();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_user(uuid,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_tasks(public.new_task[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_task(uuid,text,jsonb,uuid,text,jsonb,uuid[],text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_shot(uuid,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_project(uuid,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_generation_on_task_complete();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.create_access_token(text,text,interval,uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.complete_tasks(text,public.completion[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.complete_task(uuid,text,text,integer,jsonb,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.claim_next_tasks(text,integer,text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.claim_next_task(text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.claim_for_silent_worker(text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.check_completion(uuid,text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.cancel_task(uuid,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.calculate_task_cost(text,jsonb,text,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.broadcast_task_status_update();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.arm_event_bell();
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.admit_tasks(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function public.admit_due_tasks(integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.worker_seen(public.workers);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.worker_alive(public.workers,timestamp with time zone);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.whole_change(jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.wanted_types(text,text,text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.unpark_lanes(uuid,numeric);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.tasks_of_worker();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.tasks_before(public.tasks,text[],boolean);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.sign_in_account(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.set_aside(darkroom.task_ready);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.session_idle();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.rotate_events();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.ring_event_bell();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.revive_task(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.resolve_task_type(text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.requeue_task(public.tasks,text,text,interval);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.remember_deleted_generation();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.release_dependents(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.refuse_tokens();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.refuse_move();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.refuse_hold(public.tasks,text,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.refuse_erased(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.refuse_change();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.refill_lane(uuid,text,numeric,timestamp with time zone,bigint,boolean);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.reason(text,text,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.queue_place(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.purge();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.price_of(public.task_types,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.prepare_task();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.plain_email(text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.notify_workers(bigint);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.new_id();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.meet_worker(text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.lower_ready_mark(timestamp with time zone);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.lose_tasks(text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.log_row_change();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.log_ledger_entry();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.log_generation_error(public.tasks,text,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.lock_owner(uuid,boolean,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.lock_held_task(uuid,text,integer,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.lease_end(public.tasks,public.workers);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.known_task(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.insert_generations(public.tasks[],text[],uuid[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.in_words(timestamp with time zone);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.holds_task(public.tasks,boolean);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.held_tasks(public.workers);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.has_live_children(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.forget_preview();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.finish_orchestrator(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.find_shot(public.tasks,text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.fill_shot_generation();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.fill_project();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.fill_generation();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.file_task(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.file_new_tasks(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.file_new_task();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.explain_running(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.explain_queued(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.explain_ended(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.expected_wait(public.tasks,darkroom.able_worker[],jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.ensure_user(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.end_attempt(public.tasks,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.drop_from_queue(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.close_tasks(uuid,uuid,text,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.claim_one(text,uuid,text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.check_travel(integer,jsonb,jsonb,jsonb,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.check_queue_room(uuid,bigint,boolean);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.check_params(public.task_types,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.check_output(public.tasks,text,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.caller_worker(text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.caller_token();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.caller_owner();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.audit_change();
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.as_uuid(jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.append_ledger(uuid,text,numeric,uuid,integer,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.account(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function darkroom.able_workers(public.tasks);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.worker_id(text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.vanished(uuid[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.uncounted_uploads(text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.uid();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.token_id();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.take_tokens(bytea,double precision,integer,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.take_lease(uuid,bytea,uuid,bigint);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.start_session(uuid,text,bytea);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.sign_up(text,text,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.rotate_session(bytea,bytea);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.role_limits();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.role();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.realtime_tables();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.readable_by(text[],text[],integer[],uuid[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.readable(uuid[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.read_events(text,pg_snapshot,pg_snapshot,bigint,bigint,uuid,uuid,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.open_event_log();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.note_worker(text,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.login_fault();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.lapsed_uploads();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.keep_leases(uuid,text,uuid[],bigint[],text[],boolean[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.jwt();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.identify_token(bytea);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.holds_attempt(uuid,uuid,integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.give_back_task(uuid,text,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.finish_upload(text,uuid,bigint,text,text,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.event_floor();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.event_epoch();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.ended_sessions(uuid[],uuid[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.end_sessions(uuid,uuid,text);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.end_leases(uuid,uuid[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.drop_full_buckets(integer);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.drop_child(uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.describe_uploads(text[]);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.describe_api();
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.credentials_of(text,uuid);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.change_account(uuid,uuid,text,text,jsonb);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.begin_upload(text,bigint,bigint,interval);
-- +goose StatementEnd

-- +goose StatementBegin
drop function auth.account_of(uuid,uuid);
-- +goose StatementEnd
