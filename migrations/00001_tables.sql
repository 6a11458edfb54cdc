-- +goose Up
-- Schemas, roles, tables. Functions live in sql/ and are frozen into the next files.
--
-- public    what apps see: projects, shots, generations, tasks, credits, workers, the API functions
-- auth      who calls, and what the gateway needs to find that out
-- darkroom  what only our functions touch: the claim queue, the event log, bookkeeping

-- Roles are shared by the whole cluster, so another database may have made them already. A request runs as one of the first four; the gateway
-- logs in as a member of authenticator, which by itself may do nothing but become one of them and find out which.
-- Their limits hold for those who become them through the gateway.
-- +goose StatementBegin
do $$
declare
  v_role record;
begin
  for v_role in
    select * from (values ('anon', '3s'), ('authenticated', '8s'), ('worker', '12s'), ('service_role', '12s')) as r (name, statement_timeout)
  loop
    begin
      execute format('create role %I nologin', v_role.name);
      execute format('alter role %I set statement_timeout = %L', v_role.name, v_role.statement_timeout);
      execute format('alter role %I set lock_timeout = ''5s''', v_role.name);
      execute format('alter role %I set idle_in_transaction_session_timeout = ''15s''', v_role.name);
    exception when duplicate_object or unique_violation then
      null;
    end;
  end loop;
  begin
    create role authenticator nologin noinherit;
    grant anon, authenticated, worker, service_role to authenticator;
  exception when duplicate_object or unique_violation then
    null;
  end;
end
$$;
-- +goose StatementEnd

-- Databases that began before PostgreSQL 15 let everybody make things here.
revoke create on schema public from public;

create schema darkroom;
revoke all on schema darkroom from public;
create schema auth;
revoke all on schema auth from public;
grant usage on schema auth to anon, authenticated, worker, service_role, authenticator;

-- gateway and workerd look at what is pending before they start.
grant select on public.goose_db_version to worker, service_role, authenticator;

-- People, projects, shots ------------------------------------------------------------------------

create table public.users (
  id uuid primary key default gen_random_uuid(),
  email text,
  storage_quota bigint default 10737418240,
  created_at timestamptz not null default clock_timestamp(),
  constraint a_quota_is_not_negative check (storage_quota >= 0)
);
comment on column public.users.storage_quota is 'Bytes that their uploads may have together; null: as many as they like. What workers make does not count.';
comment on table public.users is 'Who owns projects and credits. The id is the `sub` of their tokens.';

create table public.projects (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null references public.users (id),
  name text not null default '',
  created_at timestamptz not null default clock_timestamp()
);
create index projects_by_owner on public.projects (owner_id);

create table public.shots (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id),
  name text not null default '',
  created_at timestamptz not null default clock_timestamp()
);
create index shots_by_project on public.shots (project_id);

-- Personal access tokens: what workers and scripts send instead of a password. Only a hash is kept.
create table darkroom.access_tokens (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid references public.users (id),
  scope text not null,
  label text not null default '',
  prefix text not null,
  hash bytea not null unique,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  constraint scope_is_worker_or_user check (scope in ('worker', 'user')),
  constraint only_workers_are_of_nobody check (owner_id is not null or scope = 'worker')
);
comment on column darkroom.access_tokens.owner_id is 'Who it acts for; null: a worker that runs everybody''s tasks.';
comment on column darkroom.access_tokens.prefix is 'Its first characters, for people to know it by.';
comment on column darkroom.access_tokens.hash is 'SHA-256. The token has 244 random bits, so that nothing slower is needed.';
create index access_tokens_by_owner on darkroom.access_tokens (owner_id, created_at desc);

-- Sign-in with a password. A session lives by refresh tokens that follow each other; used ones are kept, so that one that comes back is known.
create table darkroom.credentials (
  user_id uuid primary key references public.users (id) on delete cascade,
  email text not null unique,
  password_hash text not null,
  user_metadata jsonb not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  last_sign_in_at timestamptz,
  constraint an_email_is_short check (length(email) between 3 and 254),
  constraint user_metadata_is_an_object check (jsonb_typeof(user_metadata) = 'object')
);
comment on column darkroom.credentials.email is 'As darkroom.plain_email has it.';
comment on column darkroom.credentials.password_hash is 'bcrypt, as the gateway made it.';
comment on column darkroom.credentials.user_metadata is 'What the user says; decides nothing.';

