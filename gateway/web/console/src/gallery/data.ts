import {
  cacheTimes,
  type DarkroomError,
  type Generation,
  queryKeys,
  toDarkroomError,
  type UnifiedGeneration,
  useDarkroom,
  usePositionGeneration,
  useRemoveFromShot,
} from '@darkroom/client';
import type { SupabaseClient } from '@supabase/supabase-js';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { useNow } from '../lib/time';
import { useProjectTasks } from '../queue/data';
import { developing, shotOf, treesOf } from '../queue/tree';
import { type Link, missing, shotsWith } from './links';
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

const linksKey = ['shot-links'];

async function readLinks(client: SupabaseClient, generationIds: readonly string[], shotId?: string): Promise<Link[]> {
  const links = client
    .from('shot_generations')
    .select('shot_id, generation_id')
    .in('generation_id', [...generationIds]);
  const { data, error, status } = await (shotId ? links.eq('shot_id', shotId) : links);
  if (error) throw toDarkroomError(error, status);
  return data;
}

/** The shots that have all of some generations. */
export function useShotsWith(generationIds: readonly string[]): ReadonlySet<string> {
  const client = useDarkroom();
  const links = useQuery<Link[], DarkroomError>({
    queryKey: [...linksKey, generationIds],
    queryFn: () => readLinks(client, generationIds),
    staleTime: 0, // realtime does not tell of it
    enabled: generationIds.length > 0,
  }).data;
  return useMemo(() => shotsWith(links ?? [], generationIds), [links, generationIds]);
}

/** Puts generations into a shot, unpositioned, but those that it has already. Returns how many it got. */
export function useAddToShot() {
  const client = useDarkroom();
  return useMutation<number, DarkroomError, { shotId: string; generationIds: string[] }>({
    mutationFn: async ({ shotId, generationIds }) => {
      const added = missing(await readLinks(client, generationIds, shotId), generationIds);
      if (added.length === 0) return 0;
      const rows = added.map((generation_id) => ({ shot_id: shotId, generation_id }));
      const { error, status } = await client.from('shot_generations').insert(rows);
      if (error) throw toDarkroomError(error, status);
      return added.length;
    },
    retry: false, // a lost answer is not asked for again
    onSuccess: (_added, { shotId }, _result, { client: cache }) =>
      Promise.all([cache.invalidateQueries({ queryKey: queryKeys.unifiedShot(shotId) }), cache.invalidateQueries({ queryKey: linksKey })]),
  });
}

/** Takes generations out of a shot again. */
export function useRemove(shotId: string): (shotGenerationId: string) => void {
  const { mutate } = useRemoveFromShot();
  const cache = useQueryClient();
  const refused = useErrorToast();
  return (shotGenerationId) =>
    mutate({ shotId, shotGenerationId }, { onSuccess: () => void cache.invalidateQueries({ queryKey: linksKey }), onError: refused });
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
