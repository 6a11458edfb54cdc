-- Refuses travel details that do not fit together, each with a sentence: TD003.
create or replace function darkroom.check_travel(p_n integer, p_images jsonb, p_frames jsonb, p_overlaps jsonb, p_seed jsonb)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wrong text;
begin
  if jsonb_typeof(p_images) is distinct from 'array' or jsonb_array_length(p_images) <> p_n + 1
     or exists (select from jsonb_array_elements(p_images) i where jsonb_typeof(i) <> 'string' or i = '""') then
    v_wrong := format('input_image_paths_resolved must list %s image locations, one more than segments', p_n + 1);
  elsif jsonb_typeof(p_frames) <> 'array' or jsonb_array_length(p_frames) <> p_n
     or exists (select from jsonb_array_elements_text(p_frames) f
                where coalesce(f, '') !~ '^[0-9]{1,4}$' or f::integer not between 2 and 1000) then
    v_wrong := format('segment_frames_expanded must list %s frame counts from 2 to 1000', p_n);
  elsif jsonb_typeof(p_overlaps) <> 'array' or jsonb_array_length(p_overlaps) <> p_n - 1
     or exists (select from jsonb_array_elements_text(p_overlaps) with ordinality as o (v, place)
                where coalesce(o.v, '') !~ '^[0-9]{1,4}$'
                   or o.v::integer >= least((p_frames ->> (o.place - 1)::integer)::integer, (p_frames ->> o.place::integer)::integer)) then
    v_wrong := format('frame_overlap_expanded must list %s overlaps, each shorter than its two segments', p_n - 1);
  elsif jsonb_typeof(p_seed) not in ('number', 'null') then
    v_wrong := 'seed_base must be a number';
  end if;
  if v_wrong is not null then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('orchestrator_details.%s.', v_wrong);
  end if;
end
$$;
comment on function darkroom.check_travel is 'Refuses travel details that do not fit together.';
revoke all on function darkroom.check_travel from public;
