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
