import { toDarkroomError } from './errors.js';

const attempts = 4;
const shortest = 500;
const longest = 15_000;

/** Whether a call that failed is made again: errors of the network and the database are, refusals are not. */
export function shouldRetry(failures: number, error: unknown): boolean {
  return failures < attempts && toDarkroomError(error).retryable;
}

/** For how many milliseconds to wait before: twice as long each time, and somewhere in the upper half of that, so that clients don't come all at once. */
export function retryDelay(failures: number): number {
  const most = Math.min(shortest * 2 ** failures, longest);
  return most / 2 + (Math.random() * most) / 2;
}

/** Makes a call until it succeeds, is refused, or has failed too often. */
export async function retrying<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await call();
    } catch (error) {
      if (signal?.aborted || !shouldRetry(failures, error)) throw error;
    }
    await pause(retryDelay(failures), signal);
  }
}

/** Waits, unless or until the signal is given. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener('abort', done);
  });
}
