import { expect, it } from 'vitest';
import { pass, show, withTestTime } from '../testing/render.js';
import { generation, link, project, shot } from '../testing/rows.js';
import { Refusal, TestServer } from '../testing/server.js';
import { usePositionGeneration } from './usePositionGeneration.js';
import { useRemoveFromShot } from './useRemoveFromShot.js';
import { useUnifiedGenerations } from './useUnifiedGenerations.js';
import { useWebSocket } from './useWebSocket.js';

withTestTime();

/** A shot of four, of which two have no place; writes take 500 ms. */
function shotServer(refuse?: Refusal) {
  let refused = false;
  const links = new Map(
    [link('l1', 'g1', 0), link('l2', 'g2', 10), link('l3', 'g3', null), link('l4', 'g4', null)].map((row) => [row.id, row]),
  );
  const server = new TestServer()
    .on('generations', () => ['g1', 'g2', 'g3', 'g4'].map((id) => generation(id)))
    .on('shot_generations', async ({ method, query, body }) => {
      const id = String(query.get('id')?.slice(3));
      if (method !== 'GET') {
        await new Promise((resolve) => setTimeout(resolve, 500));
        if (refuse) {
          refused = true;
          throw refuse;
        }
        if (method === 'PATCH') return Object.assign(links.get(id) ?? {}, body);
        links.delete(id);
        server.change('shot_generations', 'DELETE', { id });
        return null;
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
    remove: useRemoveFromShot(),
  }));
  await pass(1000);
  server.asked.length = 0;
  return shown;
}

const order = (rows?: { id: string; position: number | null }[]) => rows?.map((row) => `${row.id}:${row.position}`).join(' ');

it('takes it out at once, and writes then', async () => {
  const server = shotServer();
  const shown = await page(server);
  shown.current.remove.mutate({ shotId: shot, shotGenerationId: 'l1' });
  await pass(1);
  expect(order(shown.current.all.data)).toBe('g2:10 g3:null g4:null');
  expect(order(shown.current.placed.data)).toBe('g2:10');
  const [asked] = server.asked;
  expect(asked).toMatchObject({ method: 'DELETE', path: 'shot_generations' });
  expect(asked?.query.get('id')).toBe('eq.l1');
  await pass(2000);
  expect(shown.current.remove.isSuccess).toBe(true);
  expect(order(shown.current.all.data)).toBe('g2:10 g3:null g4:null');
});

it.each(['l1', 'l2', 'l3', 'l4'])('puts %s back where it stood when it is refused', async (shotGenerationId) => {
  const shown = await page(shotServer(new Refusal(403, '42501')));
  const before = order(shown.current.all.data);
  shown.current.remove.mutate({ shotId: shot, shotGenerationId });
  await pass(1);
  expect(shown.current.all.data).toHaveLength(3);
  await pass(501);
  expect(order(shown.current.all.data)).toBe(before);
  expect(order(shown.current.placed.data)).toBe('g1:0 g2:10');
  expect(shown.current.remove.error?.code).toBe('42501');
});

it('waits for the move before it, and does not come back meanwhile', async () => {
  const server = shotServer();
  const shown = await page(server);
  const seen: (string | undefined)[] = [];
  shown.current.move.mutate({ shotId: shot, shotGenerationId: 'l3', position: 20 });
  await pass(1);
  shown.current.remove.mutate({ shotId: shot, shotGenerationId: 'l1' });
  for (let i = 0; i < 20; i++) {
    await pass(100);
    seen.push(order(shown.current.all.data));
  }
  expect(new Set(seen)).toEqual(new Set(['g2:10 g3:20 g4:null']));
  expect(server.asked.slice(0, 2).map((asked) => asked.method)).toEqual(['PATCH', 'DELETE']);
});
