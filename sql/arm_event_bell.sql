-- Asks that the next change written to the event log rings NOTIFY darkroom_events, once. For listeners: arm, read the log, wait,
-- and arm again some 20 ms later. Poll besides: a rollback swallows a ring.
create or replace function public.arm_event_bell()
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform darkroom.refuse_tokens();
  if (select b.last_value from darkroom.event_bell b) <> 2 then
    perform setval('darkroom.event_bell', 2);
  end if;
end
$$;
comment on function public.arm_event_bell is 'Asks for one NOTIFY when the event log next grows.';
revoke all on function public.arm_event_bell from public;
grant execute on function public.arm_event_bell to worker, service_role;
