import type { SupabaseClient } from '@supabase/supabase-js';
import type { CreateTaskInput, JsonObject, Task, TaskAttempt, TaskExplanation, TaskStatus } from '../types.js';
import { answer } from './answer.js';

export interface ListTasks {
  projectId: string;
  statuses?: readonly TaskStatus[];
  limit?: number;
}

/** The tasks of a project, newest first. */
export async function listTasks(
  client: SupabaseClient,
  { projectId, statuses, limit = 100 }: ListTasks,
  signal?: AbortSignal,
): Promise<Task[]> {
  let query = client.from('tasks').select('*').eq('project_id', projectId);
  if (statuses) query = query.in('status', [...statuses]);
  const ordered = query.order('created_at', { ascending: false }).order('job_no', { ascending: false }).limit(limit);
  return answer<Task[]>(signal ? ordered.abortSignal(signal) : ordered);
}

/** One task; null: there is none of the caller's. */
export async function getTask(client: SupabaseClient, taskId: string): Promise<Task | null> {
  return answer<Task | null>(client.from('tasks').select('*').eq('id', taskId).maybeSingle());
}

/** Tasks by id; those that are none of the caller's are not in it. */
export async function tasksById(client: SupabaseClient, ids: readonly string[]): Promise<Map<string, Task>> {
  if (ids.length === 0) return new Map();
  const rows = await answer<Task[]>(
    client
      .from('tasks')
      .select('*')
      .in('id', [...ids]),
  );
  return new Map(rows.map((row) => [row.id, row]));
}

/** The attempts of a task that have ended, the first one first. */
export async function listAttempts(client: SupabaseClient, taskId: string): Promise<TaskAttempt[]> {
  return answer<TaskAttempt[]>(client.from('task_attempts').select('*').eq('task_id', taskId).order('attempt'));
}

/** Makes a task. The same idempotency key and input answer with the same task. */
export async function createTask(
  client: SupabaseClient,
  { projectId, toolId, input, shotId }: CreateTaskInput,
  idempotencyKey: string,
): Promise<Task> {
  return answer<Task>(
    client.rpc('create_task', {
      project_id: projectId,
      tool_id: toolId,
      input: shotId ? inShot(input, shotId) : input,
      idempotency_key: idempotencyKey,
    }),
  );
}

// A travel's shot stands in its details, from which the stitch takes it.
function inShot(input: JsonObject, shotId: string): JsonObject {
  const details = input.orchestrator_details;
  if (typeof details !== 'object' || details === null || Array.isArray(details)) return { ...input, shot_id: shotId };
  return { ...input, orchestrator_details: { ...details, shot_id: shotId } };
}

/** Cancels a task that waits or runs, with its tree. */
export async function cancelTask(client: SupabaseClient, taskId: string): Promise<Task> {
  return answer<Task>(client.rpc('cancel_task', { task_id: taskId }));
}

/** Makes a task again that failed or was cancelled. */
export async function retryTask(client: SupabaseClient, taskId: string, idempotencyKey: string): Promise<Task> {
  return answer<Task>(client.rpc('retry_task', { task_id: taskId, idempotency_key: idempotencyKey }));
}

/** Why a task is not running. */
export async function explainTask(client: SupabaseClient, taskId: string): Promise<TaskExplanation> {
  return answer<TaskExplanation>(client.rpc('explain_task', { task_id: taskId }));
}
