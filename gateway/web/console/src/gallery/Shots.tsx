import { useCreateShot, useShots } from '@darkroom/client';
import { Clapperboard, Plus } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { Button, inputClass } from '../ui/ui';
import css from './Shots.module.css';

/** The shots of the project, below each other, for the rail. */
export function ShotList() {
  const { project, place, href } = useConsole();
  const shots = useShots(project.id);
  return (
    <section className={css.list} aria-label="Shots">
      <h3 className={css.heading}>Shots</h3>
      <ul data-testid="shot-list">
        {shots.data?.map((shot) => (
          <li key={shot.id}>
            <Link
              href={href({ page: 'shot', shotId: shot.id })}
              aria-current={place.page === 'shot' && place.shotId === shot.id ? 'page' : undefined}
            >
              <Clapperboard aria-hidden="true" />
              <span>{shot.name}</span>
            </Link>
          </li>
        ))}
      </ul>
      <NewShot />
    </section>
  );
}

/** The same in a row, for narrow pages. */
export function ShotTabs() {
  const { project, place, href } = useConsole();
  const shots = useShots(project.id);
  const [adding, setAdding] = useState(false);
  return (
    <nav className={css.tabs} aria-label="Shots" data-testid="shot-list">
      <Link href={href({ page: 'gallery' })} aria-current={place.page === 'gallery' ? 'page' : undefined}>
        All
      </Link>
      {shots.data?.map((shot) => (
        <Link
          key={shot.id}
          href={href({ page: 'shot', shotId: shot.id })}
          aria-current={place.page === 'shot' && place.shotId === shot.id ? 'page' : undefined}
        >
          {shot.name}
        </Link>
      ))}
      {adding ? (
        <NewShot focus />
      ) : (
        <button type="button" onClick={() => setAdding(true)} aria-label="New shot">
          <Plus aria-hidden="true" /> Shot
        </button>
      )}
    </nav>
  );
}

function NewShot({ focus }: { focus?: boolean }) {
  const { project, go } = useConsole();
  const [name, setName] = useState('');
  const create = useCreateShot();
  const refused = useErrorToast();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!name.trim()) return;
    create.mutate(
      { projectId: project.id, name: name.trim() },
      {
        onSuccess: (shot) => {
          setName('');
          go({ page: 'shot', shotId: shot.id });
        },
        onError: refused,
      },
    );
  };
  return (
    <form className={css.form} onSubmit={submit} data-testid="new-shot">
      <input
        className={inputClass}
        aria-label="Name of the new shot"
        placeholder="New shot"
        maxLength={200}
        value={name}
        // biome-ignore lint/a11y/noAutofocus: it appears because a button was pressed for it
        autoFocus={focus}
        onChange={(event) => setName(event.target.value)}
      />
      {name.trim() ? (
        <Button type="submit" icon busy={create.isPending} aria-label="Create shot">
          <Plus aria-hidden="true" />
        </Button>
      ) : null}
    </form>
  );
}
