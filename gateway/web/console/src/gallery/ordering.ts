/** Something on a shot's timeline, or in its tray when it has no position. */
export interface Placed {
  shotGenerationId: string;
  position: number | null;
}

/** A new position of one of them. */
export interface Move {
  shotGenerationId: string;
  position: number | null;
}

// Room between neighbours, so that most moves write one row.
const step = 10;

/** What is on the timeline, in its order. Equal positions keep the order they came in. */
export function timeline<T extends Placed>(items: readonly T[]): T[] {
  return items.filter((item) => item.position !== null).sort((a, b) => (a.position as number) - (b.position as number));
}

/** What has no position yet. */
export function tray<T extends Placed>(items: readonly T[]): T[] {
  return items.filter((item) => item.position === null);
}

/**
 * The fewest rows to write so that an item stands at `index` of the timeline: itself between its new neighbours where there is room, else those after it
 * make room.
 */
export function moveTo(items: readonly Placed[], id: string, index: number): Move[] {
  const rest = timeline(items).filter((item) => item.shotGenerationId !== id);
  const at = Math.max(0, Math.min(index, rest.length));
  const before = rest[at - 1]?.position ?? null;
  const after = rest[at]?.position ?? null;
  const own = items.find((item) => item.shotGenerationId === id)?.position ?? null;
  if (own !== null && (before === null || before < own) && (after === null || own < after)) return [];

  if (before === null && after === null) return [{ shotGenerationId: id, position: 0 }];
  if (after === null) return [{ shotGenerationId: id, position: (before as number) + step }];
  if (before === null && after > 0) return [{ shotGenerationId: id, position: Math.floor(after / 2) }];
  if (before !== null && after - before > 1) return [{ shotGenerationId: id, position: before + Math.floor((after - before) / 2) }];

  let last = before === null ? 0 : before + 1;
  const moves: Move[] = [{ shotGenerationId: id, position: last }];
  for (const item of rest.slice(at)) {
    if ((item.position as number) > last) break;
    last += 1;
    moves.push({ shotGenerationId: item.shotGenerationId, position: last });
  }
  return moves;
}

/** The row to write so that an item lies in the tray. */
export function moveToTray(items: readonly Placed[], id: string): Move[] {
  const own = items.find((item) => item.shotGenerationId === id);
  return own && own.position !== null ? [{ shotGenerationId: id, position: null }] : [];
}

/** The items as they are after the moves. */
export function applied<T extends Placed>(items: readonly T[], moves: readonly Move[]): T[] {
  const to = new Map(moves.map((move) => [move.shotGenerationId, move.position]));
  return items.map((item) => (to.has(item.shotGenerationId) ? { ...item, position: to.get(item.shotGenerationId) ?? null } : item));
}
