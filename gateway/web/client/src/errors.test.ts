import { describe, expect, it } from 'vitest';
import { DarkroomError, toastFor, toDarkroomError } from './errors.js';
import { retryDelay, retrying, shouldRetry } from './retry.js';

const refused = (code: string, status: number) => new DarkroomError({ code, message: 'refused', status });

describe('what is tried again', () => {
  it.each([
    ['08006', 503, 'the connection to the database broke'],
    ['40001', 500, 'two transactions met'],
    ['40P01', 500, 'a deadlock'],
    ['53300', 503, 'too many connections'],
    ['55P03', 500, 'a lock was not to be had'],
    ['57014', 500, 'a statement took too long'],
    ['57P01', 503, 'the server stops'],
    ['GW011', 503, 'the database does not answer'],
    ['GW012', 429, 'too many requests'],
    ['PGRST003', 504, 'no connection was free'],
    ['HTTP502', 502, 'a proxy has no gateway'],
    ['XX000', 500, 'a fault inside'],
    ['NETWORK', 0, 'no answer'],
  ])('%s (%i): %s', (code, status) => {
    expect(shouldRetry(0, refused(code, status))).toBe(true);
  });

  it.each([
    ['TD010', 402, 'insufficient credits'],
    ['TD011', 429, 'too many queued tasks'],
    ['TD032', 409, 'the task has ended'],
    ['TD050', 500, 'the database is set up wrongly'],
    ['GW001', 400, 'the request cannot be read'],
    ['GW003', 401, 'the token has expired'],
    ['PGRST301', 401, 'the token is not valid'],
    ['42501', 403, 'it may not be read'],
    ['23505', 409, 'it is there already'],
    ['HTTP404', 404, 'there is nothing'],
    ['ABORTED', 0, 'nobody wants it any more'],
    ['UNKNOWN', 0, 'a fault of the page'],
  ])('but not %s (%i): %s', (code, status) => {
    expect(shouldRetry(0, refused(code, status))).toBe(false);
  });

  it('ends after four more tries', () => {
    expect(shouldRetry(3, refused('40001', 500))).toBe(true);
    expect(shouldRetry(4, refused('40001', 500))).toBe(false);
  });

  it('waits twice as long each time, up to 15 s', () => {
    for (const [failures, most] of [500, 1000, 2000, 4000, 8000, 15_000, 15_000].entries()) {
      for (let i = 0; i < 20; i++) {
        expect(retryDelay(failures)).toBeGreaterThanOrEqual(most / 2);
        expect(retryDelay(failures)).toBeLessThanOrEqual(most);
      }
    }
  });

  it('hands on what is refused at once', async () => {
    let calls = 0;
    const call = () => {
      calls++;
      return Promise.reject(refused('TD010', 402));
    };
    await expect(retrying(call)).rejects.toMatchObject({ code: 'TD010' });
    expect(calls).toBe(1);
  });
});

describe('toDarkroomError', () => {
  it('reads what PostgREST refuses', () => {
    const error = toDarkroomError({ code: 'TD010', message: 'Insufficient credits', details: 'It costs 1.', hint: null }, 402);
    expect(error).toMatchObject({ code: 'TD010', message: 'Insufficient credits', details: 'It costs 1.', hint: null, status: 402 });
    expect(error.isInsufficientCredits).toBe(true);
    expect(error.retryable).toBe(false);
  });

  it.each([
    ['fetch in Chromium', new TypeError('Failed to fetch')],
    ['fetch in Firefox', new TypeError('NetworkError when attempting to fetch resource.')],
    ['fetch in Safari', new TypeError('Load failed')],
    ['fetch in Node', new TypeError('fetch failed')],
    ['postgrest-js', { message: 'TypeError: Failed to fetch', details: '', hint: '', code: '' }],
    ['auth-js', { name: 'AuthRetryableFetchError', message: 'Failed to fetch', status: 0 }],
    ['storage-js', { name: 'StorageUnknownError', message: 'Failed to fetch' }],
  ])('knows no answer: %s', (_by, thrown) => {
    expect(toDarkroomError(thrown, 0)).toMatchObject({ code: 'NETWORK', retryable: true });
  });

  it('takes the true status of storage errors', () => {
    const error = toDarkroomError({
      name: 'StorageApiError',
      message: 'too large',
      status: 400,
      statusCode: '413',
      error: 'EntityTooLarge',
    });
    expect(error.status).toBe(413);
    expect(error.retryable).toBe(false);
  });

  it('gives up what was given up', () => {
    expect(toDarkroomError({ message: 'AbortError: signal is aborted', code: '' })).toMatchObject({ code: 'ABORTED', retryable: false });
  });

  it('keeps faults of the page', () => {
    const fault = new ReferenceError('x is not defined');
    expect(toDarkroomError(fault)).toMatchObject({ code: 'UNKNOWN', message: 'x is not defined', cause: fault, retryable: false });
    expect(toDarkroomError(new TypeError('row is undefined')).retryable).toBe(false);
    expect(toDarkroomError('odd')).toMatchObject({ message: 'odd', retryable: false });
  });

  it('leaves its own alone', () => {
    const error = refused('TD021', 404);
    expect(toDarkroomError(error)).toBe(error);
  });
});

describe('toastFor', () => {
  it('shows insufficient credits as something to do about', () => {
    const error = new DarkroomError({
      code: 'TD010',
      message: 'Insufficient credits',
      details: 'It costs 5, 2 are available.',
      status: 402,
    });
    expect(toastFor(error)).toEqual({ kind: 'warning', title: 'Insufficient credits', description: 'It costs 5, 2 are available.' });
  });

  it('says what a refusal says', () => {
    const error = new DarkroomError({
      code: 'TD003',
      message: 'Invalid params',
      details: 'prompt is missing.',
      hint: 'Give one.',
      status: 400,
    });
    expect(toastFor(error)).toEqual({ kind: 'warning', title: 'Invalid params', description: 'prompt is missing. Give one.' });
  });

  it('says offline and busy in its own words', () => {
    expect(toastFor(new TypeError('Failed to fetch'))?.title).toBe('Offline');
    expect(toastFor(refused('53300', 503))).toMatchObject({ kind: 'error', title: 'The server is busy' });
  });

  it('says nothing of what was given up', () => {
    expect(toastFor({ name: 'AbortError', message: 'aborted' })).toBeNull();
  });
});
