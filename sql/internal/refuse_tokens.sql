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
