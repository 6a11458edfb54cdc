import { expect, test } from 'vitest';
import { missing, shotsWith } from './links';

const link = (shot_id: string, generation_id: string) => ({ shot_id, generation_id });

test('what a shot has is not added again, and nothing twice', () =>
  expect(missing([link('s', 'a'), link('s', 'a')], ['a', 'b', 'c', 'b'])).toEqual(['b', 'c']));

test('a shot that has all is marked, one that has some is not', () =>
  expect([...shotsWith([link('all', 'a'), link('some', 'a'), link('some', 'a'), link('all', 'b'), link('all', 'c')], ['a', 'b'])]).toEqual([
    'all',
  ]));

test('nothing is in no shot', () => expect(shotsWith([], []).size).toBe(0));
