import { type MutationFunctionContext, type QueryClient, type UseMutationResult, useMutation } from '@tanstack/react-query';
import { putTask } from '../cache/tasks.js';
import { useDarkroom } from '../context.js';
import { cancelTask, createTask, retryTask } from '../data/tasks.js';
import type { DarkroomError } from '../errors.js';
import { queryKeys } from '../keys.js';
import type { CreateTaskInput, Task } from '../types.js';

/** Makes tasks. Each `mutate` has an idempotency key of its own, so that however often it is tried it makes one task. */
export function useCreateTask(): UseMutationResult<Task, DarkroomError, CreateTaskInput> {
  const client = useDarkroom();
  return useMutation<Task, DarkroomError, CreateTaskInput>({
    onMutate: (_input, call) => makeKey(call),
    mutationFn: (input, call) => createTask(client, input, keyOf(call)),
    onSuccess: showTask,
  });
}

/** Makes tasks again that failed or were cancelled. */
export function useRetryTask(): UseMutationResult<Task, DarkroomError, string> {
  const client = useDarkroom();
  return useMutation<Task, DarkroomError, string>({
    onMutate: (_taskId, call) => makeKey(call),
    mutationFn: (taskId, call) => retryTask(client, taskId, keyOf(call)),
    onSuccess: showTask,
  });
}

/** Cancels tasks that wait or run. Once more changes nothing, so a lost answer is asked for again. */
export function useCancelTask(): UseMutationResult<Task, DarkroomError, string> {
  const client = useDarkroom();
  return useMutation<Task, DarkroomError, string>({ mutationFn: (taskId) => cancelTask(client, taskId), onSuccess: showTask });
}

// onMutate runs once a call and mutationFn once a try, both with the same context.
const keys = new WeakMap<MutationFunctionContext, string>();

function makeKey(call: MutationFunctionContext): void {
  keys.set(call, crypto.randomUUID());
}

function keyOf(call: MutationFunctionContext): string {
  const key = keys.get(call);
  if (!key) throw new Error('this version of TanStack Query gives a call no context of its own');
  return key;
}

// The lists show the task at once, without waiting for realtime; what it holds of the credits is read anew.
function showTask(task: Task, _variables: unknown, _result: unknown, { client: cache }: MutationFunctionContext): void {
  putTask(cache, task);
  refresh(cache, task);
}

function refresh(cache: QueryClient, task: Task): void {
  void cache.invalidateQueries({ queryKey: queryKeys.credits() });
  void cache.invalidateQueries({ queryKey: queryKeys.explanation(task.id) });
}
