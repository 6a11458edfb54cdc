import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import { QueryClientProvider } from '@tanstack/react-query';
import { renderHook, waitFor } from '@testing-library/react';
import { WebSocket } from 'ws';
import { createQueryClient, DarkroomProvider, type DarkroomQueryClient } from '../src/index.js';

interface Person {
  id: string;
  email: string;
  password: string;
  project: string;
  shot: string;
}

/** What gateway/clients/hooks_test.go says. */
export const world: {
  url: string;
  anonKey: string;
  serviceKey: string;
  workerToken: string;
  realtime: boolean;
  explains: boolean;
  users: { ada: Person; bob: Person; cleo: Person };
} = JSON.parse(process.env.DARKROOM_TEST_WORLD ?? '');

let clients = 0;

/** A client of the gateway with a key of its own; nobody is signed in. */
export function connect(key = world.anonKey): SupabaseClient {
  return createClient(world.url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false, storageKey: `client-${++clients}` },
    realtime: { transport: WebSocket as never },
  });
}

export async function signIn({ email, password }: Person): Promise<SupabaseClient> {
  const client = connect();
  const { error } = await client.auth.signInWithPassword({ email, password });
  if (error) throw error;
  return client;
}

/** Shows a hook in a page of its own. */
export function show<T>(client: SupabaseClient, hook: () => T, cache: DarkroomQueryClient = createQueryClient()) {
  const { result, unmount } = renderHook(hook, {
    wrapper: ({ children }) => (
      <QueryClientProvider client={cache}>
        <DarkroomProvider client={client}>{children}</DarkroomProvider>
      </QueryClientProvider>
    ),
  });
  return { result, unmount, cache };
}

/** Waits until what a page shows is as it should be. */
export function until(condition: () => unknown): Promise<void> {
  return waitFor(
    () => {
      if (!condition()) throw new Error(`not yet: ${condition}`);
    },
    { timeout: 20_000, interval: 20 },
  );
}

const gpu = connect(world.workerToken);

async function work(name: string, body: object): Promise<{ task_id: string; attempt: number }> {
  const { data, error } = await gpu.functions.invoke(name, { body });
  if (error) throw error;
  return data;
}

/** A worker takes the next task. */
export const claim = () => work('claim_next_task', { worker_id: 'gpu-1' });

/** And ends it with a picture. */
export const complete = ({ task_id, attempt }: { task_id: string; attempt: number }) =>
  work('complete_task', { task_id, attempt, worker_id: 'gpu-1', output_location: `https://files.example.com/${task_id}.png` });

/** And tells how far it is. */
export async function progress({ task_id, attempt }: { task_id: string; attempt: number }, percent: number): Promise<void> {
  const { error } = await gpu.rpc('report_progress', { task_id, attempt, worker_id: 'gpu-1', progress: { percent } });
  if (error) throw error;
}
