import type { Task, TaskAttempt } from '@darkroom/client';
import { until } from '../lib/time';
import { count, inCredits } from '../lib/words';
import { outcome } from '../queue/waiting';

/** A worker that was killed here, and what it held then. */
export interface Killed {
  workerId: string;
  pid: number;
  at: number;
  held: { taskId: string; attempt: number }[];
}

/** What came of the work, counted in the database. */
export interface Tally {
  complete: boolean;
  generations: number;
  charges: number;
  charged: number;
}

export interface Stage {
  key: 'killed' | 'lease' | 'again' | 'taken' | 'done' | 'tally';
  state: 'done' | 'now' | 'todo';
  text: string;
}

interface Facts {
  killed: Pick<Killed, 'workerId' | 'pid'>;
  /** The attempt that was under way. */
  attempt: number;
  task: Task;
  attempts: readonly TaskAttempt[];
  lease: string | null;
  tally: Tally | undefined;
  now: number;
}

/** What happens after a worker was killed at a task, from the kill to one result and one charge. */
export function takeover({ killed, attempt, task, attempts, lease, tally, now }: Facts): Stage[] {
  const lost = attempts.find((a) => a.attempt === attempt);
  const waits = !lost && task.status === 'In Progress' && task.attempt === attempt;
  const taken = task.attempt > attempt ? task : undefined;
  const ended = task.status !== 'Queued' && task.status !== 'In Progress';
  const next = attempts.find((a) => a.attempt === attempt + 1);
  const successor = next?.worker_id ?? taken?.worker_id ?? '';
  const percent = task.progress?.percent;

  return [
    { key: 'killed', state: 'done', text: `${killed.workerId} was killed (process ${killed.pid})` },
    waits
      ? {
          key: 'lease',
          state: 'now',
          text: lease ? `Nobody hears from it. Its lease ends ${until(lease, now)}` : 'Its lease counts down, unless it is heard from',
        }
      : { key: 'lease', state: 'done', text: lost ? `Attempt ${attempt} ${outcome(lost.outcome)}` : `Attempt ${attempt} ended` },
    { key: 'again', state: waits ? 'todo' : task.status === 'Queued' && !taken ? 'now' : 'done', text: 'The task is queued again' },
    taken
      ? {
          key: 'taken',
          state: 'done',
          text: `${successor} ${successor === killed.workerId ? 'started again and took it up' : 'took over'}, attempt ${attempt + 1}`,
        }
      : { key: 'taken', state: task.status === 'Queued' ? 'now' : 'todo', text: 'Another worker takes over' },
    ended
      ? { key: 'done', state: 'done', text: task.status === 'Complete' ? 'The work is done' : `The task is ${task.status}` }
      : {
          key: 'done',
          state: taken ? 'now' : 'todo',
          text: taken && percent !== undefined ? `Working: ${Math.round(percent)} %` : 'The work is done',
        },
    tally?.complete
      ? {
          key: 'tally',
          state: 'done',
          text: `${count(tally.generations, 'generation')}, ${count(tally.charges, 'charge')} of ${inCredits(tally.charged)}`,
        }
      : { key: 'tally', state: ended ? 'now' : 'todo', text: 'One generation, one charge' },
  ];
}
