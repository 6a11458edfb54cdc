-- Notes that the files of an erased user were deleted just now, and returns the erasure. Raises TD025 (the user is not among the erased), TD041 (a
-- worker with a token). Workers and the service may call it.
create or replace function public.mark_erasure_swept(user_id uuid)
returns public.erasure
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_erasure darkroom.erasures;
begin
  perform darkroom.refuse_tokens();
  update darkroom.erasures e set swept_at = clock_timestamp() where e.owner_id = mark_erasure_swept.user_id returning e.* into v_erasure;
  if not found then
    raise exception 'User not found' using errcode = 'TD025', detail = format('User %s was not erased lately.', mark_erasure_swept.user_id);
  end if;
  return (v_erasure.owner_id, v_erasure.requested_at, v_erasure.swept_at)::public.erasure;
end
$$;
comment on function public.mark_erasure_swept is 'Notes that the files of an erased user are deleted.';
revoke all on function public.mark_erasure_swept from public;
grant execute on function public.mark_erasure_swept to worker, service_role;
