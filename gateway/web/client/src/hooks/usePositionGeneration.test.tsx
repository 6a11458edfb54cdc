import { expect, it } from 'vitest';
import { pass, show, withTestTime } from '../testing/render.js';
import { generation, link, project, shot } from '../testing/rows.js';
import { Refusal, TestServer } from '../testing/server.js';
import { usePositionGeneration } from './usePositionGeneration.js';
import { useUnifiedGenerations } from './useUnifiedGenerations.js';
import { useWebSocket } from './useWebSocket.js';

withTestTime();

/** A shot of three, of which one has no place; writes take 500 ms. */
function shotServer(refuse?: Refusal) {
  let refused = false;
  const links = new Map([link('l1', 'g1', 0), link('l2', 'g2', 10), link('l3', 'g3', null)].map((row) => [row.id, row]));
  const server = new TestServer()
    .on('generations', () => [generation('g1'), generation('g2'), generation('g3')])
    .on('shot_generations', async ({ method, query, body }) => {
      if (method === 'PATCH') {
        await new Promise((resolve) => setTimeout(resolve, 500));
        if (refuse) {
          refused = true;
          throw refuse;
        }
        const id = String(query.get('id')?.slice(3));
        const row = Object.assign(links.get(id) ?? {}, body);
        server.change('shot_generations', 'UPDATE', row);
        return row;
      }
      if (refused) return new Promise(() => {}); // what is read anew does not come
      const positioned = query.get('position') === 'not.is.null';
      const rows = [...links.values()].filter((row) => (row.position !== null) === positioned);
      return rows.sort((a, b) => Number(a.position) - Number(b.position));
    });
  return server;
}

async function page(server: TestServer) {
  const shown = show(server, () => ({
    live: useWebSocket(project),
    all: useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot }),
    placed: useUnifiedGenerations({ projectId: project, mode: 'shot-specific', shotId: shot, includeUnpositioned: false }),
    move: usePositionGeneration(),
  }));
  await pass(1000);
  server.asked.length = 0;
  return shown;
}

const order = (rows?: { id: string; position: number | null }[]) => rows?.map((row) => `${row.id}:${row.position}`).join(' ');

it('moves at once, and writes then', async () => {
  const server = shotServer();
  const shown = await page(server);
  shown.current.move.mutate({ shotId: shot, shotGenerationId: 'l3', position: 5 });
  await pass(1);
  expect(order(shown.current.all.data)).toBe('g1:0 g3:5 g2:10');
  const [asked] = server.asked;
  expect(asked).toMatchObject({ method: 'PATCH', path: 'shot_generations', body: { position: 5 } });
  expect(asked?.query.get('id')).toBe('eq.l3');
  await pass(2000);
  expect(shown.current.move.isSuccess).toBe(true);
  expect(order(shown.current.all.data)).toBe('g1:0 g3:5 g2:10');
  expect(order(shown.current.placed.data)).toBe('g1:0 g3:5 g2:10'); // it was not there before, so it came by reading
});

it('goes back when it is refused', async () => {
  const server = shotServer(new Refusal(403, '42501'));
  const shown = await page(server);
  shown.current.move.mutate({ shotId: shot, shotGenerationId: 'l2', position: -1 });
  await pass(1);
  expect(order(shown.current.all.data)).toBe('g2:-1 g1:0 g3:null');
  await pass(501);
  expect(order(shown.current.all.data)).toBe('g1:0 g2:10 g3:null');
  expect(shown.current.move.error?.code).toBe('42501');
});

it('takes its place away', async () => {
  const server = shotServer();
  const shown = await page(server);
  shown.current.move.mutate({ shotId: shot, shotGenerationId: 'l1', position: null });
  await pass(1);
  expect(order(shown.current.all.data)).toBe('g2:10 g1:null g3:null');
  expect(order(shown.current.placed.data)).toBe('g2:10');
});

it('moves several together', async () => {
  const server = shotServer();
  const shown = await page(server);
  shown.current.move.mutate({
    shotId: shot,
    moves: [
      { shotGenerationId: 'l3', position: 0 },
      { shotGenerationId: 'l1', position: 1 },
    ],
  });
  await pass(1);
  expect(order(shown.current.all.data)).toBe('g3:0 g1:1 g2:10');
  await pass(1100);
  expect(shown.current.move.data?.map((row) => row.position)).toEqual([0, 1]);
});

it('does not jump back while more moves are under way', async () => {
  const server = shotServer();
  const shown = await page(server);
  const seen: (string | undefined)[] = [];
  shown.current.move.mutate({ shotId: shot, shotGenerationId: 'l3', position: 5 });
  await pass(1);
  shown.current.move.mutate({ shotId: shot, shotGenerationId: 'l3', position: 20 });
  for (let i = 0; i < 20; i++) {
    await pass(100);
    seen.push(order(shown.current.all.data));
  }
  expect(new Set(seen)).toEqual(new Set(['g1:0 g2:10 g3:20']));
  // In the order in which they were made; the shot was read after the last.
  expect(server.asked.filter((asked) => asked.method === 'PATCH').map((asked) => asked.body.position)).toEqual([5, 20]);
  expect(server.asked.slice(0, 2).every((asked) => asked.method === 'PATCH')).toBe(true);
});
