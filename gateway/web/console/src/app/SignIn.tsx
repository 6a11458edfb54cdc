import { toastFor, toDarkroomError, useDarkroom } from '@darkroom/client';
import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { Button, classes, Field } from '../ui/ui';
import css from './App.module.css';

/** Whether the gateway lets people sign up, which only it knows. */
async function signUpAllowed({ signal }: { signal: AbortSignal }): Promise<boolean> {
  const response = await fetch('/auth/v1/settings', { signal });
  if (!response.ok) return false;
  const settings = (await response.json()) as { disable_signup?: boolean };
  return settings.disable_signup === false;
}

/** The door: email and password, and a way to make an account where the gateway allows it. */
export function SignIn({ expired }: { expired: boolean }) {
  const client = useDarkroom();
  const open = useQuery({ queryKey: ['sign-up-allowed'], queryFn: signUpAllowed, staleTime: Number.POSITIVE_INFINITY });
  const [fresh, setFresh] = useState(false);
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState('');

  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const credentials = { email: String(form.get('email')).trim(), password: String(form.get('password')) };
    setBusy(true);
    setRefused('');
    const { error } = await (fresh ? client.auth.signUp(credentials) : client.auth.signInWithPassword(credentials));
    setBusy(false);
    if (!error) return;
    const e = toDarkroomError(error, error.status);
    setRefused(
      e.code === 'invalid_credentials'
        ? 'Email or password is wrong.'
        : e.retryable
          ? `${toastFor(e)?.title}. Please try again.`
          : e.message,
    );
  };

  return (
    <main className={css.entry}>
      <div className={css.door}>
        <div className={css.lamp} aria-hidden="true" />
        <div className={css.title}>
          <h1>Darkroom</h1>
          <p>{fresh ? 'Make an account' : 'Where your pictures develop'}</p>
        </div>
        <form className={css.card} onSubmit={(event) => void submit(event)} data-testid="sign-in">
          {expired && !refused ? (
            <p className={css.said} role="status" data-testid="session-expired">
              Your session has ended. Sign in to go on where you were.
            </p>
          ) : null}
          {refused ? (
            <p className={classes(css.said, css.refused)} role="alert" data-testid="sign-in-refused">
              {refused}
            </p>
          ) : null}
          <Field label="Email">{(field) => <input {...field} name="email" type="email" autoComplete="username" required />}</Field>
          <Field label="Password" hint={fresh ? '8 characters or more' : undefined}>
            {(field) => (
              <input
                {...field}
                name="password"
                type="password"
                autoComplete={fresh ? 'new-password' : 'current-password'}
                minLength={fresh ? 8 : undefined}
                required
              />
            )}
          </Field>
          <Button type="submit" look="primary" busy={busy}>
            {fresh ? 'Sign up' : 'Sign in'}
          </Button>
        </form>
        {open.data ? (
          <p className={css.other}>
            {fresh ? 'You have an account?' : 'New here?'}{' '}
            <button type="button" onClick={() => setFresh(!fresh)} data-testid="sign-up-switch">
              {fresh ? 'Sign in' : 'Sign up'}
            </button>
          </p>
        ) : null}
      </div>
    </main>
  );
}
