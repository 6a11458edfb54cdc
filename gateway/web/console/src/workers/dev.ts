import { type DarkroomError, toDarkroomError, useDarkroom } from '@darkroom/client';
import type { SupabaseClient } from '@supabase/supabase-js';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useConsole } from '../app/console';

/** What `gateway dev` tells of itself: lines for a terminal, and its workers. */
export interface DevInfo {
  psql: string;
  curl: string;
  workers: { id: string; pid: number; alive: boolean }[];
}

/** Asks one of the doors that only `gateway dev` has, as who is signed in. */
async function ask<T>(client: SupabaseClient, path: string, method: 'GET' | 'POST'): Promise<T> {
  const { data } = await client.auth.getSession();
  try {
    const response = await fetch(path, { method, headers: { Authorization: `Bearer ${data.session?.access_token ?? ''}` } });
    const body: unknown = await response.json().catch(() => ({ message: response.statusText }));
    if (!response.ok) throw toDarkroomError(body, response.status);
    return body as T;
  } catch (error) {
    throw toDarkroomError(error);
  }
}

export function useDevInfo({ watch = false }: { watch?: boolean } = {}) {
  const client = useDarkroom();
  const { dev } = useConsole();
  return useQuery<DevInfo, DarkroomError>({
    queryKey: ['dev-info'],
    queryFn: () => ask(client, '/dev/info', 'GET'),
    staleTime: 0, // processes come and go
    enabled: dev,
    refetchInterval: watch && 2000,
  });
}

/** Kills the process of a worker, as a power cut would. */
export function useKillWorker() {
  const client = useDarkroom();
  return useMutation<{ id: string; pid: number }, DarkroomError, string>({
    mutationFn: (id) => ask(client, `/dev/workers/${encodeURIComponent(id)}/kill`, 'POST'),
    retry: false,
  });
}
