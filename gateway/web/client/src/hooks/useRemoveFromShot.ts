import { type UseMutationResult, useMutation, useQueryClient } from '@tanstack/react-query';
import { putBack, type Taken, takeGeneration } from '../cache/generations.js';
import { useDarkroom } from '../context.js';
import { removeFromShot } from '../data/generations.js';
import type { DarkroomError } from '../errors.js';
import { allShots, positionKey, queryKeys } from '../keys.js';

export interface RemoveFromShotInput {
  shotId: string;
  shotGenerationId: string;
}

/** Takes generations out of shots, which the gallery keeps: shown at once, taken back when it is refused. It waits its turn among the moves. */
export function useRemoveFromShot(): UseMutationResult<void, DarkroomError, RemoveFromShotInput> {
  const client = useDarkroom();
  const cache = useQueryClient();
  return useMutation<void, DarkroomError, RemoveFromShotInput, Taken[]>({
    mutationKey: [...positionKey, 'remove'],
    scope: { id: positionKey[0] },
    onMutate: async ({ shotId, shotGenerationId }) => {
      // An answer that is under way does not know of it.
      await cache.cancelQueries({ queryKey: queryKeys.unifiedShot(shotId) });
      return takeGeneration(cache, shotId, shotGenerationId);
    },
    mutationFn: ({ shotGenerationId }) => removeFromShot(client, shotGenerationId),
    onError: (_error, _input, taken) => {
      if (taken) putBack(cache, taken);
    },
    onSettled: () => {
      // As for a move: the last one reads.
      if (cache.isMutating({ mutationKey: positionKey }) > 1) return;
      void cache.invalidateQueries({ queryKey: allShots });
    },
  }) as UseMutationResult<void, DarkroomError, RemoveFromShotInput>;
}
