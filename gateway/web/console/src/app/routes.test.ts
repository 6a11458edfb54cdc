import { expect, test } from 'vitest';
import { locationOf, type Place, pathOf } from './routes';

test.each<Place>([
  { page: 'gallery' },
  { page: 'gallery', generationId: 'g' },
  { page: 'shot', shotId: 's' },
  { page: 'shot', shotId: 's', generationId: 'g' },
  { page: 'queue' },
  { page: 'queue', taskId: 't' },
  { page: 'workers' },
  { page: 'credits' },
])('a path leads back to its place: %o', (place) => {
  expect(locationOf(pathOf('project', place))).toEqual({ projectId: 'project', place });
});

test.each(['', '/', '/p', '/elsewhere/x'])('"%s" leads to the gallery of no project yet', (path) => {
  expect(locationOf(path)).toEqual({ projectId: null, place: { page: 'gallery' } });
});

test.each(['/p/x', '/p/x/nonsense', '/p/x/shot'])('"%s" leads to the gallery', (path) => {
  expect(locationOf(path)).toEqual({ projectId: 'x', place: { page: 'gallery' } });
});
