-- Called for a row that enters the claim's sight with this created_at. The mark stays some seconds behind now, so a young
-- row needs nothing. For an older one the mark is lowered, and a shared lock held to the end of the transaction keeps
-- ticks, which do not see the row before it is committed, from raising it again. Returns whether the row was older.
create or replace function darkroom.lower_ready_mark(p_created_at timestamptz)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_mark_lock constant bigint := 7235433876402729074;
  v_micros bigint;
begin
  if p_created_at > clock_timestamp() - interval '200 milliseconds' then
    return false;
  end if;
  v_micros := (extract(epoch from p_created_at) * 1000000)::bigint - 1;
  perform pg_advisory_xact_lock_shared(c_mark_lock);
  if (select m.last_value from darkroom.ready_mark m) > v_micros then
    perform setval('darkroom.ready_mark', greatest(v_micros, 0));
  end if;
  return true;
end
$$;
comment on function darkroom.lower_ready_mark is 'Keeps the ready mark at or below a row that enters the claim''s sight late.';
revoke all on function darkroom.lower_ready_mark from public;
