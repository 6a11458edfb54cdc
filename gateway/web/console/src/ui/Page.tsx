import type { ReactNode } from 'react';
import css from './page.module.css';
import { classes } from './ui';

/** A page's title and what can be done on it. */
export function PageHead({ title, children, actions }: { title: string; children?: ReactNode; actions?: ReactNode }) {
  return (
    <header className={css.head}>
      <div className={css.title}>
        <h1>{title}</h1>
        {children}
      </div>
      {actions ? <div className={css.actions}>{actions}</div> : null}
    </header>
  );
}

export function Section({ title, note, children, testId }: { title: string; note?: ReactNode; children: ReactNode; testId?: string }) {
  return (
    <section className={css.section} data-testid={testId} aria-label={title}>
      <h2>
        {title}
        {note !== undefined ? <small>{note}</small> : null}
      </h2>
      {children}
    </section>
  );
}

/** A page of text and lists, as wide as can be read well. */
export function Column({ children, testId }: { children: ReactNode; testId?: string }) {
  return (
    <div className={css.column} data-testid={testId}>
      {children}
    </div>
  );
}

export function Card({ children, className, ...rest }: React.ComponentProps<'div'>) {
  return (
    <div {...rest} className={classes(css.card, className)}>
      {children}
    </div>
  );
}
