import { describe, expect, test } from 'vitest';
import { ago, duration, until } from './time';

const now = Date.parse('2026-01-01T12:00:00Z');
const at = (seconds: number) => new Date(now + seconds * 1000).toISOString();

describe('duration', () => {
  test.each([
    [-5, '0 s'],
    [0, '0 s'],
    [8, '8 s'],
    [59.4, '59 s'],
    [59.6, '1 min 00 s'],
    [185, '3 min 05 s'],
    [7800, '2 h 10 min'],
    [4 * 86400, '4 d'],
  ])('%s seconds are %s', (seconds, words) => expect(duration(seconds * 1000)).toBe(words));
});

describe('ago', () => {
  test.each([
    [0, 'just now'],
    [5, 'just now'],
    [-12, '12 s ago'],
    [-90, '2 min ago'],
    [-7200, '2 h ago'],
  ])('%s seconds from now was %s', (seconds, words) => expect(ago(at(seconds), now)).toBe(words));

  test('what never was is never', () => expect(ago(null, now)).toBe('never'));
});

describe('until', () => {
  test.each([
    [-30, 'any moment'],
    [0.4, 'any moment'],
    [9, 'in 9 s'],
    [95, 'in 1 min 35 s'],
    [1200, 'in 20 min'],
  ])('%s seconds from now is %s', (seconds, words) => expect(until(at(seconds), now)).toBe(words));
});
