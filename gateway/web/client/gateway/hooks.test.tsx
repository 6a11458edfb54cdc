import type { SupabaseClient } from '@supabase/supabase-js';
import { cleanup } from '@testing-library/react';
import { afterEach, beforeAll, expect, it } from 'vitest';
import {
  createQueryClient,
  preloadGenerationTaskMappings,
  toastFor,
  useCancelTask,
  useCreateProject,
  useCreateShot,
  useCreateTask,
  useCredits,
  useExplainTask,
  useGenerationTask,
  useLedger,
  usePositionGeneration,
  useProjects,
  useRemoveFromShot,
  useRetryTask,
  useShots,
  useTask,
  useTaskAttempts,
  useTasks,
  useUnifiedGenerations,
  useUploadImage,
  useWorkers,
} from '../src/index.js';
import { claim, complete, connect, show, signIn, until, world } from './world.js';

const { ada, cleo } = world.users;
let client: SupabaseClient;
beforeAll(async () => {
  client = await signIn(ada);
});
afterEach(cleanup);

const frog = (of = ada) => ({ projectId: of.project, toolId: 'image-generation', input: { prompt: 'a green frog' }, shotId: of.shot });

it('creates a task, lists it and cancels it', async () => {
  const { result } = show(client, () => ({
    tasks: useTasks({ projectId: ada.project, statuses: ['Queued', 'In Progress'] }),
    create: useCreateTask(),
    cancel: useCancelTask(),
    credits: useCredits(),
  }));
  await until(() => result.current.tasks.isSuccess);
  const made = await result.current.create.mutateAsync(frog());
  expect(made).toMatchObject({
    status: 'Queued',
    task_type: 'single_image',
    cost: 1,
    params: { prompt: 'a green frog', shot_id: ada.shot },
  });
  await until(() => result.current.tasks.data?.some((task) => task.id === made.id));
  expect((await result.current.cancel.mutateAsync(made.id)).status).toBe('Cancelled');
  await until(() => !result.current.tasks.data?.some((task) => task.id === made.id));
  await until(() => result.current.credits.data?.available === 100);

  // It has ended: that is no error of the database, so it is told at once.
  await expect(result.current.cancel.mutateAsync('00000000-0000-4000-8000-000000000000')).rejects.toMatchObject({
    code: 'TD021',
    status: 404,
  });
});

it('is refused without credits, as a toast says, and goes on when there are some', async () => {
  const cleos = await signIn(cleo);
  const { result } = show(cleos, () => ({ create: useCreateTask(), credits: useCredits() }));
  const refused = await result.current.create.mutateAsync(frog(cleo)).catch((error) => error);
  expect(refused).toMatchObject({ code: 'TD010', status: 402, isInsufficientCredits: true, retryable: false });
  expect(toastFor(refused)).toMatchObject({ kind: 'warning', title: 'Insufficient credits', description: expect.stringMatching(/\d/) });

  const { error } = await connect(world.serviceKey).rpc('grant_credits', { user_id: cleo.id, amount: 2 });
  expect(error).toBeNull();
  expect((await result.current.create.mutateAsync(frog(cleo))).status).toBe('Queued');
  await cleos.rpc('cancel_task', { task_id: result.current.create.data?.id ?? (await cleos.from('tasks').select('id').single()).data?.id });
});

it('makes one task of a call whose answer was lost', async () => {
  const real = globalThis.fetch;
  let lost = 0;
  globalThis.fetch = async (...args: Parameters<typeof fetch>) => {
    const response = await real(...args);
    if (!String(args[0] instanceof Request ? args[0].url : args[0]).includes('create_task') || lost++ > 0) return response;
    throw new TypeError('Failed to fetch');
  };
  try {
    const { result } = show(await signIn(ada), () => useCreateTask());
    const made = await result.current.mutateAsync({ ...frog(), input: { prompt: 'once' } });
    expect(lost).toBe(2);
    const { data } = await client.from('tasks').select('id').eq('params->>prompt', 'once');
    expect(data).toEqual([{ id: made.id }]);
    await client.rpc('cancel_task', { task_id: made.id });
  } finally {
    globalThis.fetch = real;
  }
});

