/** The code of a task that the account does not pay for. */
export const insufficientCredits = 'TD010';

/** What Darkroom, PostgreSQL or the network refused, in one form. `code` is stable; see the tables of codes in the gateway's README. */
export class DarkroomError extends Error {
  override readonly name = 'DarkroomError';
  readonly code: string;
  readonly details: string | null;
  readonly hint: string | null;
  /** Of HTTP; 0 where no answer came. */
  readonly status: number;
  /** Whether the same call may succeed a little later. */
  readonly retryable: boolean;

  constructor(fields: { code: string; message: string; details?: string | null; hint?: string | null; status?: number; cause?: unknown }) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = fields.code;
    this.details = fields.details || null;
    this.hint = fields.hint || null;
    this.status = fields.status ?? 0;
    this.retryable = isRetryable(this.code, this.status);
  }

  get isInsufficientCredits(): boolean {
    return this.code === insufficientCredits;
  }
}

/** Codes of ours for what never reached a server, or was given up. */
export const networkError = 'NETWORK';
export const aborted = 'ABORTED';
export const unknownError = 'UNKNOWN';

// Classes of SQLSTATE that pass by themselves: connection, rollback, resources, object state, operator intervention.
const passing = /^(08|40|53|55|57)[0-9A-Z]{3}$/;
// The gateway's and PostgREST's own words for: the database does not answer, too many requests, no connection was free.
const passingCodes = new Set([networkError, 'GW010', 'GW011', 'GW012', 'GW013', 'PGRST000', 'PGRST001', 'PGRST002', 'PGRST003']);

function isRetryable(code: string, status: number): boolean {
  if (code === aborted) return false;
  if (passingCodes.has(code) || passing.test(code)) return true;
  // A refusal with a code of Darkroom's is final, whatever its status: TD050 is a 500 that no repeat mends.
  if (/^TD\d{3}$/.test(code)) return false;
  return status >= 500;
}

// fetch throws a TypeError when no answer came, in words of each browser's; postgrest-js hands that on as text, with an empty code and the status 0.
const unanswered = new Set(['AuthRetryableFetchError', 'StorageUnknownError']);
const unansweredWords = /failed to fetch|fetch failed|networkerror|load failed|network request failed/i;

/** Reads whatever a call of supabase-js gave or threw: errors of PostgREST, of auth and storage, `TypeError: Failed to fetch`, anything. */
export function toDarkroomError(error: unknown, status?: number): DarkroomError {
  if (error instanceof DarkroomError) return error;
  if (typeof error !== 'object' || error === null)
    return new DarkroomError({ code: unknownError, message: String(error), status, cause: error });
  const said = error as Record<string, unknown>;
  const message = text(said.message) || text(said.msg) || text(said.error) || 'Something went wrong';
  if (said.name === 'AbortError' || /^AbortError\b/.test(message)) return new DarkroomError({ code: aborted, message, cause: error });

  const httpStatus = number(status) || number(said.statusCode) || number(said.status);
  const code = text(said.code) || text(said.error_code) || text(said.errorCode);
  if (!httpStatus && !code && (unanswered.has(String(said.name)) || unansweredWords.test(message))) {
    return new DarkroomError({ code: networkError, message: 'The server cannot be reached', details: message, cause: error });
  }
  return new DarkroomError({
    code: code || (httpStatus ? `HTTP${httpStatus}` : unknownError),
    message,
    details: text(said.details),
    hint: text(said.hint),
    status: httpStatus,
    cause: error,
  });
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';
}

function number(value: unknown): number {
  const n = Number(value);
  return Number.isFinite(n) ? n : 0;
}

/** What a toast shows of an error. */
export interface Toast {
  title: string;
  description: string;
  /** `warning`: something that the user can do about; `error`: the rest. */
  kind: 'warning' | 'error';
}

/** Puts an error into words for a toast. Of what was given up there is nothing to say. */
export function toastFor(error: unknown): Toast | null {
  const e = toDarkroomError(error);
  if (e.code === aborted) return null;
  if (e.isInsufficientCredits) {
    return { kind: 'warning', title: 'Insufficient credits', description: e.details || 'This costs more credits than are available.' };
  }
  if (e.code === networkError) return { kind: 'error', title: 'Offline', description: 'The server cannot be reached. It is tried again.' };
  if (e.retryable) return { kind: 'error', title: 'The server is busy', description: 'Nothing was lost. Please try again in a moment.' };
  return { kind: e.status >= 500 ? 'error' : 'warning', title: e.message, description: [e.details, e.hint].filter(Boolean).join(' ') };
}
