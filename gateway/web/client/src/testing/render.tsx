import type { SupabaseClient } from '@supabase/supabase-js';
import { QueryClientProvider } from '@tanstack/react-query';
import { act, cleanup, renderHook } from '@testing-library/react';
import { StrictMode } from 'react';
import { afterEach, beforeEach, vi } from 'vitest';
import { DarkroomProvider } from '../context.js';
import { createQueryClient, type DarkroomQueryClient } from '../queryClient.js';
import type { TestServer } from './server.js';

/** Time stands still in the tests of a file but where they pass it. */
export function withTestTime(): void {
  beforeEach(() => {
    vi.useFakeTimers({ now: new Date('2026-01-01T00:00:00Z') });
  });
  afterEach(() => {
    cleanup();
    vi.useRealTimers();
  });
}

/** Lets time pass, and whatever happens in it. */
export function pass(milliseconds: number): Promise<void> {
  return act(async () => {
    await vi.advanceTimersByTimeAsync(milliseconds);
  });
}

export interface Rendered<T> {
  /** What the hook answered last. */
  readonly current: T;
  cache: DarkroomQueryClient;
  client: SupabaseClient;
  unmount(): void;
}

/** Shows a hook in a page of its own, or in one that was there before, strictly. */
export function show<T>(
  server: TestServer,
  hook: () => T,
  before: { cache?: DarkroomQueryClient; client?: SupabaseClient } = {},
): Rendered<T> {
  const { cache = createQueryClient(), client = server.client() } = before;
  const { result, unmount } = renderHook(hook, {
    wrapper: ({ children }) => (
      <StrictMode>
        <QueryClientProvider client={cache}>
          <DarkroomProvider client={client}>{children}</DarkroomProvider>
        </QueryClientProvider>
      </StrictMode>
    ),
  });
  return {
    get current() {
      return result.current;
    },
    cache,
    client,
    unmount,
  };
}
