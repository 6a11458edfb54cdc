-- Which types of task each worker may claim: those of its routes, or of them the ones that it named. A worker that may claim none has one row without type.
-- The claim and what explains it read this one.
create or replace view darkroom.worker_types with (security_invoker = true) as
select w.id as worker_id, w.owner_id, ty.name as task_type
from public.workers w left join public.task_types ty
  on (ty.route = 'any' or ty.route = any (w.capabilities)) and (w.task_types is null or ty.name = any (w.task_types));
comment on view darkroom.worker_types is 'Which types of task each worker may claim.';
grant select on darkroom.worker_types to service_role;
