import type { QueryClient, QueryKey } from '@tanstack/react-query';
import { putLedgerEntry } from '../cache/account.js';
import { dropGeneration } from '../cache/generations.js';
import { dropTask, knownTask, putTask, type TaskChange } from '../cache/tasks.js';
import { allExplanations, allShots, queryKeys } from '../keys.js';
import type { Generation, LedgerEntry, Task } from '../types.js';

type Row = Record<string, unknown>;

/** A change of a row, as realtime tells it. */
export interface Change {
  table: string;
  type: 'INSERT' | 'UPDATE' | 'DELETE';
  /** The row as it is now; `{}` where it is gone. */
  row: Row;
  /** The row as it was, or its key alone. */
  old: Row;
}

/** The tables that a project's channel listens to. */
export const tables = ['tasks', 'generations', 'shot_generations', 'shots', 'credit_ledger'] as const;

/** Writes into the cache what a change tells by itself, and returns the keys of what has to be read anew. */
export function applyChange(cache: QueryClient, projectId: string, change: Change): QueryKey[] {
  switch (change.table) {
    case 'tasks':
      return changeTask(cache, projectId, change);
    case 'generations':
      return changeGeneration(cache, projectId, change);
    case 'shot_generations': {
      const shotId = change.row.shot_id ?? change.old.shot_id;
      return [typeof shotId === 'string' ? queryKeys.unifiedShot(shotId) : allShots];
    }
    case 'shots':
      return change.type === 'DELETE' ? [queryKeys.shots(projectId), allShots] : [queryKeys.shots(projectId)];
    case 'credit_ledger':
      if (change.type === 'INSERT') putLedgerEntry(cache, change.row as unknown as LedgerEntry);
      return [queryKeys.credits(), queryKeys.ledger()];
    default:
      return [];
  }
}

function changeTask(cache: QueryClient, projectId: string, { type, row, old }: Change): QueryKey[] {
  if (type === 'DELETE') {
    dropTask(cache, String(old.id), projectId);
    return [queryKeys.tasks(projectId), allExplanations];
  }
  const changed = row as TaskChange;
  const before = knownTask(cache, changed.id, projectId);
  // An update may carry only the columns that can change.
  const after = before ? { ...before, ...changed } : (changed as Task);
  if (before || isWhole(changed)) putTask(cache, after);
  // A running task that tells how far it is: nothing else changes by that, so nothing is read.
  if (before?.status === after.status && before.attempt === after.attempt) return [];
  const keys: QueryKey[] = [queryKeys.tasks(projectId), queryKeys.task(after.id), allExplanations];
  if (after.status === 'Complete') keys.push(queryKeys.taskGeneration(after.id));
  return keys;
}

function isWhole(row: TaskChange): row is Task {
  return Boolean(row.created_at && row.project_id && row.params);
}

function changeGeneration(cache: QueryClient, projectId: string, { type, row, old }: Change): QueryKey[] {
  const keys: QueryKey[] = [queryKeys.generations(projectId), queryKeys.unifiedProject(projectId)];
  if (type === 'DELETE') {
    dropGeneration(cache, projectId, String(old.id));
    return [...keys, allShots];
  }
  const generation = row as unknown as Generation;
  if (generation.source_task_id && generation.params) {
    cache.setQueryData<Generation | null>(queryKeys.taskGeneration(generation.source_task_id), generation);
  }
  return type === 'INSERT' ? keys : [...keys, allShots];
}

/** The keys of everything that may have changed while nobody listened. */
export function allOf(projectId: string): QueryKey[] {
  return [
    queryKeys.tasks(projectId),
    ['task'],
    queryKeys.generations(projectId),
    queryKeys.unifiedProject(projectId),
    allShots,
    ['task-generation-mapping'],
    queryKeys.shots(projectId),
    queryKeys.credits(),
    queryKeys.ledger(),
    allExplanations,
  ];
}
