-- Trigger before update on tasks, when an attempt that shows a preview has ended: takes progress.preview away. Its worker deletes the picture, which
-- was of something unfinished.
create or replace function darkroom.forget_preview()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  new.progress := new.progress - 'preview';
  return new;
end
$$;
comment on function darkroom.forget_preview is 'Takes the preview from the progress of a task that does not run any more.';
revoke all on function darkroom.forget_preview from public;
