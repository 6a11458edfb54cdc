import { describe, expect, test } from 'vitest';
import { missingOf, secondsOf, segmentsFor, travelInput } from './travel';

const segments = [
  { prompt: ' to the cat ', frames: 25 },
  { prompt: '', frames: 33 },
];

test('a travel has one picture more than segments', () => {
  expect(travelInput({ pictures: ['a', 'b', 'c'], segments, size: '768x512', fps: 16, shotId: 's' })).toEqual({
    orchestrator_details: {
      num_new_segments_to_generate: 2,
      input_image_paths_resolved: ['a', 'b', 'c'],
      segment_frames_expanded: [25, 33],
      base_prompts_expanded: ['to the cat', ''],
      parsed_resolution_wh: '768x512',
      fps_helpers: 16,
      shot_id: 's',
    },
  });
});

test('a seed of 0 is a seed', () => {
  expect(travelInput({ pictures: ['a', 'b'], segments, size: '1x1', fps: 1, seed: 0 })).toMatchObject({
    orchestrator_details: { seed_base: 0 },
  });
});

test('what was written for a segment stays when pictures come and go', () => {
  const three = segmentsFor(3, segments);
  expect(three).toEqual(segments);
  expect(segmentsFor(4, three)[2]).toEqual({ prompt: '', frames: 25 });
  expect(segmentsFor(2, three)).toEqual([segments[0]]);
  expect(segmentsFor(0, three)).toEqual([]);
});

describe('what is missing', () => {
  test.each([
    [[], [], 16, 'Pick two pictures or more.'],
    [['a'], [], 16, 'Pick one more picture.'],
    [['a', 'b'], [{ prompt: '', frames: 1 }], 16, 'A segment has 2 to 1000 frames.'],
    [['a', 'b'], [{ prompt: '', frames: Number.NaN }], 16, 'A segment has 2 to 1000 frames.'],
    [['a', 'b'], [{ prompt: '', frames: 25 }], 0, 'A second has 1 to 60 frames.'],
    [['a', 'b'], [{ prompt: '', frames: 25 }], 16, ''],
  ])('%o %o %s: %s', (pictures, parts, fps, want) => expect(missingOf({ pictures, segments: parts, fps })).toBe(want));
});

test('segments share a frame', () => {
  expect(secondsOf(segments, 19)).toBe(3);
  expect(secondsOf([], 16)).toBe(0);
});
