-- The sample's own type of task, which no program runs: a person does, with psql (worker.sql).
insert into public.task_types (name, route, result_type, base_price, required_params) values ('by_hand', 'by_hand', 'image', 1, '{prompt}')
on conflict do nothing;
insert into public.tools (tool_id, task_type) values ('by-hand', 'by_hand') on conflict do nothing;
