import { type DarkroomError, queryKeys, type Task, useTaskAttempts, useTasks } from '@darkroom/client';
import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo, useRef } from 'react';

export const openStatuses = ['Queued', 'In Progress'] as const;
const endedStatuses = ['Complete', 'Failed', 'Cancelled'] as const;

/** How many open and how many ended tasks are looked at. */
export const limits = { open: 200, ended: 100 };

/** What waits and runs in a project, and what ended last, newest first. */
export function useProjectTasks(projectId: string) {
  const open = useTasks({ projectId, statuses: openStatuses, limit: limits.open });
  const ended = useTasks({ projectId, statuses: endedStatuses, limit: limits.ended });
  const tasks = useMemo(() => {
    const all = new Map<string, Task>();
    for (const task of [...(ended.data ?? []), ...(open.data ?? [])]) {
      const known = all.get(task.id);
      if (!known || known.updated_at <= task.updated_at) all.set(task.id, task);
    }
    return [...all.values()].sort((a, b) => b.job_no - a.job_no);
  }, [open.data, ended.data]);
  const failed: DarkroomError | null = open.error ?? ended.error;
  return {
    tasks,
    pending: open.isPending || ended.isPending,
    error: tasks.length === 0 ? failed : null,
    refetch: () => {
      void open.refetch();
      void ended.refetch();
    },
  };
}

/** The attempts of a task that have ended, read anew when another one has. */
export function useAttempts(task: Task | null | undefined) {
  const cache = useQueryClient();
  const id = task?.id;
  const attempts = useTaskAttempts(id);
  const state = task ? `${task.id} ${task.attempt} ${task.status}` : '';
  const seen = useRef(state);
  useEffect(() => {
    const before = seen.current;
    seen.current = state;
    if (id && before.startsWith(id) && before !== state) void cache.invalidateQueries({ queryKey: [...queryKeys.task(id), 'attempts'] });
  }, [cache, id, state]);
  return attempts;
}
