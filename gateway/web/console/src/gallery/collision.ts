import { type CollisionDetection, closestCenter, type DroppableContainer, pointerWithin } from '@dnd-kit/core';

/** The two places of a shot, by their ids as drop zones. */
export type Zone = 'film' | 'tray';

export function isZone(id: unknown): id is Zone {
  return id === 'film' || id === 'tray';
}

/**
 * Where something dragged would go: in the zone under the pointer the nearest item, or the zone itself where there is none, or behind the last frame of
 * the film. Outside both it goes nowhere. Keys have no pointer: then it is what is nearest.
 */
export const whereTo: CollisionDetection = (args) => {
  const { pointerCoordinates: pointer, droppableContainers, droppableRects } = args;
  if (!pointer) return closestCenter(args);
  const zone = pointerWithin(args).find((collision) => isZone(collision.id));
  if (!zone) return [];
  const items = droppableContainers.filter((container) => zoneOf(container) === zone.id);
  const last = Math.max(...items.map((item) => droppableRects.get(item.id)?.right ?? 0), 0);
  if (items.length === 0 || (zone.id === 'film' && pointer.x > last)) return [zone];
  return closestCenter({ ...args, droppableContainers: items });
};

function zoneOf(container: DroppableContainer): unknown {
  return container.data.current?.sortable?.containerId;
}
