import { expect, it } from 'vitest';
import { pass, show, withTestTime } from '../testing/render.js';
import { project, task } from '../testing/rows.js';
import { Refusal, TestServer } from '../testing/server.js';
import type { Task } from '../types.js';
import { useCancelTask, useCreateTask, useRetryTask } from './useTaskMutations.js';
import { useExplainTask, useTask, useTasks } from './useTasks.js';

withTestTime();

it('asks for the newest tasks of the project, in the statuses wanted', async () => {
  const server = new TestServer().on('tasks', () => [task('t1')]);
  const shown = show(server, () => useTasks({ projectId: project, statuses: ['Queued', 'In Progress'], limit: 7 }));
  await pass(10);
  expect(shown.current.data).toEqual([task('t1')]);
  expect(Object.fromEntries(server.askedFor('tasks')[0]?.query ?? [])).toEqual({
    select: '*',
    project_id: `eq.${project}`,
    status: 'in.(Queued,In Progress)',
    order: 'created_at.desc,job_no.desc',
    limit: '7',
  });
});

it('keeps tasks for 30 seconds, under the key of the spec', async () => {
  const server = new TestServer().on('tasks', () => [task('t1')]);
  const shown = show(server, () => useTasks({ projectId: project }));
  await pass(10);
  expect(shown.cache.getQueriesData(['tasks', project])[0]?.[1]).toEqual([task('t1')]);

  await pass(29_000);
  show(server, () => useTasks({ projectId: project }), shown);
  await pass(10);
  expect(server.askedFor('tasks')).toHaveLength(1);
  await pass(1000);
  show(server, () => useTasks({ projectId: project }), shown);
  await pass(10);
  expect(server.askedFor('tasks')).toHaveLength(2);
});

it('asks for nothing without a project', async () => {
  const server = new TestServer();
  show(server, () => [useTasks({ projectId: null }), useTask(undefined), useExplainTask('t1', { enabled: false })]);
  await pass(10_000);
  expect(server.asked).toEqual([]);
});

it('tries database errors again with growing pauses, and shows what is refused at once', async () => {
  let failures = 3;
  const server = new TestServer().on('tasks', () => {
    if (failures-- > 0) throw new Refusal(500, '40001');
    return [task('t1')];
  });
  const shown = show(server, () => useTasks({ projectId: project }));
  await pass(10);
  expect(shown.current).toMatchObject({ status: 'pending', failureCount: 1 });
  await pass(500 + 1000 + 2000);
  expect(shown.current.data).toHaveLength(1);
  expect(server.askedFor('tasks')).toHaveLength(4);

  const strict = new TestServer().on('tasks', () => {
    throw new Refusal(403, '42501');
  });
  const refused = show(strict, () => useTasks({ projectId: project }));
  await pass(10);
  expect(refused.current.error).toMatchObject({ code: '42501', status: 403 });
  expect(strict.askedFor('tasks')).toHaveLength(1);
});

it('explains a task every 5 s', async () => {
  const explanation = { task_id: 't1', status: 'Queued', runnable: false, reasons: [], queue_position: 1, expected_start: null };
  const server = new TestServer().on('rpc/explain_task', () => explanation);
  const shown = show(server, () => useExplainTask('t1'));
  await pass(10);
  expect(shown.current.data).toEqual(explanation);
  expect(server.asked[0]?.body).toEqual({ task_id: 't1' });
  await pass(5000);
  expect(server.asked).toHaveLength(2);
});

it('creates one task however often it has to try', async () => {
  let failures = 2;
  const server = new TestServer()
    .on('tasks', () => [])
    .on('rpc/create_task', () => {
      if (failures-- > 0) throw new TypeError('Failed to fetch');
      return task('new');
    });
  const shown = show(server, () => useCreateTask());
  const input = { projectId: project, toolId: 'image-generation', input: { prompt: 'a frog' }, shotId: 's1' };
  const made: Promise<Task> = shown.current.mutateAsync(input);
  await pass(5000);
  expect((await made).id).toBe('new');

  const tries = server.askedFor('rpc/create_task').map((asked) => asked.body);
  expect(tries).toHaveLength(3);
  const key = tries[0].idempotency_key;
  expect(key).toMatch(/^[0-9a-f-]{36}$/);
  for (const body of tries) {
    expect(body).toEqual({
      project_id: project,
      tool_id: 'image-generation',
      input: { prompt: 'a frog', shot_id: 's1' },
      idempotency_key: key,
    });
  }

  // The same words again are another task.
  shown.current.mutate(input);
  await pass(10);
  expect(server.askedFor('rpc/create_task')[3]?.body.idempotency_key).not.toBe(key);
});

it('names the shot of a travel where its stitch looks for it', async () => {
  const server = new TestServer().on('rpc/create_task', () => task('new'));
  const shown = show(server, () => useCreateTask());
  const input = { orchestrator_details: { num_new_segments_to_generate: 1 } };
  shown.current.mutate({ projectId: project, toolId: 'travel-between-images', input, shotId: 's1' });
  await pass(10);
  expect(server.asked[0]?.body.input).toEqual({ orchestrator_details: { num_new_segments_to_generate: 1, shot_id: 's1' } });
});

it('shows a new task at once, newest first', async () => {
  const server = new TestServer()
    .on('tasks', () => [task('t1')])
    .on('rpc/create_task', () => task('t2', { created_at: '2026-01-01T00:00:01+00:00' }));
  const shown = show(server, () => ({
    all: useTasks({ projectId: project }),
    done: useTasks({ projectId: project, statuses: ['Complete'] }),
    create: useCreateTask(),
  }));
  await pass(10);
  shown.current.create.mutate({ projectId: project, toolId: 'image-generation', input: {} });
  await pass(10);
  expect(shown.current.all.data?.map((row) => row.id)).toEqual(['t2', 't1']);
  expect(shown.current.done.data?.map((row) => row.id)).toEqual(['t1']); // the list of this test's server, which knows no filters
  expect(server.askedFor('tasks')).toHaveLength(2);
});

it('tells insufficient credits at once, as something for a toast', async () => {
  const server = new TestServer().on('rpc/create_task', () => {
    throw new Refusal(402, 'TD010', 'Insufficient credits');
  });
  const shown = show(server, () => useCreateTask());
  shown.current.mutate({ projectId: project, toolId: 'image-generation', input: {} });
  await pass(10);
  expect(shown.current.error?.isInsufficientCredits).toBe(true);
  expect(server.asked).toHaveLength(1);
});

it('cancels, and makes again with a key', async () => {
  const server = new TestServer()
    .on('tasks', () => [task('t1')])
    .on('rpc/cancel_task', () => task('t1', { status: 'Cancelled', updated_at: '2026-01-01T00:00:01+00:00' }))
    .on('rpc/retry_task', () => task('t2', { created_at: '2026-01-01T00:00:02+00:00' }));
  const shown = show(server, () => ({ list: useTasks({ projectId: project }), cancel: useCancelTask(), again: useRetryTask() }));
  await pass(10);
  shown.current.cancel.mutate('t1');
  await pass(10);
  expect(shown.current.list.data?.[0]?.status).toBe('Cancelled');
  shown.current.again.mutate('t1');
  await pass(10);
  expect(shown.current.list.data?.map((row) => row.id)).toEqual(['t2', 't1']);
  expect(server.askedFor('rpc/cancel_task')[0]?.body).toEqual({ task_id: 't1' });
  expect(server.askedFor('rpc/retry_task')[0]?.body).toEqual({ task_id: 't1', idempotency_key: expect.stringMatching(/^[0-9a-f-]{36}$/) });
});
