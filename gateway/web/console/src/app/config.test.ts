import { expect, test } from 'vitest';
import { signInOf } from './config';

test.each([
  ['#sign-in=you%40example.com:p%3Aq%2F%23', { email: 'you@example.com', password: 'p:q/#' }],
  ['#sign-in=you@example.com:a:b', { email: 'you@example.com', password: 'a:b' }],
  ['#sign-in=you@example.com:', null],
  ['#sign-in=%ZZ:x', null],
  ['#/p/1/queue', null],
  ['', null],
])('%s', (hash, want) => expect(signInOf(hash)).toEqual(want));
