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
