import type { LedgerEntry } from '@darkroom/client';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { dateTime } from '../lib/time';
import { credits, short } from '../lib/words';
import { classes } from '../ui/ui';
import css from './Credits.module.css';

const kinds = {
  grant: { name: 'Granted', sign: '+' },
  hold: { name: 'Held', sign: '' },
  settle: { name: 'Charged', sign: '−' },
  release: { name: 'Given back', sign: '' },
} as const;

interface EntryListProps {
  entries: readonly LedgerEntry[];
  /** What a task is called, where that is known. */
  titles?: ReadonlyMap<string, string>;
  /** All are of one task, which need not be named. */
  own?: boolean;
}

/** Rows of the ledger. */
export function EntryList({ entries, titles, own }: EntryListProps) {
  const { href } = useConsole();
  return (
    <ol className={css.entries} data-testid="ledger">
      {entries.map((entry) => {
        const kind = kinds[entry.kind];
        return (
          <li
            key={entry.seq}
            className={classes(css.entry, css[entry.kind])}
            data-kind={entry.kind}
            data-amount={entry.amount}
            data-task={entry.task_id ?? ''}
          >
            <span className={css.kind}>{kind.name}</span>
            <span className={css.what}>
              {entry.task_id && !own ? (
                <Link href={href({ page: 'queue', taskId: entry.task_id })}>
                  {titles?.get(entry.task_id) ?? `task ${short(entry.task_id)}`}
                </Link>
              ) : (
                entry.note
              )}
              {entry.attempt !== null && (own || entry.attempt > 1) ? <small>attempt {entry.attempt}</small> : null}
            </span>
            <span className={css.amount}>
              {kind.sign}
              {credits(entry.amount)}
            </span>
            <time className={css.at} dateTime={entry.created_at}>
              {dateTime(entry.created_at)}
            </time>
            <span className={css.after}>
              <span>balance</span> {credits(entry.balance_after)}
            </span>
          </li>
        );
      })}
    </ol>
  );
}
