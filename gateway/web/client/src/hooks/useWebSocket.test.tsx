import { onlineManager } from '@tanstack/react-query';
import { afterEach, describe, expect, it } from 'vitest';
import { pass, show, withTestTime } from '../testing/render.js';
import { generation, link, project, shot, task } from '../testing/rows.js';
import { TestServer } from '../testing/server.js';
import { useTaskGeneration } from './generationTaskBridge.js';
import { useCredits } from './useAccount.js';
import { useTasks } from './useTasks.js';
import { useUnifiedGenerations } from './useUnifiedGenerations.js';
import { useWebSocket } from './useWebSocket.js';

withTestTime();
afterEach(() => onlineManager.setOnline(true));

/** A page that shows a project, once it is live and has read what it shows. */
async function live(server: TestServer) {
  const shown = show(server, () => ({
    live: useWebSocket(project),
    tasks: useTasks({ projectId: project }),
    all: useUnifiedGenerations({ projectId: project, mode: 'project-wide' }),
    shot: useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot }),
    credits: useCredits(),
  }));
  await pass(1000);
  server.asked.length = 0;
  return shown;
}

const newer = (seconds: number) => `2026-01-01T00:00:0${seconds}+00:00`;

it('joins one channel with the five tables, filtered by project', async () => {
  const server = new TestServer();
  const shown = show(server, () => [useWebSocket(project), useWebSocket(project)]);
  expect(shown.current[0]?.status).toBe('connecting');
  await pass(100);
  expect(shown.current[0]?.status).toBe('live');
  expect(shown.current[1]).toBe(shown.current[0]);
  expect(server.sockets).toHaveLength(1);
  const [topic, joined] = [...(server.sockets[0]?.joined ?? [])][0] ?? [];
  expect(topic).toBe(`realtime:task-updates:${project}`);
  const filter = `project_id=eq.${project}`;
  expect(joined?.bindings).toMatchObject([
    { event: '*', schema: 'public', table: 'tasks', filter },
    { event: '*', schema: 'public', table: 'generations', filter },
    { event: '*', schema: 'public', table: 'shot_generations', filter },
    { event: '*', schema: 'public', table: 'shots', filter },
    { event: '*', schema: 'public', table: 'credit_ledger' },
  ]);
  expect(joined?.token).toBe('public-key'); // of whoever is signed in; here nobody is
});

it('leaves when nobody looks any more, and comes back', async () => {
  const server = new TestServer();
  const shown = show(server, () => useWebSocket(project));
  await pass(100);
  shown.unmount();
  await pass(900);
  expect(server.sockets[0]?.joined.size).toBe(1); // the next page may want it
  await pass(101);
  const again = show(server, () => useWebSocket(project), shown); // while the other one is still leaving
  await pass(100);
  expect(again.current.status).toBe('live');
  expect(server.sockets[0]?.joined.size).toBe(1);
  again.unmount();
  await pass(2000);
  expect(server.sockets[0]?.joined.size ?? 0).toBe(0);
});

it('moves progress bars without asking the server', async () => {
  const running = task('t1', { status: 'In Progress', attempt: 1 });
  const server = new TestServer().on('tasks', () => [running]);
  const shown = await live(server);
  for (let percent = 1; percent <= 40; percent++) {
    server.change('tasks', 'UPDATE', { ...running, progress: { percent }, updated_at: `2026-01-01T00:00:01.${percent + 10}+00:00` });
    await pass(20);
  }
  await pass(2000);
  expect(shown.current.tasks.data?.[0]?.progress).toEqual({ percent: 40 });
  expect(shown.current.live.lastEventAt).not.toBeNull();
  expect(server.asked).toEqual([]);
});

it('takes updates that carry only what may change, and no older ones', async () => {
  const server = new TestServer().on('tasks', () => [task('t1', { updated_at: newer(2) })]);
  const shown = await live(server);
  server.change('tasks', 'UPDATE', {
    id: 't1',
    project_id: project,
    status: 'Queued',
    attempt: 0,
    metadata: { a: 1 },
    updated_at: newer(1),
  });
  await pass(100);
  expect(shown.current.tasks.data?.[0]?.metadata).toEqual({});
  server.change('tasks', 'UPDATE', {
    id: 't1',
    project_id: project,
    status: 'Queued',
    attempt: 0,
    metadata: { a: 1 },
    updated_at: newer(3),
  });
  await pass(100);
  expect(shown.current.tasks.data?.[0]).toMatchObject({ metadata: { a: 1 }, params: { prompt: 'a green frog' } });
});

it('draws the page once for a burst of changes', async () => {
  const server = new TestServer();
  let drawn = 0;
  const shown = show(server, () => {
    drawn++;
    return useWebSocket(project);
  });
  await pass(1000);
  drawn = 0;
  for (let i = 0; i < 10; i++) {
    server.change('shots', 'INSERT', { id: `s${i}`, project_id: project });
    await pass(4);
  }
  await pass(1000);
  expect(shown.current.lastEventAt).not.toBeNull();
  expect(drawn).toBeLessThanOrEqual(2); // once, and again by StrictMode
});

