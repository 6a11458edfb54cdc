import { toastFor } from '@darkroom/client';
import { Check, CircleAlert, Copy, RotateCw, X } from 'lucide-react';
import { type ComponentProps, type ReactNode, type RefObject, useEffect, useId, useRef, useState } from 'react';
import { noteModal } from './modals';
import css from './ui.module.css';

/** Class names of which some may be missing. */
export function classes(...names: (string | false | null | undefined)[]): string {
  return names.filter(Boolean).join(' ');
}

export type Tone = 'plain' | 'live' | 'good' | 'bad' | 'wait';

export interface ButtonProps extends ComponentProps<'button'> {
  look?: 'primary' | 'danger' | 'quiet';
  small?: boolean;
  icon?: boolean;
  busy?: boolean;
}

export function Button({ look, small, icon, busy, className, disabled, children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      className={buttonClass({ look, small, icon }, className)}
    >
      {busy ? <span className={css.spinner} /> : null}
      {busy && icon ? null : children}
    </button>
  );
}

/** The looks of a button, for links. */
export function buttonClass({ look, small, icon }: Pick<ButtonProps, 'look' | 'small' | 'icon'>, more?: string): string {
  return classes(css.button, look && css[look], small && css.small, icon && css.icon, more);
}

export function Chip({
  tone = 'plain',
  dot = tone !== 'plain',
  children,
  ...rest
}: { tone?: Tone; dot?: boolean } & ComponentProps<'span'>) {
  return (
    <span {...rest} className={classes(css.chip, tone !== 'plain' && css[tone], !dot && css.plain)}>
      {children}
    </span>
  );
}

export function Progress({ percent, label }: { percent?: number; label: string }) {
  return <progress className={css.progress} aria-label={label} max={100} {...(percent === undefined ? {} : { value: percent })} />;
}

export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: ReactNode;
  children: (props: { id: string; className?: string }) => ReactNode;
}) {
  const id = useId();
  return (
    <div className={css.field}>
      <label className={css.label} htmlFor={id}>
        {label}
      </label>
      {children({ id, className: css.input })}
      {hint ? <p className={css.hint}>{hint}</p> : null}
    </div>
  );
}

export const inputClass = css.input;

export function Spinner() {
  return <span className={css.spinner} role="status" aria-label="Loading" />;
}

export function Skeleton({ className }: { className?: string }) {
  return <div className={classes(css.skeleton, className)} aria-hidden="true" />;
}

export function Hidden({ children }: { children: ReactNode }) {
  return <span className={css.hidden}>{children}</span>;
}

export function Kbd({ children }: { children: ReactNode }) {
  return <kbd className={css.kbd}>{children}</kbd>;
}

export function Empty({
  icon,
  title,
  children,
  actions,
  testId,
}: {
  icon: ReactNode;
  title: string;
  children?: ReactNode;
  actions?: ReactNode;
  testId?: string;
}) {
  return (
    <div className={css.empty} data-testid={testId}>
      <div className={css.emptyIcon} aria-hidden="true">
        {icon}
      </div>
      <h2>{title}</h2>
      {children}
      {actions ? <div className={css.actions}>{actions}</div> : null}
    </div>
  );
}

/** What could not be read, with a way to try again. */
export function Failure({ what, error, retry }: { what: string; error: unknown; retry?: () => void }) {
  const toast = toastFor(error);
  return (
    <div className={css.error} role="alert" data-testid="failure">
      <CircleAlert aria-hidden="true" />
      <div className={css.errorText}>
        <h3>{what} could not be loaded</h3>
        <p>
          {toast?.title}
          {toast?.description ? `: ${toast.description}` : ''}
        </p>
      </div>
      {retry ? (
        <Button small onClick={retry}>
          <RotateCw aria-hidden="true" /> Try again
        </Button>
      ) : null}
    </div>
  );
}

export function CopyButton({
  text,
  label,
  small = true,
  children,
}: {
  text: string;
  label: string;
  small?: boolean;
  children?: ReactNode;
}) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <Button
      small={small}
      look={children ? undefined : 'quiet'}
      icon={!children}
      aria-label={children ? undefined : label}
      title={label}
      onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}
    >
      {copied ? <Check aria-hidden="true" /> : <Copy aria-hidden="true" />}
      {children ? (copied ? 'Copied' : children) : null}
      <span className={css.hidden} aria-live="polite">
        {copied ? 'Copied' : ''}
      </span>
    </Button>
  );
}

export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div className={css.code}>
      <pre>{text}</pre>
      <CopyButton text={text} label={label} />
    </div>
  );
}

export interface DialogProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
  foot?: ReactNode;
  wide?: boolean;
  testId?: string;
  /** Whether a press beside it leaves it open, since something may be lost. */
  stays?: boolean;
}

/** A modal dialog: the browser keeps the focus in it, closes it with Escape, and gives the focus back. */
export function Dialog({ title, onClose, children, foot, wide, testId, stays }: DialogProps) {
  const dialog = useModal(onClose, stays);
  const id = useId();
  return (
    <dialog ref={dialog} tabIndex={-1} className={classes(css.dialog, wide && css.wide)} aria-labelledby={id} data-testid={testId}>
      <header className={css.dialogHead}>
        <h2 id={id}>{title}</h2>
        <Button look="quiet" icon small aria-label="Close" onClick={onClose}>
          <X aria-hidden="true" />
        </Button>
      </header>
      <div className={css.dialogBody}>{children}</div>
      {foot ? <footer className={css.dialogFoot}>{foot}</footer> : null}
    </dialog>
  );
}

/** Opens a dialog element as modal while it is there. Escape closes it, and a press beside it unless it stays. */
export function useModal(onClose: () => void, stays = false): RefObject<HTMLDialogElement | null> {
  const ref = useRef<HTMLDialogElement>(null);
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const dialog = ref.current;
    if (!dialog) return;
    const before = document.activeElement;
    dialog.showModal();
    const forget = noteModal(dialog);
    (dialog.querySelector<HTMLElement>('[data-autofocus]') ?? dialog).focus();
    const cancel = (event: Event) => {
      event.preventDefault();
      close.current();
    };
    const press = (event: MouseEvent) => {
      if (event.target === dialog && !stays) close.current();
    };
    // A second Escape closes it without asking.
    const closed = () => {
      if (!dialog.open) close.current();
    };
    dialog.addEventListener('cancel', cancel);
    dialog.addEventListener('close', closed);
    dialog.addEventListener('mousedown', press);
    return () => {
      dialog.removeEventListener('cancel', cancel);
      dialog.removeEventListener('close', closed);
      dialog.removeEventListener('mousedown', press);
      forget();
      dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, [stays]);
  return ref;
}
