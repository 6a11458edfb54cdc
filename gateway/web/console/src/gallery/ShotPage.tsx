import { type UnifiedGeneration, useShots, useUnifiedGenerations } from '@darkroom/client';
import {
  type Announcements,
  DndContext,
  type DragEndEvent,
  type DragOverEvent,
  DragOverlay,
  KeyboardSensor,
  MouseSensor,
  TouchSensor,
  useDroppable,
  useSensor,
  useSensors,
} from '@dnd-kit/core';
import {
  horizontalListSortingStrategy,
  rectSortingStrategy,
  SortableContext,
  sortableKeyboardCoordinates,
  useSortable,
} from '@dnd-kit/sortable';
import { CSS } from '@dnd-kit/utilities';
import { ArrowLeft, ArrowRight, Film, Plus, Undo2, X } from 'lucide-react';
import { type ReactNode, useMemo, useState } from 'react';
import { useConsole } from '../app/console';
import { useMedia } from '../app/media';
import { captionOf, count } from '../lib/words';
import { PageHead } from '../ui/Page';
import { Button, classes, Failure } from '../ui/ui';
import { isZone, whereTo, type Zone } from './collision';
import { Developing } from './Developing';
import { useDeveloping, useMoves, useRemove } from './data';
import css from './Gallery.module.css';
import { More, skeletons } from './GalleryPage';
import { Lightbox } from './Lightbox';
import { usePutDownOnLeave } from './leaving';
import { moveTo, moveToTray, timeline, tray } from './ordering';
import { ShotTabs } from './Shots';
import { Tile } from './Tile';

type Linked = UnifiedGeneration & { shotGenerationId: string };

/** While something is dragged: what lies where, by shotGenerationId. */
type Layout = Record<Zone, string[]>;

const instructions = {
  draggable:
    'Press Space to lift this picture. Move it with the arrow keys, press Space again to put it down, or Escape to leave it where it was.',
};

