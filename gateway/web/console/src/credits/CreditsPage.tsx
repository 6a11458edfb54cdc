import { type LedgerEntry, useCredits, useLedger } from '@darkroom/client';
import { Coins } from 'lucide-react';
import { useMemo, useState } from 'react';
import { useConsole } from '../app/console';
import { credits, titleOf } from '../lib/words';
import { useProjectTasks } from '../queue/data';
import { Card, Column, PageHead, Section } from '../ui/Page';
import { Button, classes, Empty, Failure, Skeleton } from '../ui/ui';
import css from './Credits.module.css';
import { EntryList } from './Entries';

const page = 50;
const kinds = ['all', 'grant', 'hold', 'settle', 'release'] as const;
const names = { all: 'All', grant: 'Granted', hold: 'Held', settle: 'Charged', release: 'Given back' };

/** The account, and the ledger behind it. */
export function CreditsPage() {
  const { project } = useConsole();
  const account = useCredits();
  const [limit, setLimit] = useState(page);
  const [kind, setKind] = useState<LedgerEntry['kind'] | 'all'>('all');
  const ledger = useLedger({ limit });
  const { tasks } = useProjectTasks(project.id);
  const titles = useMemo(() => new Map(tasks.map((task) => [task.id, titleOf(task)])), [tasks]);
  const entries = ledger.data?.filter((entry) => kind === 'all' || entry.kind === kind);

  return (
    <Column testId="credits">
      <PageHead title="Credits" />
      {account.isError && !account.data ? <Failure what="Your account" error={account.error} retry={() => void account.refetch()} /> : null}
      {account.data ? <Account {...account.data} /> : account.isPending ? <Skeleton className={css.loading} /> : null}
      <Section title="Ledger">
        {ledger.isError && !ledger.data ? <Failure what="The ledger" error={ledger.error} retry={() => void ledger.refetch()} /> : null}
        {ledger.data?.length === 0 ? (
          <Empty icon={<Coins />} title="No credits yet" testId="ledger-empty">
            <p>Credits are granted by whoever runs this server. Every grant, hold and charge is listed here.</p>
          </Empty>
        ) : null}
        {ledger.data && ledger.data.length > 0 ? (
          <div className={css.kinds} role="toolbar" aria-label="Show">
            {kinds.map((key) => (
              <button key={key} type="button" aria-pressed={kind === key} onClick={() => setKind(key)}>
                {names[key]}
              </button>
            ))}
          </div>
        ) : null}
        {entries && entries.length > 0 ? <EntryList entries={entries} titles={titles} /> : null}
        {entries?.length === 0 && ledger.data && ledger.data.length > 0 ? (
          <p className={css.none}>None among the latest {ledger.data.length}.</p>
        ) : null}
        {ledger.data && ledger.data.length >= limit ? (
          <Button look="quiet" busy={ledger.isFetching} onClick={() => setLimit(limit + 4 * page)}>
            Older entries
          </Button>
        ) : null}
      </Section>
    </Column>
  );
}

function Account({ balance, held, available }: { balance: number; held: number; available: number }) {
  return (
    <Card className={css.account}>
      <div className={css.big}>
        <span>Available</span>
        <strong data-testid="credits-available">{credits(available)}</strong>
      </div>
      <div className={css.sum}>
        <meter
          className={classes(css.meter, held > 0 && css.some)}
          min={0}
          max={Math.max(balance, 1)}
          value={available}
          aria-label={`${credits(available)} of ${credits(balance)} credits are available`}
        />
        <dl>
          <div>
            <dt>Balance</dt>
            <dd data-testid="credits-balance">{credits(balance)}</dd>
          </div>
          <div className={css.held}>
            <dt>Held for running tasks</dt>
            <dd data-testid="credits-held">{credits(held)}</dd>
          </div>
        </dl>
        <p>Credits are held while a task runs, charged once when it is done, and given back otherwise.</p>
      </div>
    </Card>
  );
}
