/** What a JSON column holds. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json | undefined };
export type JsonObject = { [key: string]: Json | undefined };

export const taskStatuses = ['Queued', 'In Progress', 'Complete', 'Failed', 'Cancelled'] as const;
export type TaskStatus = (typeof taskStatuses)[number];

/** What the worker of a running task last said. */
export interface TaskProgress {
  /** 0 to 100. */
  percent?: number;
  value?: number;
  max?: number;
  phase?: string;
  message?: string;
  /** Address of a small picture of the unfinished result. */
  preview?: string;
}

/** A row of `tasks`. Times are ISO 8601. */
export interface Task {
  id: string;
  job_no: number;
  owner_id: string;
  project_id: string;
  task_type: string;
  tool_id: string | null;
  status: TaskStatus;
  params: JsonObject;
  dependant_on: string[] | null;
  orchestrator_task_id: string | null;
  /** In credits. */
  cost: number;
  idempotency_key: string | null;
  attempt: number;
  failed_attempts: number;
  worker_id: string | null;
  claimed_at: string | null;
  run_after: string | null;
  progress: TaskProgress | null;
  output_location: string | null;
  thumbnail_url: string | null;
  metadata: JsonObject;
  error_message: string | null;
  generation_created: boolean;
  created_at: string;
  updated_at: string;
  completed_at: string | null;
}

/** A row of `task_attempts`: one that has ended. */
export interface TaskAttempt {
  owner_id: string;
  task_id: string;
  attempt: number;
  worker_id: string;
  claimed_at: string;
  ended_at: string;
  outcome: 'complete' | 'failed' | 'expired' | 'lost' | 'released' | 'cancelled';
  error: string | null;
}

/** A row of `generations`: a picture or video. */
export interface Generation {
  id: string;
  owner_id: string;
  project_id: string;
  type: 'image' | 'video';
  location: string | null;
  thumbnail_url: string | null;
  params: JsonObject;
  metadata: JsonObject;
  /** Ids of the tasks that made it. */
  tasks: string[];
  source_task_id: string | null;
  created_at: string;
}

/** A generation as a gallery shows it. */
export interface UnifiedGeneration extends Generation {
  /** Place in the shot; null: unpositioned, or no shot is asked for. */
  position: number | null;
  /** The row of `shot_generations` that puts it into the shot. */
  shotGenerationId?: string;
  /** The task that made it. */
  taskId?: string;
}

/** A row of `shot_generations`. */
export interface ShotGeneration {
  id: string;
  owner_id: string;
  project_id: string;
  shot_id: string;
  generation_id: string;
  position: number | null;
  created_at: string;
}

export interface Project {
  id: string;
  owner_id: string;
  name: string;
  created_at: string;
}

export interface Shot {
  id: string;
  project_id: string;
  name: string;
  created_at: string;
}

/** The account of the signed-in user, in credits. */
export interface Credits {
  balance: number;
  /** What running tasks hold of the balance. */
  held: number;
  /** balance - held: what a new task may cost. */
  available: number;
}

/** A row of `credit_ledger`, which is only ever added to. */
export interface LedgerEntry {
  owner_id: string;
  seq: number;
  kind: 'grant' | 'hold' | 'settle' | 'release';
  amount: number;
  balance_after: number;
  held_after: number;
  task_id: string | null;
  attempt: number | null;
  idempotency_key: string | null;
  note: string | null;
  created_at: string;
}

/** A worker, as `list_workers` tells it. */
export interface WorkerStatus {
  id: string;
  alive: boolean;
  last_heartbeat: string | null;
  /** The only types it runs; null: every type that its capabilities allow. */
  task_types: string[] | null;
  capabilities: string[];
  /** What it says of itself: engines, slots. */
  info: JsonObject;
  /** What it runs of the caller's. */
  running: RunningTask[];
}

export interface RunningTask {
  task_id: string;
  task_type: string;
  attempt: number;
  claimed_at: string;
}

/** Why a task is not running, as `explain_task` tells it. */
export interface TaskExplanation {
  task_id: string;
  status: TaskStatus;
  runnable: boolean;
  /** The most important first; empty when it waits for nothing. */
  reasons: TaskReason[];
  queue_position: number | null;
  expected_start: string | null;
}

export interface TaskReason {
  code: string;
  message: string;
  detail: JsonObject;
}

/** What a new task is made of. */
export interface CreateTaskInput {
  projectId: string;
  /** Such as `image-generation`. */
  toolId: string;
  /** The params of the task, such as `{prompt: 'a green frog'}`. */
  input: JsonObject;
  /** The shot that the result goes to, unpositioned. */
  shotId?: string;
}
