import { expect, it } from 'vitest';
import { pass, show, withTestTime } from '../testing/render.js';
import { generation, link, project, shot } from '../testing/rows.js';
import { type Asked, TestServer } from '../testing/server.js';
import type { Generation, ShotGeneration } from '../types.js';
import { useUnifiedGenerations } from './useUnifiedGenerations.js';

withTestTime();

/** A gallery that pages as PostgREST does, as far as these tests ask it to. */
function gallery(generations: Generation[], links: ShotGeneration[] = []): TestServer {
  const page = <T,>(rows: T[], { query }: Asked) => rows.slice(0, Number(query.get('limit') ?? rows.length));
  const after = (asked: Asked) => asked.query.get('or') ?? '';
  return new TestServer()
    .on('generations', (asked) => {
      const ids = /^in\.\((.*)\)$/.exec(asked.query.get('id') ?? '')?.[1]?.split(',');
      if (ids) return generations.filter((row) => ids.includes(row.id));
      const last = generations.findIndex((row) => after(asked).endsWith(`id.lt.${row.id}))`));
      return page(generations.slice(last + 1), asked);
    })
    .on('shot_generations', (asked) => {
      const positioned = asked.query.get('position') === 'not.is.null';
      const rows = links.filter((row) => (row.position !== null) === positioned);
      const last = rows.findIndex((row) => new RegExp(`id\\.[gl]t\\.${row.id}\\)\\)$`).test(after(asked)));
      return page(rows.slice(last + 1), asked);
    });
}

const five = ['g5', 'g4', 'g3', 'g2', 'g1'].map((id) => generation(id, { source_task_id: `t${id}` }));

it('reads a project in pages, newest first, and knows the task of each', async () => {
  const server = gallery(five);
  const shown = show(server, () => useUnifiedGenerations({ projectId: project, mode: 'project-wide', pageSize: 2 }));
  await pass(10);
  expect(shown.current.data).toEqual([
    { ...five[0], position: null, taskId: 'tg5' },
    { ...five[1], position: null, taskId: 'tg4' },
  ]);
  expect(shown.current.hasNextPage).toBe(true);
  for (let i = 0; i < 2; i++) {
    void shown.current.fetchNextPage();
    await pass(10);
  }
  expect(shown.current.data?.map((row) => row.id)).toEqual(['g5', 'g4', 'g3', 'g2', 'g1']);
  expect(shown.current.hasNextPage).toBe(false);
  expect(server.asked[1]?.query.get('or')).toBe(
    '(created_at.lt."2026-01-01T00:00:00+00:00",and(created_at.eq."2026-01-01T00:00:00+00:00",id.lt.g4))',
  );
});

it('reads a shot in its order, then what has no place, without a gap between pages', async () => {
  const links = [link('l1', 'g3', 0), link('l2', 'g1', 10), link('l3', 'g2', 20), link('l4', 'g5', null), link('l5', 'g4', null)];
  const server = gallery(five, links);
  const shown = show(server, () => useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot, pageSize: 2 }));
  for (let i = 0; i < 3; i++) {
    await pass(10);
    if (shown.current.hasNextPage) void shown.current.fetchNextPage();
  }
  await pass(10);
  expect(shown.current.data?.map((row) => [row.id, row.position, row.shotGenerationId])).toEqual([
    ['g3', 0, 'l1'],
    ['g1', 10, 'l2'],
    ['g2', 20, 'l3'],
    ['g5', null, 'l4'],
    ['g4', null, 'l5'],
  ]);
  expect(shown.current.hasNextPage).toBe(false);
});

it('leaves out what has no place when told so', async () => {
  const server = gallery(five, [link('l1', 'g3', 0), link('l4', 'g5', null)]);
  const shown = show(server, () =>
    useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot, includeUnpositioned: false }),
  );
  await pass(10);
  expect(shown.current.data?.map((row) => row.id)).toEqual(['g3']);
});

it('leaves out a link whose generation has gone in between', async () => {
  const server = gallery([], [link('l1', 'g3', 0)]);
  const shown = show(server, () => useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot }));
  await pass(10);
  expect(shown.current.data).toEqual([]);
});

it('stands under the keys of the spec for 5 minutes', async () => {
  const server = gallery(five, [link('l1', 'g3', 0)]);
  const both = () => [
    useUnifiedGenerations({ projectId: project, mode: 'project-wide' }),
    useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot }),
  ];
  const shown = show(server, both);
  await pass(10);
  expect(shown.cache.getQueriesData(['unified-generations', 'project', project])).toHaveLength(1);
  expect(shown.cache.getQueriesData(['unified-generations', 'shot', shot])).toHaveLength(1);
  // The checklist's line: every generation that a gallery has read, once.
  const known = shown.cache.getQueriesData<Generation[]>(['generations', project]);
  expect(known).toHaveLength(1);
  expect(known[0]?.[1]?.map((row) => row.id)).toEqual(['g5', 'g4', 'g3', 'g2', 'g1']);

  const before = server.asked.length;
  await pass(299_000);
  show(server, both, shown);
  await pass(10);
  expect(server.asked).toHaveLength(before);
  await pass(1000);
  show(server, both, shown);
  await pass(10);
  expect(server.asked.length).toBeGreaterThan(before);
});

it('asks for nothing without a project or shot', async () => {
  const server = new TestServer();
  show(server, () => [
    useUnifiedGenerations({ projectId: null, mode: 'project-wide' }),
    useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: null }),
  ]);
  await pass(1000);
  expect(server.asked).toEqual([]);
});
