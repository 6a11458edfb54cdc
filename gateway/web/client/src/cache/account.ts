import type { QueryClient } from '@tanstack/react-query';
import { queryKeys } from '../keys.js';
import type { Credits, LedgerEntry } from '../types.js';

/** The newest entry of the ledger is the account. */
export function putLedgerEntry(cache: QueryClient, entry: LedgerEntry): void {
  cache.setQueryData<Credits>(
    queryKeys.credits(),
    (known) =>
      known && { ...known, balance: entry.balance_after, held: entry.held_after, available: entry.balance_after - entry.held_after },
  );
}
