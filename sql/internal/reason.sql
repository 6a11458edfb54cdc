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
