import type { QueryClient } from '@tanstack/react-query';
import { queryKeys } from '../keys.js';
import type { Task, TaskStatus } from '../types.js';

/** What a list of tasks was asked for: the last part of its key. */
export interface TaskListKey {
  statuses?: readonly TaskStatus[];
  limit?: number;
}

/** Puts a row, new or changed, into every list that it belongs to and takes it out of the others, without asking the server. */
export function putTask(cache: QueryClient, row: Task): void {
  cache.setQueryData<Task | null>(queryKeys.task(row.id), (known) => newer(known, row));
  for (const [key, list] of cache.getQueriesData<Task[]>({ queryKey: queryKeys.tasks(row.project_id) })) {
    if (list) cache.setQueryData<Task[]>(key, place(list, row, key[2] as TaskListKey | undefined));
  }
}

/** Takes a row out of every list. */
export function dropTask(cache: QueryClient, taskId: string): void {
  cache.setQueryData<Task | null>(queryKeys.task(taskId), (known) => known && null);
  cache.setQueriesData<Task[]>({ queryKey: ['tasks'] }, (list) => list?.filter((task) => task.id !== taskId));
}

function place(list: Task[], row: Task, { statuses, limit = 100 }: TaskListKey = {}): Task[] {
  const known = list.find((task) => task.id === row.id);
  const task = newer(known, row);
  if (!task || (known && task === known)) return list;
  const belongs = !statuses || statuses.includes(task.status);
  if (known && belongs) return list.map((other) => (other.id === task.id ? task : other));
  const others = list.filter((other) => other.id !== task.id);
  if (!belongs) return others;
  const at = others.findIndex((other) => other.created_at < task.created_at);
  // Beyond the end of a full list there are others that are not here.
  if (at < 0) return others.length < limit ? [...others, task] : others;
  return [...others.slice(0, at), task, ...others.slice(at)].slice(0, limit);
}

// Answers and events overtake each other: the row that was changed last counts.
function newer(known: Task | null | undefined, row: Task): Task | undefined | null {
  return known && known.updated_at > row.updated_at ? known : { ...known, ...row };
}
