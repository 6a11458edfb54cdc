import type { SupabaseClient } from '@supabase/supabase-js';
import type { Generation, ShotGeneration, Task, UnifiedGeneration } from '../types.js';
import { answer } from './answer.js';
import { tasksById } from './tasks.js';

/** Where the next page begins: after this row. */
export type Cursor =
  | { of: 'project'; created_at: string; id: string }
  | { of: 'positioned'; position: number; id: string }
  | { of: 'unpositioned'; created_at: string; id: string };

export interface Page {
  rows: UnifiedGeneration[];
  /** null: this was the last page. */
  next: Cursor | null;
}

/** A page of a project's gallery, newest first. */
export async function listProjectGenerations(client: SupabaseClient, projectId: string, size: number, after: Cursor | null): Promise<Page> {
  let query = client.from('generations').select('*').eq('project_id', projectId);
  if (after?.of === 'project') query = query.or(older(after.created_at, after.id));
  const rows = await answer<Generation[]>(query.order('created_at', { ascending: false }).order('id', { ascending: false }).limit(size));
  const last = rows.at(-1);
  return {
    rows: rows.map((row) => unified(row, null)),
    next: last && rows.length === size ? { of: 'project', created_at: last.created_at, id: last.id } : null,
  };
}

/** A page of a shot: what has a position in its order, then what has none, newest first. */
export async function listShotGenerations(
  client: SupabaseClient,
  shotId: string,
  size: number,
  after: Cursor | null,
  includeUnpositioned: boolean,
): Promise<Page> {
  const links: ShotGeneration[] = [];
  const inShot = () => client.from('shot_generations').select('*').eq('shot_id', shotId);
  let next: Cursor | null = null;

  if (after?.of !== 'unpositioned') {
    let query = inShot().not('position', 'is', null);
    if (after?.of === 'positioned') query = query.or(`position.gt.${after.position},and(position.eq.${after.position},id.gt.${after.id})`);
    links.push(...(await answer<ShotGeneration[]>(query.order('position').order('id').limit(size))));
    const last = links.at(-1);
    if (last && links.length === size) next = { of: 'positioned', position: last.position as number, id: last.id };
  }
  if (links.length < size && includeUnpositioned) {
    let query = inShot().is('position', null);
    if (after?.of === 'unpositioned') query = query.or(older(after.created_at, after.id));
    const rest = size - links.length;
    const others = await answer<ShotGeneration[]>(
      query.order('created_at', { ascending: false }).order('id', { ascending: false }).limit(rest),
    );
    links.push(...others);
    const last = others.at(-1);
    if (last && others.length === rest) next = { of: 'unpositioned', created_at: last.created_at, id: last.id };
  }

  const found = await generationsById(client, [...new Set(links.map((link) => link.generation_id))]);
  const rows = links.flatMap((link) => {
    const generation = found.get(link.generation_id);
    return generation ? [unified(generation, link)] : []; // deleted in between
  });
  return { rows, next };
}

async function generationsById(client: SupabaseClient, ids: string[]): Promise<Map<string, Generation>> {
  if (ids.length === 0) return new Map();
  const rows = await answer<Generation[]>(client.from('generations').select('*').in('id', ids));
  return new Map(rows.map((row) => [row.id, row]));
}

function older(createdAt: string, id: string): string {
  return `created_at.lt."${createdAt}",and(created_at.eq."${createdAt}",id.lt.${id})`;
}

export function unified(row: Generation, link: ShotGeneration | null): UnifiedGeneration {
  const taskId = taskOf(row);
  return { ...row, position: link?.position ?? null, ...(link && { shotGenerationId: link.id }), ...(taskId && { taskId }) };
}

/** Gives a generation of a shot a place; null takes it away. */
export async function positionGeneration(
  client: SupabaseClient,
  shotGenerationId: string,
  position: number | null,
): Promise<ShotGeneration> {
  return answer<ShotGeneration>(client.from('shot_generations').update({ position }).eq('id', shotGenerationId).select('*').single());
}

/** Takes a generation out of a shot. One that is not in it any more stays out. */
export async function removeFromShot(client: SupabaseClient, shotGenerationId: string): Promise<void> {
  await answer<null>(client.from('shot_generations').delete().eq('id', shotGenerationId));
}

/** Puts a generation into a shot. */
export async function addToShot(
  client: SupabaseClient,
  shotId: string,
  generationId: string,
  position: number | null,
): Promise<ShotGeneration> {
  return answer<ShotGeneration>(
    client.from('shot_generations').insert({ shot_id: shotId, generation_id: generationId, position }).select('*').single(),
  );
}

/** The generations that tasks made, by task. Tasks that made none are not in it. */
export async function generationsOfTasks(client: SupabaseClient, taskIds: readonly string[]): Promise<Map<string, Generation>> {
  if (taskIds.length === 0) return new Map();
  const rows = await answer<Generation[]>(
    client
      .from('generations')
      .select('*')
      .in('source_task_id', [...taskIds]),
  );
  return new Map(rows.flatMap((row) => (row.source_task_id ? [[row.source_task_id, row] as const] : [])));
}

/** The tasks that made generations, by generation. Uploads are not in it. */
export async function tasksOfGenerations(client: SupabaseClient, generationIds: readonly string[]): Promise<Map<string, Task>> {
  if (generationIds.length === 0) return new Map();
  const rows = await answer<Pick<Generation, 'id' | 'source_task_id' | 'tasks'>[]>(
    client
      .from('generations')
      .select('id,source_task_id,tasks')
      .in('id', [...generationIds]),
  );
  const tasks = await tasksById(client, [...new Set(rows.flatMap((row) => taskOf(row) ?? []))]);
  return new Map(
    rows.flatMap((row) => {
      const task = tasks.get(taskOf(row) ?? '');
      return task ? [[row.id, task] as const] : [];
    }),
  );
}

function taskOf(row: Pick<Generation, 'source_task_id' | 'tasks'>): string | undefined {
  return row.source_task_id ?? row.tasks[0];
}
