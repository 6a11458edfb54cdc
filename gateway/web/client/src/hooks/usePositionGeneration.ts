import type { UseMutationResult } from '@tanstack/react-query';
import type { DarkroomError } from '../errors.js';
import type { ShotGeneration } from '../types.js';

export interface PositionGenerationInput {
  shotId: string;
  shotGenerationId: string;
  /** The new place in the shot; null makes it unpositioned. */
  position: number | null;
}

/** Drags a generation into its place in a shot: shown at once, taken back when it is refused. */
export function usePositionGeneration(): UseMutationResult<ShotGeneration, DarkroomError, PositionGenerationInput> {
  throw new Error('to come');
}
