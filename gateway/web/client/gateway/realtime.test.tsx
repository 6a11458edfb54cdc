import { cleanup } from '@testing-library/react';
import { afterEach, expect, it } from 'vitest';
import { useCredits, useTasks, useUnifiedGenerations, useWebSocket } from '../src/index.js';
import { claim, complete, progress, show, signIn, until, world } from './world.js';

afterEach(cleanup);

it.runIf(world.realtime)('shows a task from its creation to its picture without asking, and comes back', async () => {
  const { bob } = world.users;
  const client = await signIn(bob);
  const { result } = show(client, () => ({
    live: useWebSocket(bob.project),
    tasks: useTasks({ projectId: bob.project }),
    all: useUnifiedGenerations({ projectId: bob.project, mode: 'project-wide' }),
    shot: useUnifiedGenerations({ projectId: bob.project, mode: 'shot-specific', shotId: bob.shot }),
    credits: useCredits(),
  }));
  await until(() => result.current.live.status === 'live' && result.current.tasks.isSuccess && result.current.shot.isSuccess);

  const create = (prompt: string) =>
    client.rpc('create_task', { project_id: bob.project, tool_id: 'image-generation', input: { prompt, shot_id: bob.shot } });
  const { data: made } = await create('a');
  await until(() => result.current.tasks.data?.[0]?.id === made.id);
  const claimed = await claim();
  expect(claimed.task_id).toBe(made.id);
  await until(() => result.current.tasks.data?.[0]?.status === 'In Progress');
  await until(() => result.current.credits.data?.held === 1);
  const read = result.current.tasks.dataUpdatedAt;
  await progress(claimed, 40);
  await until(() => result.current.tasks.data?.[0]?.progress?.percent === 40);
  expect(read).toBeGreaterThan(0);
  await complete(claimed);
  await until(() => result.current.tasks.data?.[0]?.status === 'Complete');
  await until(() => result.current.all.data?.[0]?.taskId === made.id && result.current.shot.data?.[0]?.taskId === made.id);
  await until(() => result.current.credits.data?.balance === 99 && result.current.credits.data.held === 0);

  // The socket is cut, and things happen meanwhile.
  const socket = client.realtime as unknown as { conn?: { close(): void }; socketAdapter?: { socket: { conn: { close(): void } } } };
  (socket.socketAdapter?.socket.conn ?? socket.conn)?.close();
  await until(() => result.current.live.status === 'offline');
  const { data: missed } = await create('b');
  await until(() => result.current.live.status === 'live');
  await until(() => result.current.tasks.data?.[0]?.id === missed.id);
  await until(() => result.current.live.resumedEvents > 0);
});