it('finds the picture that a task made, in the gallery, on its shot, and by the mappings', async () => {
  const { data: made } = await client.rpc('create_task', {
    project_id: ada.project,
    tool_id: 'image-generation',
    input: { prompt: 'b', shot_id: ada.shot },
  });
  const claimed = await claim();
  expect(claimed.task_id).toBe(made.id);
  await complete(claimed);

  const cache = createQueryClient();
  const { result } = show(
    client,
    () => ({
      all: useUnifiedGenerations({ projectId: ada.project, mode: 'project-wide' }),
      shot: useUnifiedGenerations({ projectId: ada.project, mode: 'shot-specific', shotId: ada.shot }),
      task: useTask(made.id),
      attempts: useTaskAttempts(made.id),
      ledger: useLedger({ limit: 10 }),
      move: usePositionGeneration(),
      remove: useRemoveFromShot(),
    }),
    cache,
  );
  await until(
    () => result.current.shot.data?.length && result.current.all.data?.length && result.current.task.data && result.current.attempts.data,
  );
  const [row] = result.current.shot.data ?? [];
  expect(row).toMatchObject({ type: 'image', taskId: made.id, position: null, tasks: [made.id] });
  expect(result.current.all.data?.[0]?.id).toBe(row?.id);
  expect(result.current.task.data?.status).toBe('Complete');
  expect(result.current.attempts.data).toMatchObject([{ attempt: 1, outcome: 'complete' }]);
  expect(result.current.ledger.data?.map((entry) => entry.kind)).toEqual(expect.arrayContaining(['settle', 'hold', 'grant']));
  expect(cache.getQueriesData(['generations', ada.project])).toMatchObject([[['generations', ada.project], [{ id: row?.id }]]]);

  await preloadGenerationTaskMappings({ client, queryClient: cache, taskIds: [made.id], generationIds: [String(row?.id)] });
  expect(cache.getQueryData(['task-generation-mapping', made.id])).toMatchObject({ id: row?.id });
  const other = show(client, () => useGenerationTask(row?.id), cache);
  expect(other.result.current.data).toMatchObject({ id: made.id, status: 'Complete' });

  await result.current.move.mutateAsync({ shotId: ada.shot, shotGenerationId: String(row?.shotGenerationId), position: 3 });
  await until(() => result.current.shot.isFetching === false && result.current.shot.data?.[0]?.position === 3);
  const { data: link } = await client.from('shot_generations').select('position').eq('id', row?.shotGenerationId).single();
  expect(link).toEqual({ position: 3 });
  const strange = result.current.move.mutateAsync({ shotId: ada.shot, shotGenerationId: world.users.bob.shot, position: 1 });
  await expect(strange).rejects.toMatchObject({ code: 'PGRST116' });

  await result.current.remove.mutateAsync({ shotId: ada.shot, shotGenerationId: String(row?.shotGenerationId) });
  const { data: gone } = await client.from('shot_generations').select('id').eq('id', row?.shotGenerationId);
  expect(gone).toEqual([]);
});

it.runIf(world.explains)('says why a task waits, who could run it, and makes a cancelled one again', async () => {
  const { data: made } = await client.rpc('create_task', { project_id: ada.project, tool_id: 'image-generation', input: { prompt: 'c' } });
  const { result } = show(client, () => ({ why: useExplainTask(made.id), workers: useWorkers(), again: useRetryTask() }));
  await until(() => result.current.why.isSuccess && result.current.workers.isSuccess);
  expect(result.current.why.data).toMatchObject({ task_id: made.id, status: 'Queued', runnable: true, queue_position: 1 });
  for (const reason of result.current.why.data?.reasons ?? []) {
    expect([typeof reason.code, typeof reason.message, typeof reason.detail]).toEqual(['string', 'string', 'object']);
  }
  const gpu = result.current.workers.data?.find((worker) => worker.id === 'gpu-1');
  expect(gpu).toMatchObject({ alive: true, capabilities: expect.any(Array), running: [] });

  await expect(result.current.again.mutateAsync(made.id)).rejects.toMatchObject({ code: 'TD033' });
  await client.rpc('cancel_task', { task_id: made.id });
  const again = await result.current.again.mutateAsync(made.id);
  expect(again).toMatchObject({ status: 'Queued', params: { prompt: 'c' } });
  expect(again.id).not.toBe(made.id);
  await client.rpc('cancel_task', { task_id: again.id });
});

it('pages through the gallery without a gap', async () => {
  const rows = Array.from({ length: 7 }, (_, i) => ({
    project_id: ada.project,
    type: 'image',
    location: `https://files.example.com/${i}.png`,
  }));
  const { error } = await client.from('generations').insert(rows); // in one statement: some have the same time
  expect(error).toBeNull();
  const { data: all } = await client.from('generations').select('id').eq('project_id', ada.project);
  const { result } = show(client, () => useUnifiedGenerations({ projectId: ada.project, mode: 'project-wide', pageSize: 2 }));
  await until(() => result.current.isSuccess);
  while (result.current.hasNextPage) {
    const before = result.current.data?.length ?? 0;
    await result.current.fetchNextPage();
    await until(() => (result.current.data?.length ?? 0) > before || !result.current.hasNextPage);
  }
  expect(new Set(result.current.data?.map((row) => row.id))).toEqual(new Set(all?.map((row) => row.id)));
  expect(result.current.data).toHaveLength(all?.length ?? 0);
});

it('makes projects and shots, and uploads a picture', async () => {
  const { result } = show(client, () => ({
    projects: useProjects(),
    createProject: useCreateProject(),
    upload: useUploadImage(),
  }));
  const project = await result.current.createProject.mutateAsync({ name: 'second' });
  await until(() => result.current.projects.data?.some((row) => row.id === project.id));
  const shots = show(client, () => ({ list: useShots(project.id), create: useCreateShot() }));
  const shot = await shots.result.current.create.mutateAsync({ projectId: project.id, name: 'first' });
  await until(() => shots.result.current.list.data?.[0]?.id === shot.id);

  const pixel = Uint8Array.from(
    atob('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='),
    (c) => c.charCodeAt(0),
  );
  const stored = await result.current.upload.mutateAsync(new File([pixel], 'pixel.PNG', { type: 'image/png' }));
  expect(stored.path).toMatch(new RegExp(`^${ada.id}/[0-9a-f-]{36}\\.png$`));
  const fetched = await fetch(stored.url);
  expect([fetched.status, fetched.headers.get('content-type')]).toEqual([200, 'image/png']);
});
