import type { Task, TaskStatus } from '@darkroom/client';
import { object, text } from '../lib/words';

/** A task with those of its tree. */
export interface Tree {
  task: Task;
  /** Segments in their order, then what joins them. */
  children: Task[];
}

/** The tasks that stand for themselves, in the order given, each with its tree. A child whose orchestrator is not there stands for itself. */
export function treesOf(tasks: readonly Task[]): Tree[] {
  const ids = new Set(tasks.map((task) => task.id));
  const children = new Map<string, Task[]>();
  for (const task of tasks) {
    const parent = task.orchestrator_task_id;
    if (parent && ids.has(parent)) children.set(parent, [...(children.get(parent) ?? []), task]);
  }
  return tasks
    .filter((task) => !task.orchestrator_task_id || !ids.has(task.orchestrator_task_id))
    .map((task) => ({ task, children: (children.get(task.id) ?? []).sort((a, b) => a.job_no - b.job_no) }));
}

/** How far a tree is, in percent: what its children say, together. undefined: nobody can tell. */
export function percentOf({ task, children }: Tree): number | undefined {
  if (task.status === 'Complete') return 100;
  if (task.status !== 'In Progress') return undefined;
  if (children.length === 0) return task.progress?.percent;
  const sum = children.reduce((all, child) => all + (child.status === 'Complete' ? 100 : (child.progress?.percent ?? 0)), 0);
  return Math.min(100, sum / children.length);
}

/** The picture of the unfinished result of a tree, if there is one. */
export function previewOf({ task, children }: Tree): string | undefined {
  const running = [task, ...children].filter((t) => t.status === 'In Progress');
  return running.map((t) => t.progress?.preview).find(Boolean);
}

/** Whether a running tree waits for a worker: none of its parts runs, and not all are done. */
export function isIdle({ children }: Tree): boolean {
  return (
    children.length > 0 &&
    !children.some((child) => child.status === 'In Progress') &&
    !children.every((child) => child.status === 'Complete')
  );
}

/** What a running tree does right now, in a word or two. */
export function phaseOf(tree: Tree): string {
  const { task, children } = tree;
  if (children.length > 0) {
    const running = children.filter((child) => child.status === 'In Progress');
    const first = running[0];
    if (first) return first.task_type === 'travel_stitch' ? 'joining' : (first.progress?.phase ?? 'starting');
    return isIdle(tree) ? 'waiting for a worker' : 'finishing';
  }
  return task.progress?.phase ?? (task.status === 'In Progress' ? 'starting' : '');
}

/** Why a tree failed: the words of the part that did, since the others only name it. */
export function errorOf({ task, children }: Tree): string {
  const culprit = children.find((child) => child.status === 'Failed' && child.failed_attempts > 0);
  return (culprit ?? task).error_message ?? '';
}

/** The shot that the result of a task goes to. */
export function shotOf(task: Task): string | undefined {
  const { params } = task;
  const found = [params.shot_id, object(params.orchestrator_details).shot_id, object(params.full_orchestrator_payload).shot_id]
    .map(text)
    .find(Boolean);
  return found || undefined;
}

const isOpen: Record<TaskStatus, boolean> = { Queued: true, 'In Progress': true, Complete: false, Failed: false, Cancelled: false };

export function open(task: Task): boolean {
  return isOpen[task.status];
}

/** Trees whose result is not in the gallery yet: what runs and waits, and for a few seconds what has just been done. */
export function developing(trees: readonly Tree[], made: ReadonlySet<string>, now: number): Tree[] {
  const patience = 15_000; // milliseconds
  return trees.filter(({ task, children }) => {
    if (open(task)) return true;
    if (task.status !== 'Complete' || !task.completed_at || now - Date.parse(task.completed_at) > patience) return false;
    const maker = children.find((child) => child.task_type === 'travel_stitch') ?? task;
    return maker.output_location !== null && !made.has(maker.id);
  });
}
