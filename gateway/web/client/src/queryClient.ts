import { QueryClient, type QueryClientConfig, type QueryFilters, type QueryKey } from '@tanstack/react-query';
import { cacheTimes } from './keys.js';
import { retryDelay, shouldRetry } from './retry.js';

/** A QueryClient that also takes a bare key where TanStack Query 5 wants filters, as version 3 did: `getQueriesData(['generations', projectId])`. */
export class DarkroomQueryClient extends QueryClient {
  override getQueriesData: QueryClient['getQueriesData'] = ((filters: QueryFilters | QueryKey) =>
    super.getQueriesData(asFilters(filters))) as QueryClient['getQueriesData'];

  override invalidateQueries: QueryClient['invalidateQueries'] = ((filters?: QueryFilters | QueryKey, ...rest: never[]) =>
    super.invalidateQueries(filters && asFilters(filters), ...rest)) as QueryClient['invalidateQueries'];
}

function asFilters(filters: QueryFilters | QueryKey): QueryFilters {
  return Array.isArray(filters) ? { queryKey: filters } : (filters as QueryFilters);
}

/** Makes the cache as the hooks expect it: database errors are tried again with growing pauses, what was refused is not. */
export function createQueryClient(config: QueryClientConfig = {}): DarkroomQueryClient {
  const { queries, mutations, ...others } = config.defaultOptions ?? {};
  return new DarkroomQueryClient({
    ...config,
    defaultOptions: {
      ...others,
      queries: { staleTime: cacheTimes.tasks, retry: shouldRetry, retryDelay, ...queries },
      mutations: { retry: shouldRetry, retryDelay, ...mutations },
    },
  });
}