/** A shot: its pictures in order on a strip of film, and those without a position in the tray below. */
export default function ShotPage({ shotId }: { shotId: string }) {
  const { project, place, go, create } = useConsole();
  const shot = useShots(project.id).data?.find((s) => s.id === shotId);
  const gallery = useUnifiedGenerations({ projectId: project.id, mode: 'shot-specific', shotId, pageSize: 100 });
  const rows = useMemo(() => (gallery.data ?? []).filter((row): row is Linked => row.shotGenerationId !== undefined), [gallery.data]);
  const byLink = useMemo(() => new Map(rows.map((row) => [row.shotGenerationId, row])), [rows]);
  const settled = useMemo<Layout>(
    () => ({ film: timeline(rows).map((row) => row.shotGenerationId), tray: tray(rows).map((row) => row.shotGenerationId) }),
    [rows],
  );
  const [dragged, setDragged] = useState<{ id: string; layout: Layout } | null>(null);
  const layout = dragged?.layout ?? settled;
  usePutDownOnLeave(dragged !== null);
  const developing = useDeveloping(gallery.data, shotId);
  const move = useMoves(shotId);
  const remove = useRemove(shotId);
  const narrow = !useMedia('(min-width: 1080px)');
  const phone = useMedia('(max-width: 719px)');
  const sensors = useSensors(
    useSensor(MouseSensor, { activationConstraint: { distance: 6 } }),
    useSensor(TouchSensor, { activationConstraint: { delay: 220, tolerance: 8 } }),
    useSensor(KeyboardSensor, {
      coordinateGetter: sortableKeyboardCoordinates,
      keyboardCodes: { start: ['Space'], cancel: ['Escape'], end: ['Space', 'Enter'] },
    }),
  );

  const over = ({ active, over: target }: DragOverEvent) => {
    if (!target || !dragged) return;
    const from = zoneOf(dragged.layout, String(active.id));
    const to = zoneOf(dragged.layout, String(target.id));
    if (!from || !to || from === to) return;
    const rest = dragged.layout[from].filter((id) => id !== active.id);
    const at = dragged.layout[to].indexOf(String(target.id));
    const next = [...dragged.layout[to]];
    next.splice(at < 0 ? next.length : at, 0, String(active.id));
    setDragged({ id: dragged.id, layout: { ...dragged.layout, [from]: rest, [to]: next } });
  };
  const end = ({ active, over: target }: DragEndEvent) => {
    const now = dragged?.layout;
    setDragged(null);
    if (!target || !now) return;
    const id = String(active.id);
    // A quick drop may come before the layout has followed: what it was dropped on counts.
    const zone = zoneOf(now, String(target.id));
    if (zone === 'tray') void move(moveToTray(rows, id));
    if (zone === 'film') {
      // Over the film itself is behind its last frame.
      const at = isZone(target.id) ? now.film.length : now.film.indexOf(String(target.id));
      void move(moveTo(rows, id, at));
    }
  };

  const openId = place.page === 'shot' ? place.generationId : undefined;
  const inOrder = [...settled.film, ...settled.tray].flatMap((id) => byLink.get(id) ?? []);
  const film = layout.film.flatMap((id) => byLink.get(id) ?? []);
  const pictures = film.filter((row) => row.type === 'image');
  const show = (id: string) => go({ page: 'shot', shotId, generationId: id });

  return (
    <>
      {narrow ? <ShotTabs /> : null}
      <PageHead
        title={shot?.name ?? 'Shot'}
        actions={
          <>
            <Button
              disabled={pictures.length < 2}
              onClick={() => create({ kind: 'travel', shotId, pictures })}
              data-testid="travel-of-shot"
            >
              <Film aria-hidden="true" /> {pictures.length < 2 ? 'Travel' : `Travel through ${pictures.length}`}
            </Button>
            {phone ? null : (
              <Button look="primary" onClick={() => create({ kind: 'picture', shotId })} data-testid="create-picture">
                <Plus aria-hidden="true" /> Create
              </Button>
            )}
          </>
        }
      />
      {gallery.isError && !gallery.data ? <Failure what="The shot" error={gallery.error} retry={() => void gallery.refetch()} /> : null}
      <DndContext
        sensors={sensors}
        collisionDetection={whereTo}
        accessibility={{ announcements: announcements(byLink), screenReaderInstructions: instructions }}
        onDragStart={({ active }) => setDragged({ id: String(active.id), layout: settled })}
        onDragOver={over}
        onDragEnd={end}
        onDragCancel={() => setDragged(null)}
      >
        <section className={css.strip} aria-label="Timeline">
          <SortableContext id="film" items={layout.film} strategy={horizontalListSortingStrategy}>
            <DropZone id="film" className={css.film} testId="timeline">
              {film.map((row, i) => (
                <Item key={row.shotGenerationId} row={row} className={css.frame} onOpen={() => show(row.id)}>
                  <span className={css.number} aria-hidden="true">
                    {i + 1}
                  </span>
                  <div className={css.frameActions}>
                    <Button
                      icon
                      aria-label="Move left"
                      disabled={i === 0}
                      onClick={() => void move(moveTo(rows, row.shotGenerationId, i - 1))}
                    >
                      <ArrowLeft aria-hidden="true" />
                    </Button>
                    <Button
                      icon
                      aria-label="Move right"
                      disabled={i === film.length - 1}
                      onClick={() => void move(moveTo(rows, row.shotGenerationId, i + 1))}
                    >
                      <ArrowRight aria-hidden="true" />
                    </Button>
                    <Button
                      icon
                      aria-label="Back to the tray"
                      title="Back to the tray"
                      onClick={() => void move(moveToTray(rows, row.shotGenerationId))}
                    >
                      <Undo2 aria-hidden="true" />
                    </Button>
                  </div>
                </Item>
              ))}
              {film.length === 0 ? (
                <p className={css.stripEmpty}>
                  {rows.length > 0 ? 'Drag pictures here, or press their +, and they follow each other.' : 'The film is empty.'}
                </p>
              ) : null}
            </DropZone>
          </SortableContext>
        </section>

        <div className={css.trayHead}>
          <h2>Tray</h2>
          <small>
            {layout.tray.length > 0 ? `${count(layout.tray.length, 'picture')} without a position` : 'What has no position lies here'}
          </small>
        </div>
        <SortableContext id="tray" items={layout.tray} strategy={rectSortingStrategy}>
          <DropZone id="tray" className={css.tray} testId="tray">
            {developing.map((tree) => (
              <Developing key={tree.task.id} tree={tree} />
            ))}
            {layout.tray
              .flatMap((id) => byLink.get(id) ?? [])
              .map((row) => (
                <Item key={row.shotGenerationId} row={row} onOpen={() => show(row.id)}>
                  <div className={css.frameActions}>
                    <Button
                      icon
                      aria-label="Put on the timeline"
                      title="Put on the timeline"
                      onClick={() => void move(moveTo(rows, row.shotGenerationId, settled.film.length))}
                      data-testid="place"
                    >
                      <Plus aria-hidden="true" />
                    </Button>
                    <Button
                      icon
                      aria-label="Remove from the shot"
                      title="Remove from the shot"
                      onClick={({ currentTarget }) => {
                        focusNeighbour(currentTarget);
                        remove(row.shotGenerationId);
                      }}
                      data-testid="remove"
                    >
                      <X aria-hidden="true" />
                    </Button>
                  </div>
                </Item>
              ))}
            {gallery.isPending ? skeletons.slice(0, 4) : null}
            {gallery.data && layout.tray.length === 0 && developing.length === 0 ? (
              <p className={css.trayEmpty}>
                {rows.length === 0
                  ? 'Create a picture for this shot, or pick some in the gallery and add them.'
                  : 'Everything has its place.'}
              </p>
            ) : null}
          </DropZone>
        </SortableContext>
        <DragOverlay>{dragged ? <Ghost row={byLink.get(dragged.id)} /> : null}</DragOverlay>
      </DndContext>
      <More more={gallery.hasNextPage} busy={gallery.isFetchingNextPage} load={() => void gallery.fetchNextPage()} />
      {openId ? (
        <Lightbox
          id={openId}
          rows={inOrder}
          onShow={(id) => go({ page: 'shot', shotId, generationId: id }, { replace: true })}
          onClose={() => go({ page: 'shot', shotId }, { replace: true })}
          onRemove={(row) => row.shotGenerationId && remove(row.shotGenerationId)}
          more={gallery.hasNextPage ? () => void gallery.fetchNextPage() : undefined}
        />
      ) : null}
    </>
  );
}

