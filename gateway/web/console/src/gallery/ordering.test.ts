import { describe, expect, test } from 'vitest';
import { applied, moveTo, moveToTray, type Placed, timeline, tray } from './ordering';

const shot = (...positions: (number | null)[]): Placed[] =>
  positions.map((position, i) => ({ shotGenerationId: String.fromCharCode(97 + i), position }));
const order = (items: readonly Placed[]) =>
  timeline(items)
    .map((item) => item.shotGenerationId)
    .join('');

describe('moveTo', () => {
  test.each<[string, (number | null)[], string, number, string, number]>([
    ['the first one of an empty timeline', [null], 'a', 0, 'a', 1],
    ['to the end', [0, 10, null], 'c', 2, 'abc', 1],
    ['between, where there is room', [0, 10, null], 'c', 1, 'acb', 1],
    ['to the front, where there is room', [4, 10, null], 'c', 0, 'cab', 1],
    ['to the front of 0: the others make room', [0, 1, null], 'c', 0, 'cab', 3],
    ['between neighbours: only those that must move do', [0, 1, 50, null], 'd', 1, 'adbc', 2],
    ['the last one to the front', [1, 2, 3], 'c', 0, 'cab', 1],
    ['the first one to the end', [0, 1, 2], 'a', 2, 'bca', 1],
    ['beyond the end is the end', [0, 1, null], 'c', 99, 'abc', 1],
    ['where it stands: nothing is written', [0, 1, 2], 'b', 1, 'abc', 0],
    ['among equals: they are told apart', [5, 5, 5, null], 'd', 1, 'adbc', 3],
  ])('%s', (_, positions, id, index, want, writes) => {
    const items = shot(...positions);
    const moves = moveTo(items, id, index);
    expect(moves).toHaveLength(writes);
    expect(order(applied(items, moves))).toBe(want);
  });

  test('any sequence of moves ends in the order that was asked for, with distinct positions', () => {
    let items = shot(0, 0, 0, 3, 4, null, null, null);
    let seed = 7;
    const next = (n: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % n;
    };
    for (let round = 0; round < 500; round++) {
      const id = items[next(items.length)]?.shotGenerationId ?? '';
      const want = order(items).replace(id, '');
      const index = next(want.length + 1);
      items = applied(items, moveTo(items, id, index));
      expect(order(items)).toBe(want.slice(0, index) + id + want.slice(index));
    }
    const positions = timeline(items).map((item) => item.position);
    expect(new Set(positions).size).toBe(positions.length);
  });
});

describe('the tray', () => {
  test('takes what has a position', () => {
    const items = shot(0, 1);
    const moves = moveToTray(items, 'a');
    expect(moves).toEqual([{ shotGenerationId: 'a', position: null }]);
    expect(tray(applied(items, moves)).map((item) => item.shotGenerationId)).toEqual(['a']);
  });

  test('has what is in it already', () => expect(moveToTray(shot(null), 'a')).toEqual([]));
});
