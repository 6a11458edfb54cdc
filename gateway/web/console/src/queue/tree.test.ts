import type { Task } from '@darkroom/client';
import { describe, expect, test } from 'vitest';
import { developing, errorOf, percentOf, phaseOf, previewOf, shotOf, treesOf } from './tree';

let last = 0;
function task(fields: Partial<Task> = {}): Task {
  last += 1;
  return {
    id: `t${last}`,
    job_no: last,
    task_type: 'single_image',
    status: 'Queued',
    params: {},
    progress: null,
    orchestrator_task_id: null,
    output_location: null,
    completed_at: null,
    failed_attempts: 0,
    error_message: null,
    ...fields,
  } as Task;
}

describe('treesOf', () => {
  test('a travel keeps its segments and its stitch, in the order they were made', () => {
    const alone = task();
    const travel = task({ task_type: 'travel_orchestrator' });
    const [one, two, stitch] = [1, 2, 3].map(() => task({ orchestrator_task_id: travel.id })) as [Task, Task, Task];
    expect(treesOf([stitch, two, one, travel, alone])).toEqual([
      { task: travel, children: [one, two, stitch] },
      { task: alone, children: [] },
    ]);
  });

  test('a child without its travel stands for itself', () => {
    const orphan = task({ orchestrator_task_id: 'elsewhere' });
    expect(treesOf([orphan])).toEqual([{ task: orphan, children: [] }]);
  });
});

describe('how far a tree is', () => {
  const running = (percent?: number, phase?: string, preview?: string) =>
    task({ status: 'In Progress', progress: { percent, phase, preview } });

  test('a task says so itself', () => expect(percentOf({ task: running(40), children: [] })).toBe(40));
  test('a travel is as far as its children together', () =>
    expect(percentOf({ task: running(), children: [task({ status: 'Complete' }), running(50), task()] })).toBe(50));
  test('what waits is nowhere', () => expect(percentOf({ task: task(), children: [] })).toBeUndefined());
  test('what runs and has said nothing is somewhere', () => expect(percentOf({ task: running(), children: [] })).toBeUndefined());

  test('its phase is that of the running child', () =>
    expect(phaseOf({ task: running(), children: [task({ status: 'Complete' }), running(10, 'drawing')] })).toBe('drawing'));
  test('where no part runs it waits for a worker', () => {
    const done = task({ status: 'Complete' });
    expect(phaseOf({ task: running(), children: [done, task()] })).toBe('waiting for a worker');
    expect(phaseOf({ task: running(), children: [done] })).toBe('finishing');
  });
  test('its picture is that of whatever runs', () =>
    expect(previewOf({ task: running(), children: [running(1, 'x', 'http://p')] })).toBe('http://p'));
});

test('a tree failed for the reason of the part that did', () => {
  const [told, culprit] = [
    task({ status: 'Failed', error_message: 'another ended' }),
    task({ status: 'Failed', failed_attempts: 1, error_message: 'no such host' }),
  ];
  expect(errorOf({ task: told, children: [told, culprit] })).toBe('no such host');
  expect(errorOf({ task: told, children: [] })).toBe('another ended');
  expect(errorOf({ task: task(), children: [] })).toBe('');
});

test('a shot is found wherever it may stand', () => {
  expect(shotOf(task({ params: { shot_id: 's' } }))).toBe('s');
  expect(shotOf(task({ params: { orchestrator_details: { shot_id: 's' } } }))).toBe('s');
  expect(shotOf(task({ params: { shot_id: 7 } }))).toBeUndefined();
});

describe('developing', () => {
  const now = Date.parse('2026-01-01T12:00:00Z');
  const done = (secondsAgo: number, id: string) =>
    task({ id, status: 'Complete', output_location: 'x', completed_at: new Date(now - secondsAgo * 1000).toISOString() });

  test('what is done stays until its picture is there, but not for ever', () => {
    const trees = treesOf([
      task({ id: 'queued' }),
      done(1, 'fresh'),
      done(1, 'shown'),
      done(60, 'old'),
      task({ id: 'failed', status: 'Failed' }),
    ]);
    expect(developing(trees, new Set(['shown']), now).map((tree) => tree.task.id)).toEqual(['queued', 'fresh']);
  });
});
