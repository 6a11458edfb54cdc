import { type UnifiedGeneration, useGenerationTask, useShots } from '@darkroom/client';
import { ChevronLeft, ChevronRight, CircleMinus, Download, Film, ListVideo, Sparkles, X } from 'lucide-react';
import { type KeyboardEvent, type PointerEvent, useEffect, useMemo, useRef } from 'react';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { useErrorToast, useToast } from '../app/toasts';
import { dateTime, duration } from '../lib/time';
import { captionOf, inCredits, text } from '../lib/words';
import { Button, buttonClass, Chip, CopyButton, classes, Failure, Field, Spinner, useModal } from '../ui/ui';
import { useAddToShot, useGeneration, useShotsWith } from './data';
import css from './Lightbox.module.css';

interface LightboxProps {
  id: string;
  /** Among which the arrow keys move. */
  rows: readonly UnifiedGeneration[];
  onShow: (id: string) => void;
  onClose: () => void;
  /** Takes a row out of the shot that is shown, where one is. */
  onRemove?: (row: UnifiedGeneration) => void;
  /** Reads more rows, where there are some. */
  more?: () => void;
}

/** One picture or video, large, with all that is known of it. */
export function Lightbox({ id, rows, onShow, onClose, onRemove, more }: LightboxProps) {
  const dialog = useModal(onClose);
  const index = rows.findIndex((row) => row.id === id);
  const single = useGeneration(index < 0 ? id : undefined);
  const generation = rows[index] ?? single.data ?? undefined;
  const previous = rows[index - 1];
  const next = index < 0 ? undefined : rows[index + 1];
  const begun = useRef<number | null>(null);

  const nearEnd = index >= 0 && index >= rows.length - 4;
  useEffect(() => {
    if (nearEnd) more?.();
  }, [nearEnd, more]);

  const press = (event: KeyboardEvent) => {
    const at = event.target;
    if (at instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT|VIDEO)$/.test(at.tagName)) return;
    if (event.key === 'ArrowLeft' && previous) onShow(previous.id);
    else if (event.key === 'ArrowRight' && next) onShow(next.id);
  };
  // The next one is shown then, so that one can go through a shot and clear it.
  const remove = (row: UnifiedGeneration) => {
    const neighbour = next ?? previous;
    if (neighbour) onShow(neighbour.id);
    else onClose();
    onRemove?.(row);
  };
  // A swipe across the picture.
  const down = (event: PointerEvent) => {
    begun.current = event.pointerType === 'touch' ? event.clientX : null;
  };
  const up = (event: PointerEvent) => {
    const moved = begun.current === null ? 0 : event.clientX - begun.current;
    begun.current = null;
    if (moved > 60 && previous) onShow(previous.id);
    else if (moved < -60 && next) onShow(next.id);
  };

  return (
    <dialog
      ref={dialog}
      tabIndex={-1}
      className={css.box}
      aria-label={generation ? captionOf(generation.params) || 'Details' : 'Details'}
      onKeyDown={press}
      data-testid="lightbox"
    >
      <div className={css.stage} onPointerDown={down} onPointerUp={up}>
        {generation ? <Large key={generation.id} generation={generation} /> : single.isPending ? <Spinner /> : null}
        <Button
          className={classes(css.turn, css.left)}
          look="quiet"
          icon
          aria-label="Previous"
          disabled={!previous}
          onClick={() => previous && onShow(previous.id)}
          data-testid="previous"
        >
          <ChevronLeft aria-hidden="true" />
        </Button>
        <Button
          className={classes(css.turn, css.right)}
          look="quiet"
          icon
          aria-label="Next"
          disabled={!next}
          onClick={() => next && onShow(next.id)}
          data-testid="next"
        >
          <ChevronRight aria-hidden="true" />
        </Button>
        {index >= 0 ? (
          <span className={css.count} aria-hidden="true">
            {index + 1} / {rows.length}
            {more ? '+' : ''}
          </span>
        ) : null}
      </div>
      <div className={css.panel}>
        {generation ? <Facts generation={generation} onClose={onClose} onRemove={onRemove && index >= 0 ? remove : undefined} /> : null}
        {single.isError ? <Failure what="This picture" error={single.error} retry={() => void single.refetch()} /> : null}
        {index < 0 && single.data === null ? <p>There is no such picture here.</p> : null}
      </div>
      <Button className={css.close} look="quiet" icon aria-label="Close" onClick={onClose} data-testid="close">
        <X aria-hidden="true" />
      </Button>
    </dialog>
  );
}

function Large({ generation }: { generation: UnifiedGeneration }) {
  const { location, thumbnail_url: thumbnail, type } = generation;
  if (!location) return <p>It has no file.</p>;
  if (type === 'video') {
    return (
      <video
        className={css.media}
        src={location}
        poster={thumbnail ?? undefined}
        controls
        autoPlay
        muted
        loop
        playsInline
        data-testid="large"
      />
    );
  }
  return <img className={css.media} src={location} alt={captionOf(generation.params) || 'Picture'} draggable={false} data-testid="large" />;
}

interface FactsProps {
  generation: UnifiedGeneration;
  onClose: () => void;
  onRemove?: (row: UnifiedGeneration) => void;
}

