import type { JsonObject, Task, TaskExplanation, TaskReason } from '@darkroom/client';
import { duration, until } from '../lib/time';
import { count, credits, inCredits, kindOf, object, text } from '../lib/words';

/** What kind of thing a task waits for: it decides picture and colour. */
export type WaitKind = 'turn' | 'credits' | 'worker' | 'task' | 'pause' | 'history' | 'trouble';

export interface Wait {
  code: string;
  kind: WaitKind;
  text: string;
}

const kinds: Record<string, WaitKind> = {
  behind_others: 'turn',
  workers_busy: 'turn',
  insufficient_credits: 'credits',
  no_worker: 'worker',
  workers_silent: 'worker',
  engines_down: 'worker',
  worker_silent: 'worker',
  worker_dropped: 'worker',
  lease_over: 'worker',
  waits_for_tasks: 'task',
  waits_for_children: 'task',
  dependency_failed: 'task',
  retry_delayed: 'pause',
  retry_due: 'pause',
  queued_again: 'history',
};

/** Why a task waits, in words of the present. What has no words here is told as the server tells it. */
export function waits(explanation: TaskExplanation, now: number): Wait[] {
  return explanation.reasons
    .filter((reason) => reason.code !== 'running')
    .map((reason) => ({ code: reason.code, kind: kinds[reason.code] ?? 'trouble', text: wordsOf(reason, now) }));
}

/** The most important reason, for where there is room for one. */
export function headline(explanation: TaskExplanation, now: number): string {
  const first = waits(explanation, now)[0];
  if (first) return first.text;
  return explanation.runnable ? 'Starts with the next claim.' : '';
}

/** Its turn and when it comes, as far as that is known. */
export function turn(explanation: TaskExplanation, now: number): string {
  const { queue_position: position, expected_start: start, runnable } = explanation;
  // Its turn says nothing while nobody could take it.
  if (!runnable || kinds[explanation.reasons[0]?.code ?? ''] === 'worker') return '';
  const place =
    position === null ? '' : position > 1000 ? 'Beyond place 1000' : position === 1 ? 'Next in line' : `Place ${position} in line`;
  const when = start === null ? '' : `expected ${until(start, now)}`;
  return [place, when].filter(Boolean).join(', ');
}

/**
 * When a silent worker's task is given to another: its lease's end, if it is running out. An explanation may be older than the task as realtime tells it:
 * what it says of another attempt counts no more.
 */
export function leaseEnd(explanation: TaskExplanation | undefined, task: Pick<Task, 'attempt' | 'worker_id'>): string | null {
  const silent = explanation?.reasons.find(
    ({ code, detail }) =>
      (code === 'worker_silent' || code === 'lease_over') && detail.attempt === task.attempt && detail.worker_id === task.worker_id,
  );
  return (silent && text(silent.detail.lease_end)) || null;
}

function wordsOf({ code, message, detail }: TaskReason, now: number): string {
  switch (code) {
    case 'insufficient_credits': {
      const held = Number(detail.held ?? 0);
      const more = held > 0 ? ` ${credits(held)} of yours are held for ${count(Number(detail.held_by ?? 0), 'running task')}.` : '';
      return `${inCredits(Number(detail.missing))} missing: it costs ${credits(Number(detail.needs))}, ${credits(Number(detail.available))} are available.${more}`;
    }
    case 'behind_others':
      return `${detail.more ? 'More than 1,000 tasks' : count(Number(detail.before), 'task')} before it${mix(detail)}.`;
    case 'workers_busy':
      return Number(detail.slots) === 1 ? 'The worker for it is busy.' : `All ${detail.slots} slots for it are busy.`;
    case 'no_worker':
      return text(detail.route) && detail.route !== 'any'
        ? `No worker can do this: it needs the capability ${text(detail.route)}.`
        : `No worker takes tasks of type ${text(detail.task_type)}.`;
    case 'workers_silent':
      return `No worker for it is alive. The last one was heard from ${since(detail.last_seen, now)} ago.`;
    case 'waits_for_tasks': {
      const tasks = Array.isArray(detail.tasks) ? detail.tasks.map(object) : [];
      const only = tasks.length === 1 ? tasks[0] : undefined;
      if (only) return `Waits for the ${kindOf(text(only.task_type)).toLowerCase()} that is ${text(only.status).toLowerCase()}.`;
      return `Waits for ${count(Number(detail.count ?? tasks.length), 'task')}.`;
    }
    case 'retry_delayed':
      return `Tried again ${until(text(detail.run_after), now)}${failures(detail)}.`;
    case 'retry_due':
      return 'Its pause is over: it goes back into the queue.';
    case 'queued_again':
      return `Attempt ${detail.attempt} on ${text(detail.worker_id)} ${outcome(text(detail.outcome))}${text(detail.error) ? `: ${text(detail.error)}` : '.'}`;
    case 'worker_silent':
      return `${text(detail.worker_id)} has gone silent. ${
        detail.last_attempt ? 'It fails' : 'Another worker takes over'
      } when its lease ends, ${until(text(detail.lease_end), now)}.`;
    case 'lease_over':
      return `${text(detail.worker_id)} has gone silent and its lease is over. It is queued again any moment.`;
    default:
      return message;
  }
}

function mix(detail: JsonObject): string {
  const own = Number(detail.of_yours ?? 0);
  if (own === 0 || own === Number(detail.before)) return own === 0 ? '' : ', all yours';
  return `, ${own} of them yours`;
}

function since(at: unknown, now: number): string {
  return duration(now - Date.parse(text(at)));
}

function failures(detail: JsonObject): string {
  const failed = Number(detail.failed_attempts ?? 0);
  return failed > 0 ? ` (${failed} of ${detail.max_attempts} attempts failed)` : '';
}

/** How an attempt ended, after its subject. */
export function outcome(of: string): string {
  const words: Record<string, string> = {
    complete: 'completed',
    failed: 'failed',
    expired: 'went silent and lost its lease',
    lost: 'was lost when its worker started anew',
    released: 'was given back',
    cancelled: 'was cancelled',
  };
  return words[of] ?? `ended (${of})`;
}
