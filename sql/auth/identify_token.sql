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