create table darkroom.sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references darkroom.credentials (user_id) on delete cascade,
  started_at timestamptz not null default clock_timestamp(),
  used_at timestamptz not null default clock_timestamp()
);
create index sessions_by_user on darkroom.sessions (user_id, used_at desc);

create table darkroom.refresh_tokens (
  hash bytea primary key,
  session_id uuid not null references darkroom.sessions (id) on delete cascade,
  used_at timestamptz
);
comment on column darkroom.refresh_tokens.hash is 'SHA-256. The token has 256 bits that nobody can guess.';
create index refresh_tokens_by_session on darkroom.refresh_tokens (session_id);

-- Users whose rows are gone and whose files are being deleted.
create table darkroom.erasures (
  owner_id uuid primary key,
  requested_at timestamptz not null default clock_timestamp(),
  swept_at timestamptz
);
comment on column darkroom.erasures.swept_at is 'When their files were last looked for and deleted; null: not yet.';

-- The uploads in storage: everything there that is not below {owner}/tasks. A row is reserved before the bytes come, so that uploads side by
-- side stay within the quota, and while it is reserved nobody else writes or deletes its object. It counts as the greater of what is stored
-- and what may be. When whoever reserved it is gone, lapsed_uploads() gives the row to somebody who looks what is stored.
create table darkroom.uploads (
  key text primary key,
  owner_id uuid references public.users (id),
  bytes bigint,
  content_type text,
  cache_control text,
  metadata jsonb,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  reservation uuid,
  reserved bigint,
  reserved_until timestamptz,
  constraint a_reservation_is_whole check ((reservation is null) = (reserved is null) and (reservation is null) = (reserved_until is null)),
  constraint a_row_has_an_object_or_a_reservation check (bytes is not null or reservation is not null)
);
comment on column darkroom.uploads.owner_id is 'The user whose id is the first part of the key; null where it is no id.';
comment on column darkroom.uploads.bytes is 'What is stored; null: nothing yet.';
comment on column darkroom.uploads.cache_control is 'As the header has it; null: the gateway''s own.';
create index uploads_by_owner on darkroom.uploads (owner_id);
create index uploads_reserved on darkroom.uploads (reserved_until) where reserved_until is not null;

-- What can be asked for: data, not code ----------------------------------------------------------

create table public.task_types (
  name text primary key,
  route text not null default 'any',
  result_type text,
  base_price numeric(12, 3) not null default 0,
  unit_price numeric(12, 3) not null default 0,
  unit_path text,
  max_units integer not null default 200,
  required_params text[] not null default '{}',
  shot_id_paths text[] not null default '{}',
  max_attempts integer not null default 3,
  enabled boolean not null default true,
  constraint a_result_is_an_image_or_a_video check (result_type in ('image', 'video')),
  constraint prices_are_not_negative check (base_price >= 0 and unit_price >= 0 and 'NaN' not in (base_price, unit_price)),
  constraint a_unit_price_needs_a_path check (unit_price = 0 or unit_path is not null),
  constraint at_least_one_attempt check (max_attempts >= 1)
);
comment on table public.task_types is 'One row per kind of task: price, who may run it, what it makes.';
comment on column public.task_types.route is 'any: every worker. Otherwise the capability that a worker must have said it has.';
comment on column public.task_types.result_type is 'Kind of generation that a finished task becomes; null makes none.';
comment on column public.task_types.unit_path is 'Dotted path in params to the number of units that unit_price is charged for.';
comment on column public.task_types.required_params is 'Dotted paths that must be present and not null in params.';
comment on column public.task_types.shot_id_paths is 'Dotted paths in params where a shot id may stand; the first one that is a uuid counts.';
comment on column public.task_types.max_attempts is 'Attempts that may fail or be lost before the task is Failed. Releases do not count.';

create table public.tools (
  tool_id text primary key,
  task_type text not null references public.task_types (name)
);
comment on table public.tools is 'Maps what an app calls a tool to the type of task it makes.';

