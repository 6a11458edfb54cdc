import type { Task, TaskAttempt } from '@darkroom/client';
import { outcome } from './waiting';

/** One attempt at a task, as it is told. */
export interface Step {
  attempt: number;
  worker: string;
  from: string;
  /** null: it goes on. */
  to: string | null;
  tone: 'live' | 'good' | 'bad' | 'plain';
  text: string;
  error: string | null;
}

const tones: Record<string, Step['tone']> = { complete: 'good', failed: 'bad', expired: 'bad', lost: 'bad' };

/** Who tried a task, in order: the attempts that have ended, and the one that goes on. `parts`: of how many others it is made. */
export function story(task: Task, attempts: readonly TaskAttempt[], parts = 0): Step[] {
  const steps = attempts.map<Step>((a) => ({
    attempt: a.attempt,
    worker: a.worker_id,
    from: a.claimed_at,
    to: a.ended_at,
    tone: tones[a.outcome] ?? 'plain',
    text: outcome(a.outcome),
    error: a.error,
  }));
  if (task.status === 'In Progress' && task.worker_id && task.claimed_at && !steps.some((step) => step.attempt === task.attempt)) {
    const before = steps.at(-1);
    // A travel needs no worker while its parts are made.
    const text =
      before && before.worker !== task.worker_id ? `took over from ${before.worker}` : parts > 0 ? 'handed out its parts' : 'is working';
    steps.push({ attempt: task.attempt, worker: task.worker_id, from: task.claimed_at, to: null, tone: 'live', text, error: null });
  }
  return steps;
}

/** Who has a task now, in a line: `attempt 2 on local-2, took over from local-1`. */
export function holder(task: Task, attempts: readonly TaskAttempt[]): string {
  const last = story(task, attempts).at(-1);
  if (!last || last.to !== null) return '';
  const over = last.text.startsWith('took over') ? `, ${last.text}` : '';
  return `attempt ${last.attempt} on ${last.worker}${over}`;
}
