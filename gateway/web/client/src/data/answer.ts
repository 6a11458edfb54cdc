import { toDarkroomError } from '../errors.js';

interface Answer {
  data: unknown;
  error: unknown;
  status?: number;
}

/** Waits for a call of supabase-js and returns its data, of the type that the caller knows; what was refused is thrown as a DarkroomError. */
export async function answer<T>(call: PromiseLike<Answer>): Promise<T> {
  let given: Answer;
  try {
    given = await call;
  } catch (thrown) {
    throw toDarkroomError(thrown);
  }
  if (given.error) throw toDarkroomError(given.error, given.status);
  return given.data as T;
}
