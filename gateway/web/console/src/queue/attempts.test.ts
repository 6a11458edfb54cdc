import type { Task, TaskAttempt } from '@darkroom/client';
import { expect, test } from 'vitest';
import { holder, story } from './attempts';

const task = (fields: Partial<Task>) =>
  ({ id: 't', status: 'In Progress', attempt: 1, worker_id: 'local-1', claimed_at: '2026-01-01T12:00:00Z', ...fields }) as Task;
const ended = (fields: Partial<TaskAttempt>) =>
  ({
    task_id: 't',
    attempt: 1,
    worker_id: 'local-1',
    claimed_at: '2026-01-01T12:00:00Z',
    ended_at: '2026-01-01T12:00:09Z',
    outcome: 'expired',
    error: null,
    ...fields,
  }) as TaskAttempt;

test('a first attempt is working', () => {
  expect(story(task({}), [])).toEqual([
    expect.objectContaining({ attempt: 1, worker: 'local-1', tone: 'live', to: null, text: 'is working' }),
  ]);
  expect(holder(task({}), [])).toBe('attempt 1 on local-1');
});

test('another worker takes over from the one that went silent', () => {
  const now = task({ attempt: 2, worker_id: 'local-2' });
  expect(story(now, [ended({})]).map((step) => [step.worker, step.tone, step.text])).toEqual([
    ['local-1', 'bad', 'went silent and lost its lease'],
    ['local-2', 'live', 'took over from local-1'],
  ]);
  expect(holder(now, [ended({})])).toBe('attempt 2 on local-2, took over from local-1');
});

test('the same worker tries again', () =>
  expect(holder(task({ attempt: 2 }), [ended({ outcome: 'failed' })])).toBe('attempt 2 on local-1'));

test('a travel with parts has handed them out', () => expect(story(task({}), [], 3)[0]?.text).toBe('handed out its parts'));

test('what waits is nobody’s', () => expect(holder(task({ status: 'Queued', worker_id: null, claimed_at: null }), [ended({})])).toBe(''));

test('an attempt that has ended is told once, even before the task is read anew', () => {
  expect(story(task({ attempt: 1 }), [ended({ outcome: 'complete' })])).toHaveLength(1);
});
