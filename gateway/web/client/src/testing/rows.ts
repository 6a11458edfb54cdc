import type { Generation, ShotGeneration, Task } from '../types.js';

/** Ids that tell what they are of. */
export const project = '00000000-0000-4000-8000-00000000000a';
export const shot = '00000000-0000-4000-8000-0000000000aa';

export function task(id: string, changed: Partial<Task> = {}): Task {
  return {
    id,
    job_no: 1,
    owner_id: 'ada',
    project_id: project,
    task_type: 'single_image',
    tool_id: 'image-generation',
    status: 'Queued',
    params: { prompt: 'a green frog' },
    dependant_on: null,
    orchestrator_task_id: null,
    cost: 1,
    idempotency_key: null,
    attempt: 0,
    failed_attempts: 0,
    worker_id: null,
    claimed_at: null,
    run_after: null,
    progress: null,
    output_location: null,
    thumbnail_url: null,
    metadata: {},
    error_message: null,
    generation_created: false,
    created_at: '2026-01-01T00:00:00+00:00',
    updated_at: '2026-01-01T00:00:00+00:00',
    completed_at: null,
    ...changed,
  };
}

export function generation(id: string, changed: Partial<Generation> = {}): Generation {
  return {
    id,
    owner_id: 'ada',
    project_id: project,
    type: 'image',
    location: `https://darkroom.test/${id}.png`,
    thumbnail_url: null,
    params: {},
    metadata: {},
    tasks: [],
    source_task_id: null,
    created_at: '2026-01-01T00:00:00+00:00',
    ...changed,
  };
}

export function link(id: string, generationId: string, position: number | null): ShotGeneration {
  return {
    id,
    owner_id: 'ada',
    project_id: project,
    shot_id: shot,
    generation_id: generationId,
    position,
    created_at: '2026-01-01T00:00:00+00:00',
  };
}
