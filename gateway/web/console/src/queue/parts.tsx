import { type Task, useExplainTask, useRetryTask } from '@darkroom/client';
import { Clock, Coins, Cpu, History, Hourglass, RotateCw, TriangleAlert, Workflow } from 'lucide-react';
import { useConsole } from '../app/console';
import { useErrorToast, useToast } from '../app/toasts';
import { duration, until, useNow } from '../lib/time';
import { titleOf } from '../lib/words';
import { Button, Chip, classes } from '../ui/ui';
import { holder } from './attempts';
import { useAttempts } from './data';
import css from './Queue.module.css';
import { isIdle, phaseOf, type Tree } from './tree';
import { headline, leaseEnd, turn, type WaitKind, waits } from './waiting';

export function Retry({ task }: { task: Task }) {
  const retry = useRetryTask();
  const refused = useErrorToast();
  const toast = useToast();
  const { go } = useConsole();
  return (
    <Button
      small
      busy={retry.isPending}
      onClick={() =>
        retry.mutate(task.id, {
          onSuccess: (again) =>
            toast({
              kind: 'success',
              title: 'It is made again',
              description: titleOf(again),
              action: { label: 'Show', run: () => go({ page: 'queue', taskId: again.id }) },
            }),
          onError: refused,
        })
      }
      aria-label={`Retry ${titleOf(task)}`}
      data-testid="retry"
    >
      <RotateCw aria-hidden="true" /> Retry
    </Button>
  );
}

/** What is being done, or that nobody does it now. */
export function Phase({ tree }: { tree: Tree }) {
  return <Chip tone={isIdle(tree) ? 'wait' : 'live'}>{phaseOf(tree)}</Chip>;
}

/** Who works on a task, and what happens when that one has gone silent. */
export function Holder({ task }: { task: Task }) {
  const now = useNow();
  const attempts = useAttempts(task.attempt > 1 ? task : null).data ?? [];
  // Only the database knows when a worker was last heard from; it is asked while a task runs, as its own cache allows.
  const lease = leaseEnd(useExplainTask(task.id).data, task);
  const line = holder(task, attempts);
  return (
    <span className={classes(css.holder, task.attempt > 1 && css.again)} data-testid="holder">
      {line}
      {task.claimed_at ? `, ${duration(now - Date.parse(task.claimed_at))}` : ''}
      {lease ? (
        <em data-testid="lease">
          <Hourglass aria-hidden="true" /> worker silent, taken over {until(lease, now)}
        </em>
      ) : null}
    </span>
  );
}

const waitIcons: Record<WaitKind, typeof Clock> = {
  turn: Clock,
  credits: Coins,
  worker: Cpu,
  task: Workflow,
  pause: Hourglass,
  history: History,
  trouble: TriangleAlert,
};

/** Why a task waits, a line a reason. */
export function Why({ task, all }: { task: Task; all?: boolean }) {
  const now = useNow();
  const explanation = useExplainTask(task.id);
  if (explanation.isError) return <p className={css.sub}>Why it waits could not be asked.</p>;
  if (!explanation.data) return <p className={css.sub}>Asking why it waits…</p>;
  const reasons = waits(explanation.data, now);
  const shown = all ? reasons : reasons.slice(0, 3);
  const when = turn(explanation.data, now);
  return (
    <div className={css.why} data-testid="why">
      {when ? <p className={css.turn}>{when}</p> : null}
      {shown.length === 0 ? <p className={css.reason}>{headline(explanation.data, now)}</p> : null}
      {shown.map((reason) => {
        const Icon = waitIcons[reason.kind];
        return (
          <p key={reason.code} className={classes(css.reason, css[reason.kind])} data-code={reason.code}>
            <Icon aria-hidden="true" />
            <span>{reason.text}</span>
          </p>
        );
      })}
    </div>
  );
}
