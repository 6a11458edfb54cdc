import { skipToken, type UseInfiniteQueryResult, useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query';
import { type GalleryKey, rememberGenerations } from '../cache/generations.js';
import { useDarkroom } from '../context.js';
import { type Cursor, listProjectGenerations, listShotGenerations, type Page } from '../data/generations.js';
import type { DarkroomError } from '../errors.js';
import { cacheTimes, queryKeys } from '../keys.js';
import type { Generation, UnifiedGeneration } from '../types.js';

export interface UseUnifiedGenerationsOptions {
  projectId: string | null | undefined;
  /** All of the project, newest first, or one shot: its positioned ones in their order, then the others, newest first. */
  mode: 'project-wide' | 'shot-specific';
  /** Of `shot-specific`. */
  shotId?: string | null;
  /** Whether a shot's unpositioned ones are in it, as new results are; true unless said. */
  includeUnpositioned?: boolean;
  pageSize?: number;
}

/** The gallery of a project or shot. `data` is a list, `fetchNextPage` makes it longer. */
export function useUnifiedGenerations(options: UseUnifiedGenerationsOptions): UseInfiniteQueryResult<UnifiedGeneration[], DarkroomError> {
  const { mode, includeUnpositioned = true, pageSize = 50 } = options;
  const projectId = options.projectId ?? '';
  const shotId = mode === 'shot-specific' ? (options.shotId ?? '') : '';
  const client = useDarkroom();
  const cache = useQueryClient();
  const queryKey =
    mode === 'shot-specific'
      ? [...queryKeys.unifiedShot(shotId), { includeUnpositioned, pageSize } satisfies GalleryKey]
      : [...queryKeys.unifiedProject(projectId), { pageSize } satisfies GalleryKey];

  // What any gallery of the project has read stands under the spec's key. Looking at it keeps it while a gallery is shown.
  useQuery<Generation[]>({ queryKey: queryKeys.generations(projectId), queryFn: skipToken, staleTime: cacheTimes.generations });

  return useInfiniteQuery<Page, DarkroomError, UnifiedGeneration[], readonly unknown[], Cursor | null>({
    queryKey,
    queryFn: async ({ pageParam }) => {
      const page =
        mode === 'shot-specific'
          ? await listShotGenerations(client, shotId, pageSize, pageParam, includeUnpositioned)
          : await listProjectGenerations(client, projectId, pageSize, pageParam);
      rememberGenerations(cache, projectId, page.rows);
      return page;
    },
    initialPageParam: null,
    getNextPageParam: (page) => page.next,
    select: rowsOf,
    staleTime: cacheTimes.generations,
    enabled: Boolean(mode === 'shot-specific' ? projectId && shotId : projectId),
  });
}

function rowsOf(data: { pages: Page[] }): UnifiedGeneration[] {
  return data.pages.flatMap((page) => page.rows);
}
