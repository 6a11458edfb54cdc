import { type Shot, useCredits, useShots, useUnifiedGenerations, useUploadImage } from '@darkroom/client';
import { ArrowLeft, ArrowRight, Check, Dices, ImageUp, X } from 'lucide-react';
import { type FormEvent, type ReactNode, useId, useRef, useState } from 'react';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { captionOf, count, credits } from '../lib/words';
import { Button, classes, Dialog, Field, Hidden, Spinner } from '../ui/ui';
import css from './Create.module.css';
import { anyPicture, tools, useCost, useMake } from './data';
import type { CreateRequest } from './request';
import { missingOf, type Segment, secondsOf, segmentsFor, travelInput } from './travel';

const pictureSizes = [
  ['512x512', 'Square'],
  ['768x512', 'Wide'],
  ['512x768', 'Tall'],
] as const;

interface FormProps {
  request: CreateRequest;
  onClose: () => void;
}

/** The form that makes a picture, or a travel between pictures. */
export default function CreateDialog({ request, onClose }: FormProps) {
  const [kind, setKind] = useState(request.kind);
  return (
    <Dialog wide stays title="Create" onClose={onClose} testId="create-dialog">
      <div className={css.kinds} role="tablist" aria-label="What to make">
        {(['picture', 'travel'] as const).map((k) => (
          <button key={k} type="button" role="tab" aria-selected={kind === k} onClick={() => setKind(k)} data-testid={`tab-${k}`}>
            {k === 'picture' ? 'Picture' : 'Travel'}
          </button>
        ))}
      </div>
      {kind === 'picture' ? <PictureForm request={request} onClose={onClose} /> : <TravelForm request={request} onClose={onClose} />}
    </Dialog>
  );
}

