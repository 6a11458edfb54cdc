import type { UnifiedGeneration } from '@darkroom/client';
import { Check, Play } from 'lucide-react';
import { type ComponentProps, type Ref, useEffect, useRef, useState } from 'react';
import { useMedia } from '../app/media';
import { captionOf } from '../lib/words';
import { classes } from '../ui/ui';
import css from './Tile.module.css';

/** For how long after it was made a picture develops when it is first seen. */
const fresh = 20_000; // milliseconds

interface TileProps {
  generation: UnifiedGeneration;
  onOpen: () => void;
  /** Whether it is picked; undefined while nothing is being picked. */
  picked?: boolean;
  /** Of the button, where it is also something to drag by. */
  handle?: ComponentProps<'button'>;
}

/** A picture or video of the gallery. */
export function Tile({ generation, onOpen, picked, handle }: TileProps) {
  const caption = captionOf(generation.params);
  const [isFresh] = useState(() => Date.now() - Date.parse(generation.created_at) < fresh);
  const name = `${generation.type === 'video' ? 'Video' : 'Picture'}${caption ? `: ${caption}` : ''}`;
  return (
    <button
      {...handle}
      type="button"
      className={classes(css.tile, isFresh && css.fresh, picked && css.picked)}
      onClick={onOpen}
      aria-label={name}
      aria-pressed={picked}
      data-tile=""
      data-testid="tile"
      data-generation={generation.id}
      data-type={generation.type}
    >
      <Media generation={generation} />
      {caption ? (
        <span className={css.caption} aria-hidden="true">
          {caption}
        </span>
      ) : null}
      {generation.type === 'video' ? (
        <span className={css.badge} aria-hidden="true">
          <Play />
        </span>
      ) : null}
      {picked === undefined ? null : (
        <span className={css.tick} aria-hidden="true">
          {picked ? <Check /> : null}
        </span>
      )}
    </button>
  );
}

/** A still, or a video that plays while it is pointed at; without a pointer, while it is in view. */
export function Media({ generation }: { generation: Pick<UnifiedGeneration, 'type' | 'location' | 'thumbnail_url'> }) {
  const { type, location, thumbnail_url: thumbnail } = generation;
  const [seen, setSeen] = useState(false);
  if (type === 'video' && location) return <LoopingVideo src={location} poster={thumbnail ?? undefined} />;
  const src = thumbnail ?? location;
  if (!src) return <span className={css.missing}>No file</span>;
  return (
    <img
      className={classes(css.media, seen && css.seen)}
      src={src}
      alt=""
      loading="lazy"
      decoding="async"
      draggable={false}
      onLoad={() => setSeen(true)}
    />
  );
}

function LoopingVideo({ src, poster }: { src: string; poster?: string }) {
  const video = useRef<HTMLVideoElement>(null);
  const still = useMedia('(prefers-reduced-motion: reduce)');
  const touch = useMedia('(hover: none)');

  useEffect(() => {
    const element = video.current;
    if (!element) return;
    const play = () => void element.play().catch(() => {}); // the browser may refuse: then it stays still
    const pause = () => element.pause();
    if (touch && !still) {
      const watch = new IntersectionObserver(([entry]) => (entry?.isIntersecting ? play() : pause()), { threshold: 0.6 });
      watch.observe(element);
      return () => watch.disconnect();
    }
    const over = element.closest('[data-tile]') ?? element;
    for (const event of ['pointerenter', 'focus']) over.addEventListener(event, play);
    for (const event of ['pointerleave', 'blur']) over.addEventListener(event, pause);
    return () => {
      for (const event of ['pointerenter', 'focus']) over.removeEventListener(event, play);
      for (const event of ['pointerleave', 'blur']) over.removeEventListener(event, pause);
    };
  }, [touch, still]);

  return (
    <video
      ref={video as Ref<HTMLVideoElement>}
      className={classes(css.media, css.seen)}
      src={src}
      poster={poster}
      muted
      loop
      playsInline
      preload={poster ? 'none' : 'metadata'}
    />
  );
}
