import { expect, it } from 'vitest';
import { pass, show, withTestTime } from '../testing/render.js';
import { project } from '../testing/rows.js';
import { TestServer } from '../testing/server.js';
import { useCredits, useLedger, useWorkers } from './useAccount.js';
import { useCreateProject, useCreateShot, useProjects, useShots } from './useProjects.js';
import { useUploadImage } from './useUploadImage.js';

withTestTime();

it('reads the account and its ledger, newest first', async () => {
  const server = new TestServer()
    .on('rpc/get_credits', () => ({ owner_id: 'ada', balance: 10, held: 4, available: 6 }))
    .on('credit_ledger', () => [{ seq: 2 }, { seq: 1 }]);
  const shown = show(server, () => ({ credits: useCredits(), ledger: useLedger({ limit: 2 }) }));
  await pass(10);
  expect(shown.current.credits.data).toMatchObject({ balance: 10, held: 4, available: 6 });
  expect(shown.current.ledger.data).toHaveLength(2);
  expect(Object.fromEntries(server.askedFor('credit_ledger')[0]?.query ?? [])).toEqual({ select: '*', order: 'seq.desc', limit: '2' });
});

it('looks at the workers every 5 s while the page is visible', async () => {
  const server = new TestServer();
  show(server, () => useWorkers());
  await pass(10_010);
  expect(server.askedFor('rpc/list_workers')).toHaveLength(3);

  const visibility = Object.getOwnPropertyDescriptor(Document.prototype, 'visibilityState');
  Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
  await pass(20_000);
  expect(server.askedFor('rpc/list_workers')).toHaveLength(3);
  Reflect.deleteProperty(document, 'visibilityState');
  expect(Object.getOwnPropertyDescriptor(Document.prototype, 'visibilityState')).toEqual(visibility);
});

it('makes projects and shots, and shows them at once', async () => {
  const server = new TestServer()
    .on('projects', () => [{ id: project, name: 'old', created_at: '2026-01-01' }])
    .on('shots', () => [])
    .on('rpc/create_project', () => ({ id: 'p2', name: 'new', created_at: '2026-01-02' }))
    .on('rpc/create_shot', () => ({ id: 's1', project_id: project, name: 'shot', created_at: '2026-01-02' }));
  const shown = show(server, () => ({
    projects: useProjects(),
    shots: useShots(project),
    createProject: useCreateProject(),
    createShot: useCreateShot(),
  }));
  await pass(10);
  server.on('projects', () => new Promise(() => {})).on('shots', () => new Promise(() => {})); // what is read anew has not come yet
  shown.current.createProject.mutate({ name: 'new' });
  shown.current.createShot.mutate({ projectId: project, name: 'shot' });
  await pass(10);
  expect(shown.current.projects.data?.map((row) => row.id)).toEqual(['p2', project]);
  expect(shown.current.shots.data?.map((row) => row.id)).toEqual(['s1']);
  expect(server.askedFor('rpc/create_shot')[0]?.body).toEqual({ project_id: project, name: 'shot' });
});

it('makes no second project of a call whose answer was lost', async () => {
  const server = new TestServer().on('rpc/create_project', () => {
    throw new TypeError('Failed to fetch');
  });
  const shown = show(server, () => useCreateProject());
  shown.current.mutate({ name: 'new' });
  await pass(60_000);
  expect(shown.current.error?.code).toBe('NETWORK');
  expect(server.asked).toHaveLength(1);
});

it('uploads for nobody but who is signed in', async () => {
  const server = new TestServer();
  const shown = show(server, () => useUploadImage());
  shown.current.mutate(new File(['x'], 'x.png', { type: 'image/png' }));
  await pass(10);
  expect(shown.current.error?.code).toBe('TD040');
  expect(server.asked).toEqual([]);
});
