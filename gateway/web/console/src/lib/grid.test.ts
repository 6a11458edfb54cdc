import { expect, test } from 'vitest';
import { neighbour } from './grid';

// 0 1 2
// 3 4
const boxes = [0, 1, 2, 3, 4].map((i) => ({ left: (i % 3) * 100, top: Math.floor(i / 3) * 100 }));

test.each([
  [0, 'ArrowRight', 1],
  [2, 'ArrowRight', 3],
  [4, 'ArrowRight', -1],
  [0, 'ArrowLeft', -1],
  [1, 'ArrowDown', 4],
  [2, 'ArrowDown', 4],
  [4, 'ArrowUp', 1],
  [0, 'ArrowUp', -1],
  [3, 'ArrowDown', -1],
  [3, 'Home', 0],
  [0, 'End', 4],
  [0, 'a', -1],
  [9, 'ArrowLeft', -1],
])('from %i %s leads to %i', (from, key, to) => expect(neighbour(boxes, from, key)).toBe(to));
