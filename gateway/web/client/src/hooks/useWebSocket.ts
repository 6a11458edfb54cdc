import { useQueryClient } from '@tanstack/react-query';
import { useSyncExternalStore } from 'react';
import { useDarkroom } from '../context.js';
import { idle, type Live, liveProject } from '../live/project.js';

/**
 * Keeps what the other hooks have read of a project up to date: one channel, which reconnects by itself. Progress of running tasks is written into the
 * cache as it comes; whatever else changes is read anew, once for a burst; after a reconnect everything is.
 */
export function useWebSocket(projectId: string | null | undefined): Live {
  const client = useDarkroom();
  const cache = useQueryClient();
  const live = projectId ? liveProject(client, cache, projectId) : null;
  return useSyncExternalStore(live?.subscribe ?? subscribeToNothing, live?.snapshot ?? nothing, nothing);
}

const subscribeToNothing = () => () => {};
const nothing = () => idle;
