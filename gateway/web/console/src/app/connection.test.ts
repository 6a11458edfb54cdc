// @vitest-environment happy-dom
import { act, renderHook } from '@testing-library/react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Connection, useNotice } from './connection';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function begin(status: Connection['status']) {
  const hook = renderHook((connection: Connection) => useNotice(connection), { initialProps: { status, resumedEvents: 0 } });
  return {
    said: () => hook.result.current,
    now: (next: Connection['status'], resumedEvents = 0) => hook.rerender({ status: next, resumedEvents }),
  };
}

test('the first connection is no news', () => {
  const page = begin('connecting');
  expect(page.said()).toEqual({ kind: 'none' });
  page.now('live');
  expect(page.said()).toEqual({ kind: 'none' });
});

test('a lost connection is told until it is back, with what was caught up', () => {
  const page = begin('live');
  page.now('offline');
  expect(page.said()).toEqual({ kind: 'offline' });
  page.now('connecting');
  expect(page.said()).toEqual({ kind: 'offline' });
  page.now('live', 3);
  expect(page.said()).toEqual({ kind: 'back', events: 3 });
});

test('what still comes in is counted, and told for as long again', () => {
  const page = begin('offline');
  page.now('live', 1);
  act(() => vi.advanceTimersByTime(4000));
  page.now('live', 9);
  act(() => vi.advanceTimersByTime(4000));
  expect(page.said()).toEqual({ kind: 'back', events: 9 });
  act(() => vi.advanceTimersByTime(2500));
  expect(page.said()).toEqual({ kind: 'none' });
});

test('a connection lost again is lost', () => {
  const page = begin('offline');
  page.now('live', 1);
  page.now('offline', 1);
  expect(page.said()).toEqual({ kind: 'offline' });
});
