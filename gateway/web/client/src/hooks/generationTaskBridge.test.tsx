import { expect, it } from 'vitest';
import { createQueryClient } from '../queryClient.js';
import { pass, show, withTestTime } from '../testing/render.js';
import { generation, task } from '../testing/rows.js';
import { type Asked, Refusal, TestServer } from '../testing/server.js';
import { preloadGenerationTaskMappings, useGenerationTask, usePreloadedMappings, useTaskGeneration } from './generationTaskBridge.js';

withTestTime();

const idsOf = ({ query }: Asked, column: string) => /^in\.\((.*)\)$/.exec(query.get(column) ?? '')?.[1]?.split(',') ?? [];

/** Task tN made generation gN, but for those that made none. */
function server(...none: string[]): TestServer {
  return new TestServer()
    .on('generations', (asked) => {
      const byTask = idsOf(asked, 'source_task_id').map((id) => id.slice(1));
      const byId = idsOf(asked, 'id').map((id) => id.slice(1));
      return [...byTask, ...byId].filter((n) => !none.includes(n)).map((n) => generation(`g${n}`, { source_task_id: `t${n}` }));
    })
    .on('tasks', (asked) => idsOf(asked, 'id').map((id) => task(id)));
}

it('finds the generation of a task and the task of a generation, for 10 minutes', async () => {
  const darkroom = server();
  const both = () => ({ made: useTaskGeneration('t1'), by: useGenerationTask('g1') });
  const shown = show(darkroom, both);
  await pass(10);
  expect(shown.current.made.data?.id).toBe('g1');
  expect(shown.current.by.data?.id).toBe('t1');
  expect(shown.cache.getQueryData(['task-generation-mapping', 't1'])).toMatchObject({ id: 'g1' });

  const asked = darkroom.asked.length;
  await pass(599_000);
  show(darkroom, both, shown);
  await pass(10);
  expect(darkroom.asked).toHaveLength(asked);
  await pass(1000);
  show(darkroom, both, shown);
  await pass(10);
  expect(darkroom.asked.length).toBeGreaterThan(asked);
});

it('answers null where there is none, and looks again after 30 seconds', async () => {
  const darkroom = server('1');
  const shown = show(darkroom, () => useTaskGeneration('t1'));
  await pass(10);
  expect(shown.current.data).toBeNull();
  await pass(30_000);
  show(darkroom, () => useTaskGeneration('t1'), shown);
  await pass(10);
  expect(darkroom.asked).toHaveLength(2);
});

const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i));

it('reads ahead in batches, 200 ms apart', async () => {
  const darkroom = server('7');
  const queryClient = createQueryClient();
  const times: number[] = [];
  darkroom.on('generations', (asked) => {
    times.push(Date.now());
    return idsOf(asked, 'source_task_id').flatMap((id) => (id === 't7' ? [] : [generation(`g${id}`, { source_task_id: id })]));
  });
  const taskIds = numbers(45).map((n) => `t${n}`);
  const done = preloadGenerationTaskMappings({ client: darkroom.client(), queryClient, taskIds: [...taskIds, 't0'] });
  await pass(1000);
  await done;
  expect(darkroom.asked.map((asked) => idsOf(asked, 'source_task_id').length)).toEqual([20, 20, 5]);
  expect(times.map((time) => time - (times[0] ?? 0))).toEqual([0, 200, 400]);
  expect(queryClient.getQueryData(['task-generation-mapping', 't44'])).toMatchObject({ id: 'gt44' });
  expect(queryClient.getQueryData(['task-generation-mapping', 't7'])).toBeNull();

  // All of it is there: nothing is asked again, and the hooks ask for nothing.
  await preloadGenerationTaskMappings({ client: darkroom.client(), queryClient, taskIds });
  const shown = show(darkroom, () => useTaskGeneration('t3'), { cache: queryClient });
  await pass(10);
  expect(shown.current.data?.id).toBe('gt3');
  expect(darkroom.asked).toHaveLength(3);
});

it('reads the tasks of generations ahead too', async () => {
  const darkroom = server('2');
  const shown = show(darkroom, () => usePreloadedMappings({ taskIds: ['t1'], generationIds: ['g1', 'g2'] }));
  await pass(1000);
  expect(shown.cache.getQueryData(['task-generation-mapping', 't1'])).toMatchObject({ id: 'g1' });
  expect(shown.cache.getQueryData(['generation-task-mapping', 'g1'])).toMatchObject({ id: 't1' });
  expect(shown.cache.getQueryData(['generation-task-mapping', 'g2'])).toBeNull();
});

it('tries a batch again that the database could not answer, and stops when nobody wants it any more', async () => {
  const darkroom = new TestServer();
  let failures = 1;
  darkroom.on('generations', () => {
    if (failures-- > 0) throw new Refusal(500, '57014');
    return [];
  });
  const stop = new AbortController();
  const taskIds = numbers(100).map((n) => `t${n}`);
  const done = preloadGenerationTaskMappings({
    client: darkroom.client(),
    queryClient: createQueryClient(),
    taskIds,
    signal: stop.signal,
  });
  await pass(550);
  expect(darkroom.asked.length).toBeGreaterThanOrEqual(2);
  stop.abort();
  await done;
  const asked = darkroom.asked.length;
  await pass(5000);
  expect(darkroom.asked).toHaveLength(asked);
  expect(asked).toBeLessThan(5);
});
