import { expect, test } from 'vitest';
import { stateOf } from './state';

const now = Date.parse('2026-01-01T12:00:00Z');
const heard = (seconds: number, alive = true) => ({ alive, last_heartbeat: new Date(now + seconds * 1000).toISOString() });
const dead = { alive: false, seenAt: now };

test.each([
  ['its process ended after it was heard from', heard(-1), dead, 'gone'],
  ['it was heard from after its process was seen dead: it has started again', heard(1), dead, 'alive'],
  ['its process runs, and it was not heard from yet', heard(-20, false), { alive: true, seenAt: now }, 'silent'],
  ['its process ended before it was ever heard from', { alive: false, last_heartbeat: null }, dead, 'gone'],
  ['of its process nothing is known', heard(-1), undefined, 'alive'],
  ['nor is it heard from', heard(-90, false), undefined, 'silent'],
] as const)('%s', (_, worker, process, state) => expect(stateOf(worker, process)).toBe(state));
