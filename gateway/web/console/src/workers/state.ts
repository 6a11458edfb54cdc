import type { WorkerStatus } from '@darkroom/client';

/** A worker's process, as it was seen last. */
export interface Process {
  alive: boolean;
  seenAt: number;
}

/** gone: its process has ended; silent: nobody hears from it. */
export type WorkerState = 'alive' | 'silent' | 'gone';

/** How a worker is. Two answers tell it, the one older than the other: whoever was heard from after its process was seen dead has started again. */
export function stateOf({ alive, last_heartbeat: beat }: Pick<WorkerStatus, 'alive' | 'last_heartbeat'>, process?: Process): WorkerState {
  const back = process && beat !== null && Date.parse(beat) > process.seenAt;
  if (process && !process.alive && !back) return 'gone';
  return alive ? 'alive' : 'silent';
}
