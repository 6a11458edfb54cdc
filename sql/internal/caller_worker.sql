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
