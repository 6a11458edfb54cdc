import type { QueryClient } from '@tanstack/react-query';
import { queryKeys } from '../keys.js';
import type { Task, TaskStatus } from '../types.js';

/** What a list of tasks was asked for: the last part of its key. */
export interface TaskListKey {
  statuses?: readonly TaskStatus[];
  limit: number;
}

/** What an event says of a task: at least its id, and whatever may have changed. */
export type TaskChange = Partial<Task> & Pick<Task, 'id'>;

/** The newest row of a task that is known here. */
export function knownTask(cache: QueryClient, taskId: string, projectId: string): Task | undefined {
  const rows = cache
    .getQueriesData<Task[]>({ queryKey: queryKeys.tasks(projectId) })
    .map(([, list]) => list?.find((task) => task.id === taskId));
  rows.push(cache.getQueryData<Task | null>(queryKeys.task(taskId)) ?? undefined);
  return rows.reduce((best, row) => (row && (!best || isLater(row.updated_at, best.updated_at)) ? row : best), undefined);
}

/** Puts a row, new or changed, into every list that it belongs to and takes it out of the others, without asking the server. */
export function putTask(cache: QueryClient, row: Task): void {
  cache.setQueryData<Task | null>(queryKeys.task(row.id), (known) => laterRow(known ?? undefined, row));
  for (const [key, list] of cache.getQueriesData<Task[]>({ queryKey: queryKeys.tasks(row.project_id) })) {
    if (list) cache.setQueryData<Task[]>(key, place(list, row, key[2] as TaskListKey));
  }
}

/** Takes a row out of every list. */
export function dropTask(cache: QueryClient, taskId: string, projectId: string): void {
  cache.setQueryData<Task | null>(queryKeys.task(taskId), (known) => known && null);
  cache.setQueriesData<Task[]>({ queryKey: queryKeys.tasks(projectId) }, (list) => list?.filter((task) => task.id !== taskId));
}

function place(list: Task[], row: Task, { statuses, limit }: TaskListKey): Task[] {
  const known = list.find((task) => task.id === row.id);
  const task = laterRow(known, row);
  if (task === known) return list;
  const belongs = !statuses || statuses.includes(task.status);
  if (known && belongs) return list.map((other) => (other.id === task.id ? task : other));
  const others = list.filter((other) => other.id !== task.id);
  if (!belongs) return others;
  const at = others.findIndex((other) => isLater(task.created_at, other.created_at));
  // Beyond the end of a full list there are others that are not here.
  if (at < 0) return others.length < limit ? [...others, task] : others;
  return [...others.slice(0, at), task, ...others.slice(at)].slice(0, limit);
}

// Answers and events overtake each other: the row that was changed last counts.
function laterRow(known: Task | undefined, row: Task): Task {
  return known && !isLater(row.updated_at, known.updated_at) ? known : { ...known, ...row };
}

/** Whether one time of PostgreSQL's is after another. They have microseconds, of which Date knows only thousands. */
export function isLater(time: string, other: string): boolean {
  const difference = Date.parse(time) - Date.parse(other);
  return difference === 0 ? time > other : difference > 0;
}
