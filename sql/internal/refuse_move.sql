-- Trigger before update, when a row would get another id or go to another project: raises TD041. So apps may write whole rows back, as an upsert does,
-- and what refers to a row stays right.
create or replace function darkroom.refuse_move()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'Not allowed' using errcode = 'TD041', detail = 'A row keeps its id, and a shot its project.',
    hint = 'Make a new one where it should be.';
end
$$;
comment on function darkroom.refuse_move is 'Refuses that a row gets another id or project.';
revoke all on function darkroom.refuse_move from public;
