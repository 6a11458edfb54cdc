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
