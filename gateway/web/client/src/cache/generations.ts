import type { InfiniteData, QueryClient, QueryKey } from '@tanstack/react-query';
import type { Page } from '../data/generations.js';
import { queryKeys } from '../keys.js';
import type { Generation, UnifiedGeneration } from '../types.js';

/** What a gallery was asked for: the last part of its key. */
export interface GalleryKey {
  includeUnpositioned?: boolean;
  pageSize: number;
}

/** A new place in a shot. */
export interface Move {
  shotGenerationId: string;
  /** null makes it unpositioned. */
  position: number | null;
}

/** Adds rows that were read to what is known of the project, newest first. */
export function rememberGenerations(cache: QueryClient, projectId: string, rows: readonly UnifiedGeneration[]): void {
  cache.setQueryData<Generation[]>(queryKeys.generations(projectId), (known = []) => {
    const all = new Map(known.map((row) => [row.id, row]));
    for (const { position: _position, shotGenerationId: _link, taskId: _task, ...row } of rows) all.set(row.id, row);
    return [...all.values()].sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at) || (a.id < b.id ? 1 : -1));
  });
}

/** Takes a generation that is gone out of what is known. */
export function dropGeneration(cache: QueryClient, projectId: string, generationId: string): void {
  cache.setQueryData<Generation[]>(queryKeys.generations(projectId), (known) => known?.filter((row) => row.id !== generationId));
  cache.setQueriesData<Generation | null>({ queryKey: ['task-generation-mapping'] }, (known) =>
    known?.id === generationId ? null : known,
  );
}

/** Moves rows of a shot's galleries, without asking the server. Returns the moves that take it back. */
export function moveGenerations(cache: QueryClient, shotId: string, moves: readonly Move[]): Move[] {
  const to = new Map(moves.map((move) => [move.shotGenerationId, move.position]));
  const back = new Map<string, Move>();
  for (const [key, data] of cache.getQueriesData<InfiniteData<Page>>({ queryKey: queryKeys.unifiedShot(shotId) })) {
    if (!data) continue;
    const { includeUnpositioned } = key[3] as GalleryKey;
    const rows = data.pages
      .flatMap((page) => page.rows)
      .map((row) => {
        const id = row.shotGenerationId;
        const position = id === undefined ? undefined : to.get(id);
        if (id === undefined || position === undefined) return row;
        if (!back.has(id)) back.set(id, { shotGenerationId: id, position: row.position });
        return { ...row, position };
      });
    const shown = rows.filter((row) => includeUnpositioned || row.position !== null).sort(inShot);
    cache.setQueryData<InfiniteData<Page>>(key, { ...data, pages: cut(shown, data.pages) });
  }
  return [...back.values()];
}

/** A row that was taken out of a gallery, and where it stood. */
export interface Taken {
  key: QueryKey;
  row: UnifiedGeneration;
  index: number;
}

/** Takes a row out of a shot's galleries, without asking the server. Returns what puts it back. */
export function takeGeneration(cache: QueryClient, shotId: string, shotGenerationId: string): Taken[] {
  const taken: Taken[] = [];
  for (const [key, data] of cache.getQueriesData<InfiniteData<Page>>({ queryKey: queryKeys.unifiedShot(shotId) })) {
    if (!data) continue;
    const index = data.pages.flatMap((page) => page.rows).findIndex((row) => row.shotGenerationId === shotGenerationId);
    const pages = data.pages.map((page) => ({ ...page, rows: page.rows.filter((row) => row.shotGenerationId !== shotGenerationId) }));
    const row = data.pages.flatMap((page) => page.rows)[index];
    if (!row) continue;
    taken.push({ key, row, index });
    cache.setQueryData<InfiniteData<Page>>(key, { ...data, pages });
  }
  return taken;
}

/** Puts back what was taken out, unless it is there again. */
export function putBack(cache: QueryClient, taken: readonly Taken[]): void {
  for (const { key, row, index } of taken) {
    cache.setQueryData<InfiniteData<Page>>(key, (data) => {
      const rows = data?.pages.flatMap((page) => page.rows);
      if (!data || !rows || rows.some((known) => known.shotGenerationId === row.shotGenerationId)) return data;
      rows.splice(index, 0, row);
      return { ...data, pages: cut(rows.sort(inShot), data.pages) };
    });
  }
}

// The order of listShotGenerations. What has no place keeps the order it came in.
function inShot(a: UnifiedGeneration, b: UnifiedGeneration): number {
  if (a.position === null || b.position === null) return Number(a.position === null) - Number(b.position === null);
  return a.position - b.position || ((a.shotGenerationId ?? '') < (b.shotGenerationId ?? '') ? -1 : 1);
}

// Into pages as long as they were, the last one taking what is left.
function cut(rows: UnifiedGeneration[], pages: Page[]): Page[] {
  let from = 0;
  return pages.map((page, i) => {
    const to = i === pages.length - 1 ? rows.length : from + page.rows.length;
    const part = { ...page, rows: rows.slice(from, to) };
    from = to;
    return part;
  });
}
