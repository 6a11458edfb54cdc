import {
  type CreateTaskInput,
  type DarkroomError,
  type JsonObject,
  type Task,
  toDarkroomError,
  useCreateTask,
  useCredits,
  useDarkroom,
} from '@darkroom/client';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useConsole } from '../app/console';
import { useErrorToast, useToast } from '../app/toasts';
import { credits, inCredits, kindOf, titleOf } from '../lib/words';

export const tools = { picture: 'image-generation', travel: 'travel-between-images' } as const;

/** What a task would cost, from the database, which alone sets prices. `input` is only as much as the price depends on. */
export function useCost(toolId: string, input: JsonObject | null) {
  const client = useDarkroom();
  return useQuery<number, DarkroomError>({
    queryKey: ['task-cost', toolId, input],
    queryFn: async () => {
      const { data, error, status } = await client.rpc('calculate_task_cost', { tool_id: toolId, input });
      if (error) throw toDarkroomError(error, status);
      return Number(data);
    },
    staleTime: 60_000,
    enabled: input !== null,
  });
}

/** The price of a picture, whatever it shows. */
export const anyPicture: JsonObject = { prompt: 'a picture' };

/** Makes tasks one after the other, and says in a toast what is missing where credits do not suffice. */
export function useMake(cost: number | undefined) {
  const { mutateAsync } = useCreateTask();
  const account = useCredits();
  const toast = useToast();
  const refused = useErrorToast();
  const { go } = useConsole();
  const [busy, setBusy] = useState(false);

  /** Returns what was made, which is less than was asked for when something was refused. */
  const make = async (inputs: readonly CreateTaskInput[]): Promise<Task[]> => {
    const made: Task[] = [];
    setBusy(true);
    try {
      for (const input of inputs) made.push(await mutateAsync(input));
    } catch (error) {
      const e = toDarkroomError(error);
      const available = (await account.refetch()).data?.available;
      if (e.isInsufficientCredits && cost !== undefined && available !== undefined) {
        toast({
          kind: 'warning',
          title: 'Insufficient credits',
          description: `${inCredits(Math.max(cost - available, 0))} missing: it costs ${credits(cost)}, ${credits(available)} are available.`,
          action: { label: 'See the ledger', run: () => go({ page: 'credits' }) },
        });
      } else refused(e);
    } finally {
      setBusy(false);
    }
    return made;
  };
  /** Says that something is being made, for where that cannot be seen. */
  const tell = (tasks: readonly Task[]) => {
    const [first] = tasks;
    if (!first) return;
    toast({
      kind: 'success',
      title: tasks.length === 1 ? `${kindOf(first.task_type)} is being made` : `${tasks.length} are being made`,
      description: titleOf(first),
      action: { label: 'Show', run: () => go(tasks.length === 1 ? { page: 'queue', taskId: first.id } : { page: 'queue' }) },
    });
  };
  return { make, tell, busy };
}
