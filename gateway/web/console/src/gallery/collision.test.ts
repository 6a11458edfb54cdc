import type { CollisionDetection, DroppableContainer } from '@dnd-kit/core';
import { expect, test } from 'vitest';
import { whereTo } from './collision';

// A film with two frames at its left, and a tray below with one picture.
const rects = {
  film: rect(0, 0, 1000, 200),
  a: rect(20, 20, 100, 100),
  b: rect(140, 20, 100, 100),
  tray: rect(0, 220, 1000, 200),
  c: rect(20, 240, 100, 100),
};
const zones: Record<string, string> = { a: 'film', b: 'film', c: 'tray' };

function rect(left: number, top: number, width: number, height: number) {
  return { left, top, width, height, right: left + width, bottom: top + height };
}

function over(pointer: { x: number; y: number } | null, only: string[] = Object.keys(rects)): string[] {
  const containers = only.map(
    (id) => ({ id, data: { current: zones[id] ? { sortable: { containerId: zones[id] } } : {} } }) as unknown as DroppableContainer,
  );
  const args = {
    active: { id: 'c' },
    collisionRect: pointer ? rect(pointer.x - 50, pointer.y - 50, 100, 100) : rects.b,
    droppableRects: new Map(Object.entries(rects)),
    droppableContainers: containers,
    pointerCoordinates: pointer,
  };
  return whereTo(args as unknown as Parameters<CollisionDetection>[0]).map((collision) => String(collision.id));
}

test('the nearest frame of the film counts', () => expect(over({ x: 150, y: 60 })[0]).toBe('b'));
test('between frames, too', () => expect(over({ x: 128, y: 190 })[0]).toBe('a'));
test('behind the last frame is the end of the film, however far', () => expect(over({ x: 970, y: 100 })).toEqual(['film']));
test('an empty film is the film', () => expect(over({ x: 500, y: 100 }, ['film', 'tray', 'c'])).toEqual(['film']));
test('in the tray its pictures count, not the frames above', () => expect(over({ x: 200, y: 230 })).toEqual(['c']));
test('outside both is nowhere', () => expect(over({ x: 500, y: 210 })).toEqual([]));
test('by keys it is what is nearest', () => expect(over(null)[0]).toBe('b'));
