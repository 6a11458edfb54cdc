import type { Task, TaskAttempt } from '@darkroom/client';
import { expect, test } from 'vitest';
import { takeover } from './takeover';

const now = Date.parse('2026-01-01T12:00:00Z');
const killed = { workerId: 'local-1', pid: 4711 };
const task = (fields: Partial<Task>) =>
  ({ id: 't', status: 'In Progress', attempt: 1, worker_id: 'local-1', progress: null, ...fields }) as Task;
const lost = { attempt: 1, worker_id: 'local-1', outcome: 'expired' } as TaskAttempt;
const facts = { killed, attempt: 1, attempts: [] as TaskAttempt[], lease: null, tally: undefined, now };
const states = (stages: ReturnType<typeof takeover>) => stages.map((stage) => stage.state).join(' ');

test('right after the kill the lease counts down', () => {
  const stages = takeover({ ...facts, task: task({}), lease: new Date(now + 9000).toISOString() });
  expect(states(stages)).toBe('done now todo todo todo todo');
  expect(stages[1]?.text).toBe('Nobody hears from it. Its lease ends in 9 s');
});

test('then it is queued again', () => {
  const stages = takeover({ ...facts, task: task({ status: 'Queued', worker_id: null }), attempts: [lost] });
  expect(states(stages)).toBe('done done now now todo todo');
  expect(stages[1]?.text).toBe('Attempt 1 went silent and lost its lease');
});

test('another worker takes over', () => {
  const stages = takeover({ ...facts, task: task({ attempt: 2, worker_id: 'local-2', progress: { percent: 41.6 } }), attempts: [lost] });
  expect(states(stages)).toBe('done done done done now todo');
  expect(stages[3]?.text).toBe('local-2 took over, attempt 2');
  expect(stages[4]?.text).toBe('Working: 42 %');
});

test('the killed worker itself may be back first', () => {
  const stages = takeover({ ...facts, task: task({ attempt: 2 }), attempts: [lost] });
  expect(stages[3]?.text).toBe('local-1 started again and took it up, attempt 2');
});

test('and in the end there is one generation and one charge', () => {
  const attempts = [lost, { attempt: 2, worker_id: 'local-2', outcome: 'complete' } as TaskAttempt];
  const stages = takeover({
    ...facts,
    task: task({ attempt: 2, status: 'Complete', worker_id: 'local-2' }),
    attempts,
    tally: { complete: true, generations: 1, charges: 1, charged: 10 },
  });
  expect(states(stages)).toBe('done done done done done done');
  expect(stages[5]?.text).toBe('1 generation, 1 charge of 10 credits');
});

test('a worker that finished before it was killed lost nothing', () => {
  const stages = takeover({ ...facts, task: task({ status: 'Complete' }), attempts: [{ ...lost, outcome: 'complete' }] });
  expect(stages[1]?.text).toBe('Attempt 1 completed');
});
