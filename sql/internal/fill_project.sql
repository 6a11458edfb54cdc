-- Trigger before insert on projects: whoever is signed in owns what they make; the service names the owner.
create or replace function darkroom.fill_project()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_caller uuid := darkroom.caller_owner();
begin
  if v_caller is not null then
    new.owner_id := v_caller;
    perform darkroom.ensure_user(v_caller);
  end if;
  return new;
end
$$;
comment on function darkroom.fill_project is 'Sets the owner of a new project.';
revoke all on function darkroom.fill_project from public;
