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
