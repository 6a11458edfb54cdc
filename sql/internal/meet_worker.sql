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
