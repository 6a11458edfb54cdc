import {
  type InvalidateOptions,
  type InvalidateQueryFilters,
  type Query,
  QueryClient,
  type QueryClientConfig,
  type QueryFilters,
  type QueryKey,
} from '@tanstack/react-query';
import { cacheTimes } from './keys.js';
import { retryDelay, shouldRetry } from './retry.js';

/**
 * A QueryClient that takes a bare key where TanStack Query 5 wants filters, as people write it and as version 4 had it:
 * `queryClient.getQueriesData(['generations', projectId])` is `getQueriesData({ queryKey: ['generations', projectId] })`.
 */
export class DarkroomQueryClient extends QueryClient {
  override getQueriesData<TData = unknown>(filters: QueryFilters | QueryKey): [QueryKey, TData | undefined][] {
    return super.getQueriesData<TData>(asFilters(filters));
  }

  readonly #again = new WeakMap<Query, Promise<void>>();

  /**
   * Makes stale, and reads anew what is shown. TanStack Query leaves what is being read for the first time to its answer, although that may be
   * older than the change: here it is read once more after it.
   */
  override async invalidateQueries(filters?: InvalidateQueryFilters | QueryKey, options?: InvalidateOptions): Promise<void> {
    const match = filters && asFilters(filters);
    const first = this.getQueryCache()
      .findAll({ ...match, type: 'active', fetchStatus: 'fetching' })
      .filter((query) => query.state.data === undefined);
    await Promise.all([super.invalidateQueries(match, options), ...first.map((query) => this.#readAgain(query, options))]);
  }

  #readAgain(query: Query, options?: InvalidateOptions): Promise<void> {
    const read = async () => {
      await query.promise?.catch(() => undefined);
      this.#again.delete(query);
      await super.invalidateQueries({ queryKey: query.queryKey, exact: true }, options);
    };
    const again = this.#again.get(query) ?? read();
    this.#again.set(query, again);
    return again;
  }
}

function asFilters<F extends QueryFilters>(filters: F | QueryKey): F {
  return isKey(filters) ? ({ queryKey: filters } as unknown as F) : filters;
}

function isKey(filters: object): filters is QueryKey {
  return Array.isArray(filters);
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