function zoneOf(layout: Layout, id: string): Zone | undefined {
  if (isZone(id)) return id;
  if (layout.film.includes(id)) return 'film';
  return layout.tray.includes(id) ? 'tray' : undefined;
}

function DropZone({ id, className, testId, children }: { id: Zone; className?: string; testId: string; children: ReactNode }) {
  const { setNodeRef, isOver } = useDroppable({ id });
  return (
    <div ref={setNodeRef} className={classes(className, isOver && css.over)} data-testid={testId}>
      {children}
    </div>
  );
}

function Item({ row, className, onOpen, children }: { row: Linked; className?: string; onOpen: () => void; children: ReactNode }) {
  const { setNodeRef, setActivatorNodeRef, listeners, attributes, transform, transition, isDragging } = useSortable({
    id: row.shotGenerationId,
  });
  return (
    <div
      ref={setNodeRef}
      className={classes(className ?? css.loose, isDragging && css.lifted)}
      style={{ transform: CSS.Translate.toString(transform), transition }}
      data-testid="placed"
      data-generation={row.id}
      data-position={row.position ?? ''}
    >
      <Tile
        generation={row}
        onOpen={onOpen}
        handle={{
          ref: setActivatorNodeRef,
          'aria-describedby': attributes['aria-describedby'],
          'aria-roledescription': 'sortable',
          ...listeners,
        }}
      />
      {children}
    </div>
  );
}

/** Gives the focus to what stands beside an item that goes, so that the keyboard stays where it is. */
function focusNeighbour(within: HTMLElement) {
  const item = within.closest('[data-testid=placed]');
  const beside = item?.nextElementSibling ?? item?.previousElementSibling;
  (beside?.querySelector<HTMLElement>('[data-tile]') ?? document.getElementById('main'))?.focus();
}

function Ghost({ row }: { row: Linked | undefined }) {
  if (!row) return null;
  return (
    <div className={css.ghost}>
      <Tile generation={row} onOpen={() => {}} />
    </div>
  );
}

function announcements(rows: ReadonlyMap<string, Linked>): Announcements {
  const name = (id: unknown) => captionOf(rows.get(String(id))?.params ?? {}) || 'The picture';
  const where = (id: unknown) => (isZone(id) ? (id === 'film' ? 'the end of the film' : 'the tray') : `the place of ${name(id)}`);
  return {
    onDragStart: ({ active }) => `${name(active.id)} is lifted.`,
    onDragOver: ({ active, over }) => (over ? `${name(active.id)} is over ${where(over.id)}.` : undefined),
    onDragEnd: ({ active, over }) => (over ? `${name(active.id)} was put to ${where(over.id)}.` : `${name(active.id)} was put back.`),
    onDragCancel: ({ active }) => `${name(active.id)} stays where it was.`,
  };
}
