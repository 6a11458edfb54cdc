import { QueryObserver } from '@tanstack/react-query';
import { expect, it, vi } from 'vitest';
import { cacheTimes } from './keys.js';
import { createQueryClient } from './queryClient.js';
import { shouldRetry } from './retry.js';

it('answers the line of the spec, with a bare key', () => {
  const queryClient = createQueryClient();
  queryClient.setQueryData(['generations', 'p1'], ['g1']);
  queryClient.setQueryData(['generations', 'p2'], ['g2']);
  expect(queryClient.getQueriesData(['generations', 'p1'])).toEqual([[['generations', 'p1'], ['g1']]]);
  expect(queryClient.getQueriesData({ queryKey: ['generations'] })).toHaveLength(2);
});

it('makes stale by a bare key what the key begins', async () => {
  const queryClient = createQueryClient();
  queryClient.setQueryData(['tasks', 'p1', { limit: 1 }], []);
  queryClient.setQueryData(['tasks', 'p2', { limit: 1 }], []);
  await queryClient.invalidateQueries(['tasks', 'p1']);
  expect(queryClient.getQueryState(['tasks', 'p1', { limit: 1 }])?.isInvalidated).toBe(true);
  expect(queryClient.getQueryState(['tasks', 'p2', { limit: 1 }])?.isInvalidated).toBe(false);
});

it('reads once more what was being read for the first time when it became stale', async () => {
  const queryClient = createQueryClient();
  const answers: ((projects: string[]) => void)[] = [];
  const observer = new QueryObserver(queryClient, {
    queryKey: ['projects'],
    queryFn: () => new Promise<string[]>((answer) => answers.push(answer)),
  });
  const stop = observer.subscribe(() => undefined);
  const done = Promise.all([queryClient.invalidateQueries(['projects']), queryClient.invalidateQueries(['projects'])]);
  answers[0]?.(['as it was before']);
  await vi.waitFor(() => expect(answers).toHaveLength(2));
  expect(observer.getCurrentResult().data).toEqual(['as it was before']);
  answers[1]?.(['as it was before', 'new']);
  await done;
  expect(observer.getCurrentResult().data).toEqual(['as it was before', 'new']);
  expect(answers).toHaveLength(2);
  stop();
});

it('has the times of the spec and the retries, and takes settings of the app', () => {
  expect(cacheTimes).toMatchObject({ generations: 300_000, tasks: 30_000, mapping: 600_000 });
  expect(createQueryClient().getDefaultOptions().queries).toMatchObject({ staleTime: 30_000, retry: shouldRetry });
  const own = createQueryClient({ defaultOptions: { queries: { gcTime: 1 }, mutations: { retry: 0 } } }).getDefaultOptions();
  expect(own.queries).toMatchObject({ gcTime: 1, retry: shouldRetry });
  expect(own.mutations?.retry).toBe(0);
});
