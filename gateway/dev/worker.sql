-- Be a worker: psql runs these lines, and waits before the last one, so that you can look at the console.
-- Tasks of the type by_hand want the capability by_hand, which no program here has: they wait for a person.
\set ON_ERROR_STOP on
\set picture '{{.Picture}}'

\echo
\echo '1. select * from register_worker(''you'', ''{by_hand}'', ''{by_hand}'')   what it can do, and wants to do'
select id as worker from register_worker('you', capabilities => '{by_hand}', task_types => '{by_hand}', lease_timeout => interval '10 minutes') \gset

\echo '2. select * from claim_next_task(''you'')                        the oldest task that it may run; its cost is held now'
select max(id::text) as task, max(attempt) as attempt, max(params ->> 'prompt') as prompt, max(cost) as cost from claim_next_task('you') \gset
\if :{?task} \else
  -- You were here before: the sample's user asks for another.
  select id as asked from create_task(project_id => '{{.Project}}', tool_id => 'by-hand', input => '{"prompt": "a photograph of a cat"}') \gset
  select id as task, attempt, params ->> 'prompt' as prompt, cost from claim_next_task('you') \gset
\endif
\echo '   ' :task 'attempt' :attempt 'for' :cost 'credit(s):' :prompt
select report_progress(:'task', 'you', :attempt, '{"percent": 50, "phase": "looking for the camera"}') as nothing \gset

\unset ON_ERROR_STOP
\prompt '   It is In Progress, and yours for ten minutes. Press Enter to go on. ' enter
\set ON_ERROR_STOP on

\echo '3. select * from complete_task(task, picture, ''you'', attempt)     picture, charge and events, in one transaction'
select status, generation_created, output_location from complete_task(:'task', :'picture', 'you', :attempt) \gset
\echo '   ' :status '' :output_location
\echo