function PictureForm({ request, onClose }: FormProps) {
  const { project } = useConsole();
  const shots = useShots(project.id).data ?? [];
  const [prompt, setPrompt] = useState(request.prompt ?? '');
  const [size, setSize] = useState<string>(pictureSizes[0][0]);
  const [seed, setSeed] = useState('');
  const [copies, setCopies] = useState(1);
  const [shotId, setShotId] = useState(request.shotId ?? '');
  const price = useCost(tools.picture, anyPicture).data;
  const total = price === undefined ? undefined : price * copies;
  const { make, tell, busy } = useMake(total);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const inputs = Array.from({ length: copies }, (_, i) => ({
      projectId: project.id,
      toolId: tools.picture,
      input: { prompt: prompt.trim(), size, ...(seed === '' ? {} : { seed: Number(seed) + i }) },
      ...(shotId ? { shotId } : {}),
    }));
    const made = await make(inputs);
    tell(made);
    if (made.length === inputs.length) onClose();
  };

  return (
    <form className={css.form} onSubmit={(event) => void submit(event)} data-testid="picture-form">
      <Field label="What should it show?">
        {(field) => (
          <textarea
            {...field}
            name="prompt"
            rows={3}
            required
            data-autofocus=""
            placeholder="a smiling cat on a blue background"
            value={prompt}
            onChange={(event) => setPrompt(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
            }}
          />
        )}
      </Field>
      <Choice
        legend="Size"
        name="size"
        options={pictureSizes.map(([value, name]) => [value, name, value.replace('x', ' × ')])}
        value={size}
        onChange={setSize}
      />
      <div className={css.columns}>
        <Field label="How many">
          {(field) => (
            <select {...field} value={copies} onChange={(event) => setCopies(Number(event.target.value))}>
              {[1, 2, 3, 4].map((n) => (
                <option key={n}>{n}</option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Seed">
          {(field) => (
            <div className={css.seed}>
              <input
                {...field}
                name="seed"
                inputMode="numeric"
                pattern="[0-9]{1,9}"
                placeholder="any"
                value={seed}
                onChange={(event) => setSeed(event.target.value)}
              />
              <Button
                look="quiet"
                icon
                aria-label="Roll a seed"
                title="Roll a seed"
                onClick={() => setSeed(String(Math.floor(Math.random() * 1e9)))}
              >
                <Dices aria-hidden="true" />
              </Button>
            </div>
          )}
        </Field>
        <ShotField shots={shots} value={shotId} onChange={setShotId} />
      </div>
      <Foot
        price={total}
        missing={prompt.trim() ? '' : 'Say what it should show.'}
        busy={busy}
        label={copies === 1 ? 'Make it' : `Make ${copies}`}
      />
    </form>
  );
}

interface Picked {
  key: string;
  url: string;
  thumbnail: string;
  name: string;
}

const travelSizes = ['768x512', '512x768', '512x512'];

function TravelForm({ request, onClose }: FormProps) {
  const { project } = useConsole();
  const shots = useShots(project.id).data ?? [];
  const [pictures, setPictures] = useState<Picked[]>(() =>
    (request.pictures ?? []).flatMap((p) =>
      p.location ? [{ key: p.id, url: p.location, thumbnail: p.thumbnail_url ?? p.location, name: 'Picture' }] : [],
    ),
  );
  const [written, setWritten] = useState<Segment[]>([]);
  const [size, setSize] = useState('768x512');
  const [fps, setFps] = useState(16);
  const [shotId, setShotId] = useState(request.shotId ?? '');
  const segments = segmentsFor(pictures.length, written);
  const price = useCost(
    tools.travel,
    segments.length > 0 ? { orchestrator_details: { num_new_segments_to_generate: segments.length } } : null,
  ).data;
  const { make, tell, busy } = useMake(price);
  const urls = pictures.map((picture) => picture.url);
  const missing = missingOf({ pictures: urls, segments, fps });

  const change = (i: number, part: Partial<Segment>) =>
    setWritten(segments.map((segment, at) => (at === i ? { ...segment, ...part } : segment)));
  const swap = (i: number, by: number) =>
    setPictures((now) => {
      const next = [...now];
      const [moved] = next.splice(i, 1);
      if (moved) next.splice(i + by, 0, moved);
      return next;
    });
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const input = travelInput({ pictures: urls, segments, size, fps, ...(shotId ? { shotId } : {}) });
    const made = await make([{ projectId: project.id, toolId: tools.travel, input }]);
    tell(made);
    if (made.length > 0) onClose();
  };

  return (
    <form className={css.form} onSubmit={(event) => void submit(event)} data-testid="travel-form">
      {pictures.length > 0 ? (
        <ol className={css.route} data-testid="route">
          {pictures.map((picture, i) => (
            <li key={picture.key}>
              <div className={css.stop}>
                <img src={picture.thumbnail} alt={picture.name} />
                <span className={css.number}>{i + 1}</span>
                <div className={css.stopActions}>
                  <Button
                    small
                    icon
                    look="quiet"
                    aria-label={`Move picture ${i + 1} forward`}
                    disabled={i === 0}
                    onClick={() => swap(i, -1)}
                  >
                    <ArrowLeft aria-hidden="true" />
                  </Button>
                  <Button
                    small
                    icon
                    look="quiet"
                    aria-label={`Move picture ${i + 1} back`}
                    disabled={i === pictures.length - 1}
                    onClick={() => swap(i, 1)}
                  >
                    <ArrowRight aria-hidden="true" />
                  </Button>
                  <Button
                    small
                    icon
                    look="quiet"
                    aria-label={`Remove picture ${i + 1}`}
                    onClick={() => setPictures(pictures.filter((p) => p !== picture))}
                  >
                    <X aria-hidden="true" />
                  </Button>
                </div>
              </div>
              {segments[i] ? (
                <div className={css.segment}>
                  <Field label={`Between ${i + 1} and ${i + 2}`}>
                    {(field) => (
                      <input
                        {...field}
                        placeholder="what happens there"
                        value={segments[i]?.prompt ?? ''}
                        onChange={(event) => change(i, { prompt: event.target.value })}
                      />
                    )}
                  </Field>
                  <Field label="Frames">
                    {(field) => (
                      <input
                        {...field}
                        type="number"
                        min={2}
                        max={1000}
                        value={Number.isNaN(segments[i]?.frames) ? '' : segments[i]?.frames}
                        onChange={(event) => change(i, { frames: event.target.valueAsNumber })}
                      />
                    )}
                  </Field>
                </div>
              ) : null}
            </li>
          ))}
        </ol>
      ) : null}
      <Picker
        picked={pictures}
        onPick={(picture) =>
          setPictures((now) => (now.some((p) => p.url === picture.url) ? now.filter((p) => p.url !== picture.url) : [...now, picture]))
        }
      />
      <div className={css.columns}>
        <Field label="Size">
          {(field) => (
            <select {...field} value={size} onChange={(event) => setSize(event.target.value)}>
              {travelSizes.map((s) => (
                <option key={s} value={s}>
                  {s.replace('x', ' × ')}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Frames a second">
          {(field) => (
            <input
              {...field}
              type="number"
              min={1}
              max={60}
              value={Number.isNaN(fps) ? '' : fps}
              onChange={(event) => setFps(event.target.valueAsNumber)}
            />
          )}
        </Field>
        <ShotField shots={shots} value={shotId} onChange={setShotId} />
      </div>
      <Foot
        price={price}
        missing={missing}
        busy={busy}
        label="Travel"
        note={missing ? undefined : `${count(segments.length, 'segment')}, ${secondsOf(segments, fps).toFixed(1)} s of video`}
      />
    </form>
  );
}

/** The project's pictures to pick from, and a door for others. */
function Picker({ picked, onPick }: { picked: readonly Picked[]; onPick: (picture: Picked) => void }) {
  const { project } = useConsole();
  const gallery = useUnifiedGenerations({ projectId: project.id, mode: 'project-wide', pageSize: 60 });
  const upload = useUploadImage();
  const refused = useErrorToast();
  const file = useRef<HTMLInputElement>(null);
  const [uploaded, setUploaded] = useState<Picked[]>([]);
  const [busy, setBusy] = useState(false);

  const store = async (files: FileList | null) => {
    setBusy(true);
    for (const one of files ?? []) {
      try {
        const { path, url } = await upload.mutateAsync(one);
        const picture = { key: path, url, thumbnail: url, name: one.name };
        setUploaded((all) => [picture, ...all]);
        onPick(picture);
      } catch (error) {
        refused(error);
      }
    }
    setBusy(false);
  };

  const shown = [
    ...uploaded,
    ...(gallery.data ?? []).flatMap((g) =>
      g.type === 'image' && g.location
        ? [{ key: g.id, url: g.location, thumbnail: g.thumbnail_url ?? g.location, name: captionOf(g.params) || 'Picture' }]
        : [],
    ),
  ];
  return (
    <fieldset className={css.picker}>
      <legend>Pictures</legend>
      <div className={css.shelfFrame}>
        <div className={css.shelf} data-testid="picker">
          <button type="button" className={css.upload} onClick={() => file.current?.click()} disabled={busy}>
            {busy ? <Spinner /> : <ImageUp aria-hidden="true" />}
            Upload
          </button>
          <input
            ref={file}
            type="file"
            accept="image/png,image/jpeg,image/webp"
            multiple
            hidden
            data-testid="upload"
            onChange={(event) => void store(event.target.files)}
          />
          {shown.map((picture) => {
            const place = picked.findIndex((p) => p.url === picture.url);
            return (
              <button
                key={picture.key}
                type="button"
                className={classes(css.pick, place >= 0 && css.chosen)}
                aria-pressed={place >= 0}
                onClick={() => onPick(picture)}
                title={picture.name}
              >
                <img src={picture.thumbnail} alt={picture.name} loading="lazy" />
                {place >= 0 ? (
                  <span>
                    <Check aria-hidden="true" />
                  </span>
                ) : null}
              </button>
            );
          })}
          {gallery.hasNextPage ? (
            <Button look="quiet" busy={gallery.isFetchingNextPage} onClick={() => void gallery.fetchNextPage()}>
              More
            </Button>
          ) : null}
        </div>
      </div>
    </fieldset>
  );
}

function ShotField({ shots, value, onChange }: { shots: readonly Shot[]; value: string; onChange: (id: string) => void }) {
  return (
    <Field label="For the shot">
      {(field) => (
        <select {...field} value={value} onChange={(event) => onChange(event.target.value)} data-testid="shot-field">
          <option value="">None</option>
          {shots.map((shot) => (
            <option key={shot.id} value={shot.id}>
              {shot.name}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

function Choice({
  legend,
  name,
  options,
  value,
  onChange,
}: {
  legend: string;
  name: string;
  options: string[][];
  value: string;
  onChange: (value: string) => void;
}) {
  const id = useId();
  return (
    <fieldset className={css.choice}>
      <legend>{legend}</legend>
      {options.map(([key = '', label, more]) => (
        <label key={key}>
          <input type="radio" name={`${id}${name}`} value={key} checked={value === key} onChange={() => onChange(key)} />
          <span className={css.shape} data-shape={key} aria-hidden="true" />
          <span>
            {label}
            <small>{more}</small>
          </span>
        </label>
      ))}
    </fieldset>
  );
}

/** What it costs, what is left, and the button. */
function Foot({
  price,
  missing,
  busy,
  label,
  note,
}: {
  price: number | undefined;
  missing: string;
  busy: boolean;
  label: string;
  note?: ReactNode;
}) {
  const account = useCredits().data;
  const lacks = price !== undefined && account ? price - account.available : 0;
  return (
    <footer className={css.foot}>
      <p data-testid="price" data-cost={price}>
        {price === undefined ? (
          <span>{missing}</span>
        ) : (
          <>
            <strong>{credits(price)}</strong> {price === 1 ? 'credit' : 'credits'}
            {lacks > 0 ? <em>{credits(lacks)} missing</em> : <span>of {account ? credits(account.available) : '…'}</span>}
            {note ? <small>{note}</small> : null}
            {missing ? <Hidden>{missing}</Hidden> : null}
          </>
        )}
      </p>
      <Button type="submit" look="primary" busy={busy} disabled={missing !== ''} title={missing || undefined} data-testid="make">
        {label}
      </Button>
    </footer>
  );
}
