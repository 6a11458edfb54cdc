import { type UseQueryResult, useQuery } from '@tanstack/react-query';
import type { TaskListKey } from '../cache/tasks.js';
import { useDarkroom } from '../context.js';
import { explainTask, getTask, type ListTasks, listAttempts, listTasks } from '../data/tasks.js';
import type { DarkroomError } from '../errors.js';
import { cacheTimes, queryKeys } from '../keys.js';
import type { Task, TaskAttempt, TaskExplanation } from '../types.js';

export interface UseTasksOptions extends Omit<ListTasks, 'projectId'> {
  /** Nothing is read while there is none. */
  projectId: string | null | undefined;
}

/** The tasks of a project, newest first. */
export function useTasks({ projectId, statuses, limit = 100 }: UseTasksOptions): UseQueryResult<Task[], DarkroomError> {
  const client = useDarkroom();
  return useQuery<Task[], DarkroomError>({
    queryKey: [...queryKeys.tasks(projectId ?? ''), { statuses: statuses && [...statuses].sort(), limit } satisfies TaskListKey],
    queryFn: ({ signal }) => listTasks(client, { projectId: projectId ?? '', statuses, limit }, signal),
    staleTime: cacheTimes.tasks,
    enabled: Boolean(projectId),
  });
}

/** One task; null: there is none. */
export function useTask(taskId: string | null | undefined): UseQueryResult<Task | null, DarkroomError> {
  const client = useDarkroom();
  return useQuery<Task | null, DarkroomError>({
    queryKey: queryKeys.task(taskId ?? ''),
    queryFn: () => getTask(client, taskId ?? ''),
    staleTime: cacheTimes.tasks,
    enabled: Boolean(taskId),
  });
}

/** The attempts of a task that have ended. */
export function useTaskAttempts(taskId: string | null | undefined): UseQueryResult<TaskAttempt[], DarkroomError> {
  const client = useDarkroom();
  return useQuery<TaskAttempt[], DarkroomError>({
    queryKey: [...queryKeys.task(taskId ?? ''), 'attempts'],
    queryFn: () => listAttempts(client, taskId ?? ''),
    staleTime: cacheTimes.tasks,
    enabled: Boolean(taskId),
  });
}

/** Why a task is not running, in words and codes. */
export function useExplainTask(
  taskId: string | null | undefined,
  { enabled = true }: { enabled?: boolean } = {},
): UseQueryResult<TaskExplanation, DarkroomError> {
  const client = useDarkroom();
  return useQuery<TaskExplanation, DarkroomError>({
    queryKey: queryKeys.explanation(taskId ?? ''),
    queryFn: () => explainTask(client, taskId ?? ''),
    staleTime: cacheTimes.explanation,
    refetchInterval: cacheTimes.explanation,
    enabled: enabled && Boolean(taskId),
  });
}
