import { type UnifiedGeneration, useShots, useUnifiedGenerations } from '@darkroom/client';
import { CheckSquare, Film, ImagePlus, Plus, X } from 'lucide-react';
import { useEffect, useMemo, useRef, useState } from 'react';
import { useConsole } from '../app/console';
import { useMedia } from '../app/media';
import { useErrorToast, useToast } from '../app/toasts';
import { QuickCreate } from '../create/QuickCreate';
import { moveByKeys } from '../lib/grid';
import { count } from '../lib/words';
import { Newcomer } from '../ui/Newcomer';
import { PageHead } from '../ui/Page';
import { Button, classes, Failure, Hidden, inputClass, Skeleton, Spinner } from '../ui/ui';
import { Developing } from './Developing';
import { useAddToShot, useDeveloping, useShotsWith } from './data';
import css from './Gallery.module.css';
import { Lightbox } from './Lightbox';
import { ShotTabs } from './Shots';
import { Tile } from './Tile';

/** Everything that was made in the project, newest first, led by what is being made. */
export function GalleryPage() {
  const { project, place, go, create } = useConsole();
  const gallery = useUnifiedGenerations({ projectId: project.id, mode: 'project-wide', pageSize: 60 });
  const rows = gallery.data ?? [];
  const developing = useDeveloping(gallery.data);
  const narrow = !useMedia('(min-width: 1080px)');
  const phone = useMedia('(max-width: 719px)');
  const [picked, setPicked] = useState<UnifiedGeneration[] | null>(null);
  const openId = place.page === 'gallery' ? place.generationId : undefined;
  const empty = gallery.data && rows.length === 0 && developing.length === 0;

  const toggle = (generation: UnifiedGeneration) =>
    setPicked((now) =>
      now?.some((p) => p.id === generation.id) ? now.filter((p) => p.id !== generation.id) : [...(now ?? []), generation],
    );

  return (
    <>
      {narrow ? <ShotTabs /> : null}
      <PageHead
        title="Gallery"
        actions={
          <>
            {rows.length > 0 ? (
              <Button
                look={picked ? undefined : 'quiet'}
                aria-pressed={picked !== null}
                onClick={() => setPicked(picked ? null : [])}
                data-testid="pick"
              >
                <CheckSquare aria-hidden="true" /> {picked ? 'Stop picking' : 'Pick'}
              </Button>
            ) : null}
            <Button onClick={() => create({ kind: 'travel' })} data-testid="create-travel">
              <Film aria-hidden="true" /> Travel
            </Button>
            {phone ? null : (
              <Button look="primary" onClick={() => create()} data-testid="create-picture">
                <Plus aria-hidden="true" /> Create
              </Button>
            )}
          </>
        }
      />
      <QuickCreate />
      {gallery.isError && !gallery.data ? <Failure what="The gallery" error={gallery.error} retry={() => void gallery.refetch()} /> : null}
      {empty ? (
        <Newcomer icon={<ImagePlus />} title="Nothing has been developed yet" testId="gallery-empty">
          Describe a picture above, and watch it develop.
        </Newcomer>
      ) : (
        // biome-ignore lint/a11y/noStaticElementInteractions: arrow keys move between the tiles, which are buttons
        <div className={css.grid} onKeyDown={moveByKeys} data-testid="gallery">
          {developing.map((tree) => (
            <Developing key={tree.task.id} tree={tree} />
          ))}
          {rows.map((generation) => (
            <Tile
              key={generation.id}
              generation={generation}
              picked={picked?.some((p) => p.id === generation.id)}
              onOpen={() => (picked ? toggle(generation) : go({ page: 'gallery', generationId: generation.id }))}
            />
          ))}
          {gallery.isPending ? skeletons : null}
        </div>
      )}
      <More more={gallery.hasNextPage} busy={gallery.isFetchingNextPage} load={() => void gallery.fetchNextPage()} />
      {picked ? <PickedBar picked={picked} done={() => setPicked(null)} /> : null}
      {openId ? (
        <Lightbox
          id={openId}
          rows={rows}
          onShow={(id) => go({ page: 'gallery', generationId: id }, { replace: true })}
          onClose={() => go({ page: 'gallery' }, { replace: true })}
          more={gallery.hasNextPage ? () => void gallery.fetchNextPage() : undefined}
        />
      ) : null}
    </>
  );
}

export const skeletons = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((key) => <Skeleton key={key} className={css.skeleton} />);

/** Reads the next page when its place comes near. */
export function More({ more, busy, load }: { more: boolean; busy: boolean; load: () => void }) {
  const end = useRef<HTMLDivElement>(null);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const element = end.current;
    if (!element || !more || busy) return;
    const watch = new IntersectionObserver(([entry]) => entry?.isIntersecting && latest.current(), { rootMargin: '800px' });
    watch.observe(element);
    return () => watch.disconnect();
  }, [more, busy]);
  return (
    <div ref={end} className={css.end}>
      {busy ? <Spinner /> : null}
    </div>
  );
}

function PickedBar({ picked, done }: { picked: UnifiedGeneration[]; done: () => void }) {
  const { project, create } = useConsole();
  const shots = useShots(project.id);
  const add = useAddToShot();
  const refused = useErrorToast();
  const toast = useToast();
  const pictures = useMemo(() => picked.filter((generation) => generation.type === 'image'), [picked]);
  const ids = useMemo(() => picked.map((generation) => generation.id), [picked]);
  const has = useShotsWith(ids);
  const addTo = (shotId: string) => {
    const name = shots.data?.find((shot) => shot.id === shotId)?.name ?? 'the shot';
    add.mutate(
      { shotId, generationIds: ids },
      {
        onSuccess: (added) => {
          const had = ids.length - added;
          toast({
            kind: 'success',
            title: added > 0 ? `${count(added, 'picture')} added to ${name}` : `${name} has them already`,
            description:
              added === 0 ? undefined : `${had > 0 ? `It had ${had} of them already. ` : ''}New ones lie in its tray, unpositioned.`,
          });
          done();
        },
        onError: refused,
      },
    );
  };
  return (
    <div className={css.picked} role="toolbar" aria-label="What was picked" data-testid="picked-bar">
      <strong aria-live="polite">{picked.length === 0 ? 'Pick pictures' : `${picked.length} picked`}</strong>
      <Button
        small
        look="primary"
        disabled={pictures.length < 2}
        onClick={() => {
          create({ kind: 'travel', pictures });
          done();
        }}
        data-testid="travel-of-picked"
      >
        <Film aria-hidden="true" /> Travel
      </Button>
      <label className={css.addTo}>
        <Hidden>Add to a shot</Hidden>
        <select
          className={classes(inputClass)}
          value=""
          disabled={picked.length === 0 || add.isPending}
          onChange={(event) => addTo(event.target.value)}
        >
          <option value="" disabled>
            Add to shot…
          </option>
          {shots.data?.map((shot) => (
            <option key={shot.id} value={shot.id} disabled={has.has(shot.id)}>
              {shot.name}
              {has.has(shot.id) ? ' (has them)' : ''}
            </option>
          ))}
        </select>
      </label>
      <Button small icon look="quiet" aria-label="Stop picking" onClick={done}>
        <X aria-hidden="true" />
      </Button>
    </div>
  );
}
