import type { JsonObject, TaskExplanation } from '@darkroom/client';
import { describe, expect, test } from 'vitest';
import { headline, leaseEnd, turn, waits } from './waiting';

const now = Date.parse('2026-01-01T12:00:00Z');
const at = (seconds: number) => new Date(now + seconds * 1000).toISOString();

function explained(code: string, detail: JsonObject = {}, more: Partial<TaskExplanation> = {}): TaskExplanation {
  return {
    task_id: 't',
    status: 'Queued',
    runnable: false,
    reasons: [{ code, message: 'as the server says', detail }],
    queue_position: null,
    expected_start: null,
    ...more,
  };
}

describe('why it waits', () => {
  test.each<[string, JsonObject, string]>([
    ['insufficient_credits', { needs: 10, available: 2.5, missing: 7.5, held: 0 }, '7.5 credits missing: it costs 10, 2.5 are available.'],
    [
      'insufficient_credits',
      { needs: 10, available: 2, missing: 8, held: 5, held_by: 1 },
      '8 credits missing: it costs 10, 2 are available. 5 of yours are held for 1 running task.',
    ],
    ['behind_others', { before: 1, of_yours: 0 }, '1 task before it.'],
    ['behind_others', { before: 3, of_yours: 3 }, '3 tasks before it, all yours.'],
    ['behind_others', { before: 12, of_yours: 3 }, '12 tasks before it, 3 of them yours.'],
    ['behind_others', { before: 1000, of_yours: 0, more: true }, 'More than 1,000 tasks before it.'],
    ['workers_busy', { slots: 1 }, 'The worker for it is busy.'],
    ['workers_busy', { slots: 4 }, 'All 4 slots for it are busy.'],
    ['no_worker', { route: 'wan2gp', task_type: 'travel_segment' }, 'No worker can do this: it needs the capability wan2gp.'],
    ['no_worker', { route: 'any', task_type: 'upscale' }, 'No worker takes tasks of type upscale.'],
    ['workers_silent', { last_seen: at(-90) }, 'No worker for it is alive. The last one was heard from 1 min 30 s ago.'],
    [
      'waits_for_tasks',
      { count: 1, tasks: [{ task_type: 'travel_segment', status: 'In Progress' }] },
      'Waits for the segment that is in progress.',
    ],
    ['waits_for_tasks', { count: 14, tasks: [{}, {}] }, 'Waits for 14 tasks.'],
    ['retry_delayed', { run_after: at(8), failed_attempts: 1, max_attempts: 3 }, 'Tried again in 8 s (1 of 3 attempts failed).'],
    ['queued_again', { attempt: 1, worker_id: 'local-1', outcome: 'expired' }, 'Attempt 1 on local-1 went silent and lost its lease.'],
    ['queued_again', { attempt: 2, worker_id: 'gpu', outcome: 'failed', error: 'out of memory' }, 'Attempt 2 on gpu failed: out of memory'],
    [
      'worker_silent',
      { worker_id: 'local-1', lease_end: at(11) },
      'local-1 has gone silent. Another worker takes over when its lease ends, in 11 s.',
    ],
    ['worker_silent', { worker_id: 'w', lease_end: at(3), last_attempt: true }, 'w has gone silent. It fails when its lease ends, in 3 s.'],
    ['something_new', {}, 'as the server says'],
  ])('%s %o', (code, detail, words) =>
    expect(waits(explained(code, detail), now)).toEqual([expect.objectContaining({ code, text: words })]),
  );

  test('that it runs is no reason to wait', () => expect(waits(explained('running'), now)).toEqual([]));
  test('what no words are known for is trouble', () => expect(waits(explained('something_new'), now)[0]?.kind).toBe('trouble'));
  test('nothing keeps it: it is next', () =>
    expect(headline({ ...explained('x'), reasons: [], runnable: true }, now)).toBe('Starts with the next claim.'));
});

describe('its turn', () => {
  const of = (queue_position: number | null, expected_start: string | null, runnable = true) =>
    turn(explained('behind_others', {}, { queue_position, expected_start, runnable }), now);
  test.each([
    [of(1, at(0)), 'Next in line, expected any moment'],
    [of(4, at(25)), 'Place 4 in line, expected in 25 s'],
    [of(4, null), 'Place 4 in line'],
    [of(1001, null), 'Beyond place 1000'],
    [of(3, at(5), false), ''],
    [turn(explained('no_worker', {}, { queue_position: 1, runnable: true }), now), ''],
  ])('%s', (got, want) => expect(got).toBe(want));
});

describe('the lease', () => {
  const detail = { attempt: 1, worker_id: 'local-1', lease_end: at(9) };
  const first = { attempt: 1, worker_id: 'local-1' };
  test.each(['worker_silent', 'lease_over'])('of a silent worker runs out: %s', (code) =>
    expect(leaseEnd(explained(code, detail), first)).toBe(at(9)),
  );
  test('of one that is heard from does not', () => expect(leaseEnd(explained('running', detail), first)).toBeNull());
  test('of nobody is none', () => expect(leaseEnd(undefined, first)).toBeNull());
  test.each([
    ['another worker has taken over', { attempt: 2, worker_id: 'local-2' }],
    ['the same one tries again', { attempt: 2, worker_id: 'local-1' }],
    ['it is queued again', { attempt: 1, worker_id: null }],
  ])('of an attempt that has ended is none: %s', (_, task) => expect(leaseEnd(explained('lease_over', detail), task)).toBeNull());
});