describe('what is read anew', () => {
  it('is read once for a burst', async () => {
    const server = new TestServer();
    await live(server);
    for (let i = 0; i < 50; i++) server.change('generations', 'INSERT', generation(`g${i}`));
    await pass(100);
    expect(server.asked).toEqual([]);
    await pass(200);
    expect(server.askedFor('generations')).toHaveLength(1);
    expect(server.askedFor('shot_generations')).toHaveLength(0); // not of a shot yet
    await pass(5000);
    expect(server.asked).toHaveLength(1);
  });

  it('is read every second while changes never pause', async () => {
    const server = new TestServer();
    await live(server);
    for (let i = 0; i < 50; i++) {
      server.change('generations', 'INSERT', generation(`g${i}`));
      await pass(100);
    }
    const reads = server.askedFor('generations').length;
    expect(reads).toBeGreaterThanOrEqual(4);
    expect(reads).toBeLessThanOrEqual(5);
  });

  it('is the shot that a generation came to', async () => {
    const server = new TestServer();
    await live(server);
    server.change('shot_generations', 'INSERT', link('l1', 'g1', null));
    await pass(300);
    expect(server.asked.map((asked) => asked.path)).toEqual(['shot_generations', 'shot_generations']); // with a place, and without
  });

  it('is the lists of tasks when a status changes', async () => {
    const server = new TestServer().on('tasks', () => [task('t1')]);
    const shown = await live(server);
    server.on('tasks', () => [task('t1', { status: 'In Progress', attempt: 1, updated_at: newer(1) })]);
    server.change('tasks', 'UPDATE', task('t1', { status: 'In Progress', attempt: 1, updated_at: newer(1) }));
    await pass(60);
    expect(shown.current.tasks.data?.[0]?.status).toBe('In Progress');
    expect(server.asked).toEqual([]);
    await pass(200);
    expect(server.asked.map((asked) => asked.path)).toEqual(['tasks']);
  });
});

it('shows new tasks, and takes those away that are gone', async () => {
  const server = new TestServer().on('tasks', () => [task('t1')]);
  const shown = await live(server);
  server.change('tasks', 'INSERT', task('t2', { created_at: newer(1) }));
  await pass(60);
  expect(shown.current.tasks.data?.map((row) => row.id)).toEqual(['t2', 't1']);
  server.change('tasks', 'DELETE', { id: 't1' });
  await pass(60);
  expect(shown.current.tasks.data?.map((row) => row.id)).toEqual(['t2']);
});

it('knows what a task made as soon as the generation is there', async () => {
  const server = new TestServer();
  const shown = show(server, () => ({ live: useWebSocket(project), made: useTaskGeneration('t1') }));
  await pass(1000);
  expect(shown.current.made.data).toBeNull();
  server.change('generations', 'INSERT', generation('g1', { source_task_id: 't1' }));
  await pass(60);
  expect(shown.current.made.data?.id).toBe('g1');
});

it('keeps the account by the ledger', async () => {
  const server = new TestServer().on('rpc/get_credits', () => ({ owner_id: 'ada', balance: 10, held: 0, available: 10 }));
  const shown = await live(server);
  server.change('credit_ledger', 'INSERT', { owner_id: 'ada', seq: 2, kind: 'hold', amount: 3, balance_after: 10, held_after: 3 });
  await pass(60);
  expect(shown.current.credits.data).toMatchObject({ balance: 10, held: 3, available: 7 });
});

it('drops deleted generations from what is known of the project', async () => {
  const server = new TestServer().on('generations', () => [generation('g1')]);
  const shown = await live(server);
  const known = () => shown.cache.getQueryData(['generations', project]);
  expect(known()).toEqual([generation('g1')]);
  server.on('generations', () => []);
  server.change('generations', 'DELETE', { id: 'g1' });
  await pass(300);
  expect(known()).toEqual([]);
  expect(shown.current.all.data).toEqual([]);
});

describe('after a reconnect', () => {
  it('says so, counts what it missed, and reads everything anew', async () => {
    const server = new TestServer();
    const shown = await live(server);
    server.cut();
    await pass(10);
    expect(shown.current.live.status).toBe('offline');
    await pass(1020);
    expect(shown.current.live.status).toBe('live');
    for (let i = 0; i < 3; i++) server.change('generations', 'INSERT', generation(`g${i}`));
    await pass(300);
    expect(shown.current.live.resumedEvents).toBe(3);
    expect(new Set(server.asked.map((asked) => asked.path))).toEqual(
      new Set(['tasks', 'generations', 'shot_generations', 'rpc/get_credits']),
    );
    expect(server.askedFor('generations')).toHaveLength(1);

    // What comes later is news.
    await pass(2000);
    server.change('generations', 'INSERT', generation('g9'));
    await pass(300);
    expect(shown.current.live.resumedEvents).toBe(3);

    // The next one counts anew.
    server.cut();
    await pass(1200);
    expect(shown.current.live).toMatchObject({ status: 'live', resumedEvents: 0 });
  });

  it('that was refused once, as it is when events are no longer kept, reads everything anew', async () => {
    const server = new TestServer();
    const shown = await live(server);
    server.refusedJoins = 1;
    server.cut();
    await pass(1100);
    expect(shown.current.live.status).toBe('offline');
    server.asked.length = 0;
    await pass(3000);
    expect(shown.current.live.status).toBe('live');
    expect(server.askedFor('tasks')).toHaveLength(1);
  });

  it('that the server asked for, as it does when a token has expired, joins again', async () => {
    const server = new TestServer();
    const shown = await live(server);
    server.sockets[0]?.closeChannels();
    await pass(20);
    expect(shown.current.live.status).toBe('offline');
    await pass(1000);
    expect(shown.current.live.status).toBe('live');
  });

  it('is offline as soon as the browser says so', async () => {
    const server = new TestServer();
    const shown = await live(server);
    onlineManager.setOnline(false);
    await pass(0);
    expect(shown.current.live.status).toBe('offline');
    onlineManager.setOnline(true);
    await pass(300);
    expect(shown.current.live.status).toBe('live');
    expect(server.askedFor('tasks')).toHaveLength(1);
  });
});
