import { type UseMutationResult, useMutation, useQueryClient } from '@tanstack/react-query';
import { type Move, moveGenerations } from '../cache/generations.js';
import { useDarkroom } from '../context.js';
import { positionGeneration } from '../data/generations.js';
import type { DarkroomError } from '../errors.js';
import { allShots, positionKey, queryKeys } from '../keys.js';
import type { ShotGeneration } from '../types.js';

/** One move, or several that belong together, as when neighbours make room. */
export type PositionGenerationInput = { shotId: string } & (Move | { moves: readonly Move[] });

/**
 * Drags generations into their places in a shot: shown at once, taken back when it is refused. Several follow each other in the order in which they
 * were made, and shots are read anew after the last.
 */
export function usePositionGeneration(): UseMutationResult<ShotGeneration[], DarkroomError, PositionGenerationInput> {
  const client = useDarkroom();
  const cache = useQueryClient();
  return useMutation<ShotGeneration[], DarkroomError, PositionGenerationInput, Move[]>({
    mutationKey: positionKey,
    scope: { id: positionKey[0] },
    onMutate: async (input) => {
      // An answer that is under way does not know of it.
      await cache.cancelQueries({ queryKey: queryKeys.unifiedShot(input.shotId) });
      return moveGenerations(cache, input.shotId, movesOf(input));
    },
    mutationFn: async (input) => {
      const rows: ShotGeneration[] = [];
      for (const { shotGenerationId, position } of movesOf(input)) rows.push(await positionGeneration(client, shotGenerationId, position));
      return rows;
    },
    onError: (_error, { shotId }, back) => {
      if (back) moveGenerations(cache, shotId, back);
    },
    onSettled: () => {
      // This one still counts. What realtime told of any shot meanwhile was left to the last one.
      if (cache.isMutating({ mutationKey: positionKey }) > 1) return;
      void cache.invalidateQueries({ queryKey: allShots });
    },
  }) as UseMutationResult<ShotGeneration[], DarkroomError, PositionGenerationInput>;
}

function movesOf(input: PositionGenerationInput): readonly Move[] {
  return 'moves' in input ? input.moves : [input];
}
