import type { KeyboardEvent } from 'react';

/** Where something lies. */
interface Box {
  left: number;
  top: number;
}

/** The box that an arrow key leads to from `from`: the neighbour in its row, or the nearest one of the next row; -1 where there is none. */
export function neighbour(boxes: readonly Box[], from: number, key: string): number {
  const own = boxes[from];
  if (!own) return -1;
  if (key === 'Home') return 0;
  if (key === 'End') return boxes.length - 1;
  if (key === 'ArrowLeft') return from - 1;
  if (key === 'ArrowRight') return from + 1 < boxes.length ? from + 1 : -1;
  const down = key === 'ArrowDown';
  if (!down && key !== 'ArrowUp') return -1;
  const beyond = boxes.filter((box) => (down ? box.top > own.top + 1 : box.top < own.top - 1));
  const row = down ? Math.min(...beyond.map((box) => box.top)) : Math.max(...beyond.map((box) => box.top));
  let best = -1;
  boxes.forEach((box, i) => {
    if (Math.abs(box.top - row) > 1) return;
    const nearest = boxes[best];
    if (!nearest || Math.abs(box.left - own.left) < Math.abs(nearest.left - own.left)) best = i;
  });
  return best;
}

/** Moves the focus between the `[data-tile]` in an element with the arrow keys. */
export function moveByKeys(event: KeyboardEvent<HTMLElement>): void {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
  const tiles = [...event.currentTarget.querySelectorAll<HTMLElement>('[data-tile]')];
  const from = tiles.indexOf(event.target as HTMLElement);
  if (from < 0) return;
  const to =
    tiles[
      neighbour(
        tiles.map((tile) => tile.getBoundingClientRect()),
        from,
        event.key,
      )
    ];
  if (!to) return;
  event.preventDefault();
  to.focus();
}
