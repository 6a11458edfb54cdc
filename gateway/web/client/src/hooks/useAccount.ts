import { type UseQueryResult, useQuery } from '@tanstack/react-query';
import { useDarkroom } from '../context.js';
import { getCredits, listLedger, listWorkers } from '../data/account.js';
import type { DarkroomError } from '../errors.js';
import { cacheTimes, queryKeys } from '../keys.js';
import type { Credits, LedgerEntry, WorkerStatus } from '../types.js';

/** The account of the signed-in user. */
export function useCredits(): UseQueryResult<Credits, DarkroomError> {
  const client = useDarkroom();
  return useQuery<Credits, DarkroomError>({
    queryKey: queryKeys.credits(),
    queryFn: () => getCredits(client),
    staleTime: cacheTimes.credits,
  });
}

/** What happened to the account, newest first. */
export function useLedger({ limit = 50 }: { limit?: number } = {}): UseQueryResult<LedgerEntry[], DarkroomError> {
  const client = useDarkroom();
  return useQuery<LedgerEntry[], DarkroomError>({
    queryKey: [...queryKeys.ledger(), { limit }],
    queryFn: () => listLedger(client, limit),
    staleTime: cacheTimes.credits,
  });
}

/** The workers that may run the caller's tasks, looked at every 5 s while the page is visible. */
export function useWorkers(): UseQueryResult<WorkerStatus[], DarkroomError> {
  const client = useDarkroom();
  return useQuery<WorkerStatus[], DarkroomError>({
    queryKey: queryKeys.workers(),
    queryFn: () => listWorkers(client),
    staleTime: cacheTimes.workers,
    refetchInterval: cacheTimes.workers,
    refetchIntervalInBackground: false,
  });
}