function Facts({ generation, onClose, onRemove }: FactsProps) {
  const { project, href, create } = useConsole();
  const task = useGenerationTask(generation.id).data;
  const caption = captionOf(generation.params);
  const prompt = text(generation.params.prompt);
  const took =
    task?.claimed_at && task.completed_at && !task.orchestrator_task_id
      ? Date.parse(task.completed_at) - Date.parse(task.claimed_at)
      : null;
  // A child of a travel costs nothing itself and is not shown by itself.
  const taskId = task?.orchestrator_task_id ?? task?.id ?? generation.source_task_id;
  const file = fileName(generation);
  return (
    <>
      <div className={css.head}>
        <h2>{caption || (generation.type === 'video' ? 'Video' : 'Picture')}</h2>
        <p>
          <Chip>{generation.type === 'video' ? 'Video' : 'Picture'}</Chip> {dateTime(generation.created_at)}
        </p>
      </div>
      <div className={css.actions}>
        {generation.location ? (
          <>
            <a className={buttonClass({ look: 'primary' })} href={generation.location} download={file} data-testid="download">
              <Download aria-hidden="true" /> Download
            </a>
            <CopyButton small={false} text={generation.location} label="Copy the address">
              Copy address
            </CopyButton>
          </>
        ) : null}
        {taskId ? (
          <Link className={buttonClass({})} href={href({ page: 'queue', taskId })} data-testid="task-link">
            <ListVideo aria-hidden="true" /> Task
          </Link>
        ) : null}
        {prompt ? (
          <Button
            onClick={() => {
              onClose();
              create({ kind: 'picture', prompt });
            }}
          >
            <Sparkles aria-hidden="true" /> Make again
          </Button>
        ) : null}
        {generation.type === 'image' ? (
          <Button
            onClick={() => {
              onClose();
              create({ kind: 'travel', pictures: [generation] });
            }}
          >
            <Film aria-hidden="true" /> Travel from here
          </Button>
        ) : null}
        {onRemove ? (
          <Button look="quiet" onClick={() => onRemove(generation)} data-testid="remove-from-shot">
            <CircleMinus aria-hidden="true" /> Remove from shot
          </Button>
        ) : null}
      </div>
      <AddToShot generation={generation} projectId={project.id} />
      <dl className={css.facts} data-testid="facts">
        {task ? (
          <>
            <Fact name="Made by" value={`${task.worker_id ?? 'nobody'}, attempt ${task.attempt}`} />
            {took === null ? null : <Fact name="Took" value={duration(took)} />}
            {task.orchestrator_task_id ? null : <Fact name="Cost" value={inCredits(task.cost)} />}
          </>
        ) : null}
        {factsOf(generation).map(([name, value]) => (
          <Fact key={name} name={name} value={value} />
        ))}
        <Fact name="Id" value={generation.id} />
      </dl>
    </>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function AddToShot({ generation, projectId }: { generation: UnifiedGeneration; projectId: string }) {
  const shots = useShots(projectId);
  const add = useAddToShot();
  const toast = useToast();
  const refused = useErrorToast();
  const ids = useMemo(() => [generation.id], [generation.id]);
  const has = useShotsWith(ids);
  if (!shots.data?.length) return null;
  const addTo = (shotId: string) => {
    const name = shots.data.find((shot) => shot.id === shotId)?.name;
    add.mutate(
      { shotId, generationIds: ids },
      {
        onSuccess: (added) =>
          toast(
            added > 0
              ? { kind: 'success', title: `Added to ${name}`, description: 'It lies in the tray, unpositioned.' }
              : { kind: 'success', title: `${name} has it already` },
          ),
        onError: refused,
      },
    );
  };
  return (
    <Field label="Add to a shot">
      {(field) => (
        <select {...field} value="" disabled={add.isPending} onChange={(event) => addTo(event.target.value)} data-testid="add-to-shot">
          <option value="" disabled>
            Choose…
          </option>
          {shots.data.map((shot) => (
            <option key={shot.id} value={shot.id} disabled={has.has(shot.id)}>
              {shot.name}
              {has.has(shot.id) ? ' (has it)' : ''}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

// What says again what another one says.
const said =
  /^(prompt|fps_helpers|parsed_resolution_wh|size|num_total_segments_generated|frame_overlap_settings_expanded)$|(_id|_ref|_url)$/;

/** Params and metadata as names and values; what is long or nested is left to the task's own page. */
function factsOf({ params, metadata }: UnifiedGeneration): [string, string][] {
  const { width, height, ...rest } = { ...metadata, ...params };
  const facts: [string, string][] = width && height ? [['Size', `${width} × ${height}`]] : [];
  for (const [name, value] of Object.entries(rest)) {
    if (said.test(name)) continue;
    const words = wordsOf(value);
    if (words && words.length < 200) facts.push([title(name), words]);
  }
  return facts;
}

function wordsOf(value: unknown): string {
  if (typeof value === 'number') return String(Math.round(value * 100) / 100);
  if (Array.isArray(value)) return value.map(wordsOf).filter(Boolean).join(', ');
  return typeof value === 'string' || typeof value === 'boolean' ? String(value) : '';
}

function title(name: string): string {
  return name === 'fps' ? 'FPS' : name.replaceAll('_', ' ').replace(/^./, (c) => c.toUpperCase());
}

function fileName({ id, type, location, params }: UnifiedGeneration): string {
  const ending = /\.[a-z0-9]{2,4}(?=$|\?)/i.exec(location ?? '')?.[0] ?? (type === 'video' ? '.mp4' : '.png');
  const words = captionOf(params)
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 60);
  return `${words || id}${ending}`;
}
