import type { SupabaseClient } from '@supabase/supabase-js';
import { type QueryClient, type QueryKey, type UseQueryResult, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { useDarkroom } from '../context.js';
import { generationsOfTasks, tasksOfGenerations } from '../data/generations.js';
import type { DarkroomError } from '../errors.js';
import { cacheTimes, queryKeys } from '../keys.js';
import { pause, retrying } from '../retry.js';
import type { Generation, Task } from '../types.js';

/** The generation that a task made; null: none (yet). */
export function useTaskGeneration(taskId: string | null | undefined): UseQueryResult<Generation | null, DarkroomError> {
  const client = useDarkroom();
  return useQuery<Generation | null, DarkroomError>({
    queryKey: queryKeys.taskGeneration(taskId ?? ''),
    queryFn: async () => (await generationsOfTasks(client, [taskId ?? ''])).get(taskId ?? '') ?? null,
    staleTime: freshFor,
    enabled: Boolean(taskId),
  });
}

/** The task that made a generation; null: none, as for an upload. */
export function useGenerationTask(generationId: string | null | undefined): UseQueryResult<Task | null, DarkroomError> {
  const client = useDarkroom();
  return useQuery<Task | null, DarkroomError>({
    queryKey: queryKeys.generationTask(generationId ?? ''),
    queryFn: async () => (await tasksOfGenerations(client, [generationId ?? ''])).get(generationId ?? '') ?? null,
    staleTime: freshFor,
    enabled: Boolean(generationId),
  });
}

// What a task made never changes; that it has made nothing soon may.
function freshFor({ state }: { state: { data: unknown } }): number {
  return state.data === null ? cacheTimes.tasks : cacheTimes.mapping;
}

export interface PreloadMappings {
  /** Tasks whose generations are wanted, */
  taskIds?: readonly string[];
  /** and generations whose tasks are. */
  generationIds?: readonly string[];
  /** How many are asked for at once. */
  batchSize?: number;
  /** Milliseconds between batches. */
  delay?: number;
}

export interface PreloadOptions extends PreloadMappings {
  client: SupabaseClient;
  queryClient: QueryClient;
  signal?: AbortSignal;
}

/**
 * Reads ahead which generation a task made, or which task made a generation, into the cache of the hooks above: in batches, 200 ms apart. What is fresh
 * there is left alone. It ends when all is there, or early by its signal.
 */
export async function preloadGenerationTaskMappings(options: PreloadOptions): Promise<void> {
  const { client, queryClient, taskIds = [], generationIds = [], batchSize = 20, delay = 200, signal } = options;
  const jobs = [
    { wanted: taskIds, key: queryKeys.taskGeneration, read: generationsOfTasks },
    { wanted: generationIds, key: queryKeys.generationTask, read: tasksOfGenerations },
  ];
  let first = true;
  for (const { wanted, key, read } of jobs) {
    const missing = [...new Set(wanted)].filter((id) => isMissing(queryClient, key(id)));
    for (let from = 0; from < missing.length; from += batchSize) {
      if (!first) await pause(delay, signal);
      first = false;
      if (signal?.aborted) return;
      const batch = missing.slice(from, from + batchSize);
      const found = await retrying<Map<string, unknown>>(() => read(client, batch), signal);
      for (const id of batch) queryClient.setQueryData(key(id), (known: unknown) => found.get(id) ?? known ?? null);
    }
  }
}

function isMissing(cache: QueryClient, key: QueryKey): boolean {
  const query = cache.getQueryCache().find({ queryKey: key, exact: true });
  return !query || query.isStaleByTime(freshFor(query));
}

/** The same, while a component is shown. */
export function usePreloadedMappings({ taskIds = [], generationIds = [], batchSize, delay }: PreloadMappings): void {
  const client = useDarkroom();
  const queryClient = useQueryClient();
  const tasks = taskIds.join();
  const generations = generationIds.join();
  useEffect(() => {
    const stop = new AbortController();
    void preloadGenerationTaskMappings({
      client,
      queryClient,
      taskIds: tasks ? tasks.split(',') : [],
      generationIds: generations ? generations.split(',') : [],
      batchSize,
      delay,
      signal: stop.signal,
    }).catch(() => {}); // the hooks ask for themselves, and show what is wrong
    return () => stop.abort();
  }, [client, queryClient, tasks, generations, batchSize, delay]);
}
