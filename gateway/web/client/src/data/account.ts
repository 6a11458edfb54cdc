import type { SupabaseClient } from '@supabase/supabase-js';
import type { Credits, LedgerEntry, WorkerStatus } from '../types.js';
import { answer } from './answer.js';

/** The account of the signed-in user. */
export async function getCredits(client: SupabaseClient): Promise<Credits> {
  return answer<Credits>(client.rpc('get_credits'));
}

/** What happened to the account, newest first. */
export async function listLedger(client: SupabaseClient, limit = 50): Promise<LedgerEntry[]> {
  return answer<LedgerEntry[]>(client.from('credit_ledger').select('*').order('seq', { ascending: false }).limit(limit));
}

/** The workers that may run the caller's tasks. */
export async function listWorkers(client: SupabaseClient): Promise<WorkerStatus[]> {
  return answer<WorkerStatus[]>(client.rpc('list_workers'));
}