insert into public.task_types (name, route, result_type, base_price, unit_price, unit_path, required_params, shot_id_paths) values
  ('single_image', 'any', 'image', 1, 0, null, '{prompt}',
   '{shot_id,full_orchestrator_payload.shot_id,orchestrator_details.shot_id,originalParams.orchestrator_details.shot_id,orchestration_contract.shot_id}'),
  ('travel_orchestrator', 'wan2gp', null, 0, 5, 'orchestrator_details.num_new_segments_to_generate',
   '{orchestrator_details.num_new_segments_to_generate}', '{}'),
  ('travel_segment', 'wan2gp', null, 5, 0, null, '{}', '{}'),
  ('travel_stitch', 'wan2gp', 'video', 1, 0, null, '{}',
   '{full_orchestrator_payload.shot_id,orchestrator_details.shot_id,originalParams.orchestrator_details.shot_id,orchestration_contract.shot_id,shot_id}');

insert into public.tools (tool_id, task_type) values
  ('image-generation', 'single_image'),
  ('travel-between-images', 'travel_orchestrator');

-- Tasks ------------------------------------------------------------------------------------------

-- The wide row of the spec and the truth about a task. It is never scanned for claiming.
create table public.tasks (
  id uuid primary key,
  job_no bigint generated always as identity,
  owner_id uuid not null,
  project_id uuid not null references public.projects (id),
  task_type text not null references public.task_types (name),
  tool_id text,
  status text not null default 'Queued',
  params jsonb not null default '{}',
  dependant_on uuid[],
  orchestrator_task_id uuid,
  cost numeric(12, 3) not null,
  idempotency_key text,
  attempt integer not null default 0,
  failed_attempts integer not null default 0,
  worker_id text,
  claimed_at timestamptz,
  run_after timestamptz,
  progress jsonb,
  output_location text,
  thumbnail_url text,
  metadata jsonb not null default '{}',
  error_message text,
  generation_created boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  completed_at timestamptz,
  constraint status_is_one_of_five check (status in ('Queued', 'In Progress', 'Complete', 'Failed', 'Cancelled')),
  constraint a_cost_is_a_number_of_credits check (cost >= 0 and cost <> 'NaN'),
  constraint a_running_task_has_a_worker check (status <> 'In Progress' or (worker_id is not null and claimed_at is not null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
comment on column public.tasks.job_no is 'Order of creation; breaks ties of created_at. workerd gives it to River negated.';
comment on column public.tasks.owner_id is 'Owner of the project, copied here: every lock and ledger entry of a task is by owner.';
comment on column public.tasks.orchestrator_task_id is 'The travel_orchestrator whose tree this task belongs to; its cost covers the tree.';
comment on column public.tasks.attempt is 'The fence: grows with each claim. What carries an older one changes nothing.';
comment on column public.tasks.failed_attempts is 'Attempts that failed or were lost; capped by task_types.max_attempts.';
comment on column public.tasks.run_after is 'A retry waits until then.';
comment on column public.tasks.progress is '{"percent","value","max","phase","preview"} as last reported by the attempt.';

-- Named in the spec. Serves the debug checklist, the sweep and counts; claiming reads darkroom.task_ready.
create index tasks_by_status_created on public.tasks (status, created_at);
-- The task list of a project, newest first.
create index tasks_by_project on public.tasks (project_id, created_at desc);
-- Leases: who holds what.
create index tasks_in_progress on public.tasks (worker_id, claimed_at) where status = 'In Progress';
create index tasks_of_orchestrator on public.tasks (orchestrator_task_id) where orchestrator_task_id is not null;
create unique index tasks_idempotency_key on public.tasks (owner_id, idempotency_key) where idempotency_key is not null;
-- Finished tasks whose generation is still to be made: repair_generations().
create index tasks_without_generation on public.tasks (task_type, completed_at) where status = 'Complete' and not generation_created;

-- A row per attempt, written when the attempt ends.
create table public.task_attempts (
  owner_id uuid not null,
  task_id uuid not null,
  attempt integer not null,
  worker_id text not null,
  claimed_at timestamptz not null,
  ended_at timestamptz not null default clock_timestamp(),
  outcome text not null,
  error text,
  primary key (task_id, attempt),
  constraint outcome_is_known check (outcome in ('complete', 'failed', 'expired', 'lost', 'released', 'cancelled'))
);
comment on column public.task_attempts.outcome is
  'complete; failed: the worker said so; expired: its lease ran out; lost: the worker started anew; released: given back, not counted; cancelled.';

create table public.workers (
  id text primary key,
  token_id uuid references darkroom.access_tokens (id),
  name text,
  owner_id uuid references public.users (id),
  capabilities text[] not null default '{}',
  task_types text[],
  lease_timeout interval not null default interval '30 minutes',
  running uuid[],
  last_heartbeat timestamptz,
  info jsonb not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  constraint a_worker_id_is_short check (length(id) between 1 and 220),
  constraint a_token_has_one_worker_of_a_name unique (token_id, name),
  constraint a_worker_of_a_token_has_a_name check ((token_id is null) = (name is null)),
  constraint a_lease_is_between_a_second_and_a_day check (lease_timeout between interval '1 second' and interval '1 day')
) with (fillfactor = 50);
create index workers_by_owner on public.workers (owner_id) where owner_id is not null;
comment on column public.workers.token_id is 'The token that it calls with; null: it logs in to the database, and is trusted.';
comment on column public.workers.name is 'What it calls itself. The id is the same, but where another worker has that already.';
comment on column public.workers.owner_id is 'The only user whose tasks it runs; null: everybody''s.';
comment on column public.workers.capabilities is 'Routes the worker can serve besides `any`, e.g. {wan2gp}.';
comment on column public.workers.task_types is 'The only types it wants; null means every type its capabilities allow.';
comment on column public.workers.lease_timeout is 'A task is held this long after the later of its claim and the worker''s last heartbeat.';
comment on column public.workers.info is 'What the worker says of itself, for people: engines, slots. Nothing reads it.';
comment on column public.workers.running is 'Tasks named in the last heartbeat; null when the worker names none, then the heartbeat covers all it holds.';

-- Credits ----------------------------------------------------------------------------------------

-- Append-only, and kept when a user is gone. The newest row of an owner is the account: balance_after and held_after.
create table public.credit_ledger (
  owner_id uuid not null,
  seq bigint not null,
  kind text not null,
  amount numeric(12, 3) not null,
  balance_after numeric(15, 3) not null,
  held_after numeric(15, 3) not null,
  task_id uuid,
  attempt integer,
  idempotency_key text,
  note text,
  created_at timestamptz not null default clock_timestamp(),
  primary key (owner_id, seq),
  constraint entry_is_grant_hold_settle_or_release check (kind in ('grant', 'hold', 'settle', 'release')),
  constraint an_amount_is_a_positive_number check (amount > 0 and amount <> 'NaN'),
  constraint available_is_never_negative check (balance_after >= held_after and held_after >= 0),
  constraint all_but_grants_name_their_attempt check (kind = 'grant' or (task_id is not null and attempt is not null))
);
create unique index one_settle_per_task on public.credit_ledger (task_id) where kind = 'settle';
create unique index one_release_per_attempt on public.credit_ledger (task_id, attempt) where kind = 'release';
create unique index one_grant_per_key on public.credit_ledger (owner_id, idempotency_key) where idempotency_key is not null;

-- Generations ------------------------------------------------------------------------------------

create table public.generations (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null,
  project_id uuid not null references public.projects (id),
  type text not null,
  location text,
  thumbnail_url text,
  params jsonb not null default '{}',
  metadata jsonb not null default '{}',
  tasks jsonb not null default '[]',
  source_task_id uuid,
  created_at timestamptz not null default clock_timestamp(),
  constraint a_generation_is_an_image_or_a_video check (type in ('image', 'video')),
  constraint one_generation_per_task unique (source_task_id)
);
comment on column public.generations.tasks is 'JSON array with the id of the task that made it: tasks @> ''["<id>"]'' finds it.';
create index generations_by_project on public.generations (project_id, created_at desc);
create index generations_by_task on public.generations using gin (tasks jsonb_path_ops) with (fastupdate = off);

create table public.shot_generations (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null,
  project_id uuid not null,
  shot_id uuid not null references public.shots (id) on delete cascade,
  generation_id uuid not null references public.generations (id) on delete cascade,
  position integer,
  created_at timestamptz not null default clock_timestamp()
);
comment on column public.shot_generations.position is 'Place in the shot; null means unpositioned.';
create index shot_generations_by_shot on public.shot_generations (shot_id, position);
create index shot_generations_by_generation on public.shot_generations (generation_id, shot_id);

-- Generations of tasks that somebody deleted.
create table darkroom.deleted_generations (
  task_id uuid primary key,
  owner_id uuid not null,
  generation_id uuid not null,
  deleted_at timestamptz not null default clock_timestamp()
);

-- Why a finished task has no generation, or a generation no shot.
create table public.generation_errors (
  id bigint generated always as identity primary key,
  owner_id uuid not null,
  task_id uuid not null,
  step text not null,
  sqlstate text,
  message text not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint step_is_generation_or_shot_link check (step in ('generation', 'shot_link'))
);
create index generation_errors_by_task on public.generation_errors (task_id);

-- The claim queue: hints. tasks is the truth ----------------------------------------------------

-- A lane is (owner_id, task_type, cost). A Queued task stands in exactly one of the four tables below.

-- Per lane the window of its oldest runnable tasks.
create table darkroom.task_ready (
  owner_id uuid not null,
  task_type text not null,
  cost numeric(12, 3) not null,
  created_at timestamptz not null,
  job_no bigint not null,
  task_id uuid not null,
  parked boolean not null default false,
  primary key (owner_id, task_type, cost, created_at, job_no)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on column darkroom.task_ready.parked is 'The owner cannot pay for this lane now; the claim does not see it.';
create index task_ready_pick on darkroom.task_ready (task_type, created_at, job_no) where not parked;
create index task_ready_parked on darkroom.task_ready (owner_id, cost) where parked;

-- The rest of each lane: always younger than all of the lane's ready rows.
create table darkroom.task_backlog (
  owner_id uuid not null,
  task_type text not null,
  cost numeric(12, 3) not null,
  created_at timestamptz not null,
  job_no bigint not null,
  task_id uuid not null,
  primary key (owner_id, task_type, cost, created_at, job_no)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Queued tasks that wait for others, one row per unfinished dependency.
create table darkroom.task_deps (
  owner_id uuid not null,
  dep_id uuid not null,
  task_id uuid not null,
  primary key (dep_id, task_id)
);
create index task_deps_by_task on darkroom.task_deps (task_id);

-- Queued tasks whose retry is not due yet.
create table darkroom.task_delayed (
  owner_id uuid not null,
  task_id uuid primary key,
  run_after timestamptz not null
);
create index task_delayed_due on darkroom.task_delayed (run_after);

-- Both tables are also counted by owner.
create index task_deps_by_owner on darkroom.task_deps (owner_id);
create index task_delayed_by_owner on darkroom.task_delayed (owner_id);

-- How many queued tasks an owner may have, and what the last count of them found. See darkroom.check_queue_room.
create table darkroom.queue_settings (
  only_row boolean primary key default true check (only_row),
  max_queued integer not null default 10000,
  constraint an_owner_may_queue_something check (max_queued > 0)
);
insert into darkroom.queue_settings default values;
create table darkroom.queue_room (
  owner_id uuid primary key,
  max_queued integer,
  from_job_no bigint,
  to_job_no bigint,
  constraint an_owner_may_queue_something check (max_queued > 0)
);
comment on column darkroom.queue_room.max_queued is 'Null: what holds for everybody.';
comment on column darkroom.queue_room.to_job_no is 'All of the owner''s tasks from from_job_no to here fit; null: count.';

-- Lower bound, in microseconds since 1970, of created_at of the ready rows that are not parked. A sequence, because it
-- must move without leaving dead rows. tick_ready_mark() moves it; a claim starts reading there.
-- It and the next three are unlogged, so that who moves them waits for no disk. After a crash they begin anew: a low mark hides nothing, a whole
-- tick is due, and who listened is gone.
create unlogged sequence darkroom.ready_mark minvalue 0 start 0;
-- When the next whole tick is due, in microseconds since 1970: one for all who call it.
create unlogged sequence darkroom.whole_tick minvalue 0 start 0;

-- Doorbells: 2 = armed, somebody listens and wants to be woken; 1 = silent. Rung at most once per arming.
create unlogged sequence darkroom.worker_bell minvalue 1 maxvalue 2 start 1;
create unlogged sequence darkroom.event_bell minvalue 1 maxvalue 2 start 1;

-- What the repairs had to mend. It should stay empty: each row is a fault of ours.
create table darkroom.queue_repairs (
  id bigint generated always as identity primary key,
  owner_id uuid not null,
  task_id uuid not null,
  fault text not null,
  created_at timestamptz not null default clock_timestamp()
);

-- When leases were last looked at: after a gap, workers get time to be heard before anything is requeued.
create table darkroom.lease_watch (
  only_row boolean primary key default true check (only_row),
  last_run timestamptz not null,
  resumed_at timestamptz not null
);
insert into darkroom.lease_watch (last_run, resumed_at) values ('-infinity', '-infinity');

-- Limits of rate: one row per bucket that is not full. Not logged: after a crash all buckets are full. The bucket is a hash of who takes from it.
create unlogged table darkroom.rate_buckets (
  bucket bytea primary key,
  full_at timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The event log -----------------------------------------------------------------------------------

-- Read in the order in which transactions commit: xid says which transaction wrote an event, and a reader remembers the snapshot it has read up
-- to (auth.read_events). Eight partitions are filled one after the other; the oldest is emptied when it is its turn again (darkroom.rotate_events).
create sequence darkroom.task_events_id;
create sequence darkroom.event_slot minvalue 0 maxvalue 7 start 0;
create table darkroom.task_events (
  id bigint not null default nextval('darkroom.task_events_id'),
  xid xid8 not null default pg_current_xact_id(),
  slot integer not null,
  owner_id uuid not null,
  project_id uuid,
  table_name text not null,
  kind text not null,
  row_id text not null,
  data jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (xid, id, slot)
) partition by list (slot);
alter sequence darkroom.task_events_id owned by darkroom.task_events.id;
create table darkroom.task_events_0 partition of darkroom.task_events for values in (0);
create table darkroom.task_events_1 partition of darkroom.task_events for values in (1);
create table darkroom.task_events_2 partition of darkroom.task_events for values in (2);
create table darkroom.task_events_3 partition of darkroom.task_events for values in (3);
create table darkroom.task_events_4 partition of darkroom.task_events for values in (4);
create table darkroom.task_events_5 partition of darkroom.task_events for values in (5);
create table darkroom.task_events_6 partition of darkroom.task_events for values in (6);
create table darkroom.task_events_7 partition of darkroom.task_events for values in (7);
comment on table darkroom.task_events is
  'Every change of tasks, generations, shots, shot_generations, projects and credits, written in the transaction that makes it.';
comment on column darkroom.task_events.data is
  'INSERT: of a task and of an entry of the ledger nothing, of a task''s generation and of a link what stands in no other column, else the row. UPDATE: of a task what can change and is not as in a new one, else the row. DELETE: the row as it was, of a task without params.';
comment on column darkroom.task_events.slot is 'The partition: what the sequence event_slot says.';
-- What an owner missed.
create index task_events_by_owner on darkroom.task_events (owner_id, id);

create table darkroom.event_log (
  only_row boolean primary key default true check (only_row),
  keep interval not null default interval '7 days',
  slot_since timestamptz not null default clock_timestamp(),
  trimmed_xid xid8 not null default '0',
  trimmed_at timestamptz not null default '-infinity',
  origin text not null default '',
  constraint events_are_kept_for_a_while check (keep >= interval '1 minute')
);
insert into darkroom.event_log default values;
comment on column darkroom.event_log.keep is 'How long events stay at least: so long may a browser be away and miss nothing.';
comment on column darkroom.event_log.trimmed_xid is 'No event of a later transaction was removed.';
comment on column darkroom.event_log.trimmed_at is 'No event later than this was removed.';
comment on column darkroom.event_log.origin is 'Where the transaction numbers in the log are from. See auth.open_event_log.';

-- Realtime subscriptions, so that a browser whose connection broke goes on where it was, also at another gateway. See auth.take_lease.
create table darkroom.realtime_gateways (
  id uuid primary key,
  position text not null,
  seen_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
comment on column darkroom.realtime_gateways.position is 'What subscriptions without a position of their own have received, at least.';
create table darkroom.realtime_leases (
  id uuid primary key default gen_random_uuid(),
  key bytea not null,
  owner_id uuid,
  gateway_id uuid not null,
  last_ref bigint not null,
  position text,
  came_from uuid,
  lost_at timestamptz,
  updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 70);
create index realtime_leases_by_key on darkroom.realtime_leases (key);
comment on column darkroom.realtime_leases.key is 'Hash of who subscribed to what.';
comment on column darkroom.realtime_leases.owner_id is 'The user; null: the service.';
comment on column darkroom.realtime_leases.last_ref is 'The last message number that the client used, or somewhat less.';
comment on column darkroom.realtime_leases.position is 'What it has received, at least; null: as far as its gateway.';
comment on column darkroom.realtime_leases.came_from is 'The lease whose place it began from, while that was not known to have lost its connection.';
comment on column darkroom.realtime_leases.lost_at is 'When its connection broke; null: it has one, if its gateway lives.';

-- Who changed what only the service may change: users, tokens, prices, tools, granted credits. Triggers write it, and refuse every change to it.
-- No foreign keys: it outlives what it tells of.
create table darkroom.audit_log (
  id bigint generated always as identity primary key,
  created_at timestamptz not null default clock_timestamp(),
  login text not null,
  role text not null,
  subject uuid,
  token_id uuid,
  act text not null,
  object text not null,
  target text not null,
  details jsonb not null,
  constraint act_is_insert_update_or_delete check (act in ('INSERT', 'UPDATE', 'DELETE'))
);
comment on table darkroom.audit_log is 'Append-only: who changed users, tokens, prices and tools, and who granted credits.';
comment on column darkroom.audit_log.login is 'The database login: the gateway''s, or a person''s.';
comment on column darkroom.audit_log.role is 'The role as which it was done.';
comment on column darkroom.audit_log.subject is 'The user in the claims, if any.';
comment on column darkroom.audit_log.details is 'INSERT, DELETE: the row, without secrets and addresses of people. UPDATE: what became of the columns that changed.';
create index audit_log_by_target on darkroom.audit_log (target, id desc);

-- Shapes that functions take and return -----------------------------------------------------------

create type public.new_access_token as (id uuid, token text, scope text, label text, expires_at timestamptz);
create type public.access_token as (
  id uuid, owner_id uuid, scope text, label text, prefix text, created_at timestamptz, expires_at timestamptz, revoked_at timestamptz,
  last_used_at timestamptz
);
create type public.new_task as (
  project_id uuid,
  tool_id text,
  input jsonb,
  task_id uuid,
  task_type text,
  params jsonb,
  dependant_on uuid[],
  idempotency_key text
);
create type public.completion as (
  task_id uuid,
  attempt integer,
  output_location text,
  metadata jsonb,
  thumbnail_url text
);
create type public.completion_result as (task_id uuid, status text, error_code text, error_message text);
create type public.heartbeat_verdict as (task_id uuid, attempt integer, verdict text);
create type public.credit_account as (owner_id uuid, balance numeric, held numeric, available numeric);
create type public.dependency_output as (
  ordinal integer, task_id uuid, task_type text, output_location text, params jsonb, metadata jsonb
);
create type public.erasure as (user_id uuid, requested_at timestamptz, swept_at timestamptz);
create type public.sweep_report as (checked integer, repaired integer, admitted integer);
create type public.task_explanation as (
  task_id uuid, status text, runnable boolean, reasons jsonb, queue_position bigint, expected_start timestamptz
);
create type public.worker_status as (
  id text, alive boolean, last_heartbeat timestamptz, task_types text[], capabilities text[], info jsonb, running jsonb
);
create type darkroom.able_worker as (
  id text, own boolean, seen timestamptz, alive boolean, usable boolean, engine jsonb, slots integer, running integer, task_types text[]
);
create type darkroom.tasks_before as (total bigint, own bigint, more boolean, by_type jsonb);
create type public.audit_entry as (
  id bigint, created_at timestamptz, login text, role text, subject uuid, token_id uuid, act text, object text, target text, details jsonb
);

-- +goose Down
drop schema auth cascade;
drop schema darkroom cascade;
drop table public.generation_errors, public.shot_generations, public.generations, public.credit_ledger, public.workers,
  public.task_attempts, public.tasks, public.tools, public.task_types, public.shots, public.projects, public.users cascade;
drop type public.new_task;
drop type public.completion;
drop type public.completion_result;
drop type public.heartbeat_verdict;
drop type public.credit_account;
drop type public.dependency_output;
drop type public.sweep_report;
drop type public.audit_entry;
drop type public.task_explanation;
drop type public.worker_status;
drop type public.new_access_token;
drop type public.access_token;
drop type public.erasure;
