import {
  cacheTimes,
  type DarkroomError,
  type Generation,
  queryKeys,
  toDarkroomError,
  type UnifiedGeneration,
  useDarkroom,
  usePositionGeneration,
} from '@darkroom/client';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { useNow } from '../lib/time';
import { useProjectTasks } from '../queue/data';
import { developing, shotOf, treesOf } from '../queue/tree';
import type { Move } from './ordering';

/** What is not in the gallery yet, of the project or of one of its shots. */
export function useDeveloping(shown: readonly UnifiedGeneration[] | undefined, shotId?: string) {
  const { project } = useConsole();
  const { tasks } = useProjectTasks(project.id);
  const now = useNow(5000);
  return useMemo(() => {
    const made = new Set(shown?.flatMap((generation) => generation.tasks));
    return developing(treesOf(tasks), made, now).filter(({ task }) => !shotId || shotOf(task) === shotId);
  }, [tasks, shown, shotId, now]);
}

/** One generation that no gallery has read; null: there is none. */
export function useGeneration(id: string | undefined) {
  const client = useDarkroom();
  const { project } = useConsole();
  return useQuery<UnifiedGeneration | null, DarkroomError>({
    queryKey: [...queryKeys.generations(project.id), id],
    queryFn: async () => {
      const { data, error, status } = await client.from('generations').select('*').eq('id', id).maybeSingle<Generation>();
      if (error) throw toDarkroomError(error, status);
      return data && { ...data, position: null, taskId: data.source_task_id ?? undefined };
    },
    staleTime: cacheTimes.generations,
    enabled: Boolean(id),
  });
}

/** Puts generations into a shot, unpositioned. */
export function useAddToShot() {
  const client = useDarkroom();
  return useMutation<void, DarkroomError, { shotId: string; generationIds: string[] }>({
    mutationFn: async ({ shotId, generationIds }) => {
      const rows = generationIds.map((generation_id) => ({ shot_id: shotId, generation_id }));
      const { error, status } = await client.from('shot_generations').insert(rows);
      if (error) throw toDarkroomError(error, status);
    },
    retry: false, // a lost answer would link twice
    onSuccess: (_nothing, { shotId }, _result, { client: cache }) => cache.invalidateQueries({ queryKey: queryKeys.unifiedShot(shotId) }),
  });
}

/** Writes new positions, one after the other. */
export function useMoves(shotId: string): (moves: readonly Move[]) => Promise<void> {
  const { mutateAsync } = usePositionGeneration();
  const refused = useErrorToast();
  return async (moves) => {
    try {
      await Promise.all(moves.map((move) => mutateAsync({ shotId, ...move })));
    } catch (error) {
      refused(error);
    }
  };
}
