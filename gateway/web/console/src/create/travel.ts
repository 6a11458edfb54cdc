import type { JsonObject } from '@darkroom/client';

/** What lies between two neighbouring pictures of a travel. */
export interface Segment {
  prompt: string;
  frames: number;
}

export const framesAllowed = { least: 2, most: 1000, usual: 25 };

export interface Travel {
  /** Addresses of the pictures, in order. */
  pictures: readonly string[];
  segments: readonly Segment[];
  /** Width and height, as `768x512`. */
  size: string;
  fps: number;
  shotId?: string;
  seed?: number;
}

/** The input of the tool travel-between-images. */
export function travelInput({ pictures, segments, size, fps, shotId, seed }: Travel): JsonObject {
  return {
    orchestrator_details: {
      num_new_segments_to_generate: segments.length,
      input_image_paths_resolved: [...pictures],
      segment_frames_expanded: segments.map((segment) => segment.frames),
      base_prompts_expanded: segments.map((segment) => segment.prompt.trim()),
      parsed_resolution_wh: size,
      fps_helpers: fps,
      ...(shotId ? { shot_id: shotId } : {}),
      ...(seed === undefined ? {} : { seed_base: seed }),
    },
  };
}

/** The segments between so many pictures: those that were there stay, new ones are as usual. */
export function segmentsFor(pictures: number, known: readonly Segment[]): Segment[] {
  return Array.from({ length: Math.max(0, pictures - 1) }, (_, i) => known[i] ?? { prompt: '', frames: framesAllowed.usual });
}

/** What keeps a travel from being made, in a sentence; empty when nothing does. */
export function missingOf({ pictures, segments, fps }: Pick<Travel, 'pictures' | 'segments' | 'fps'>): string {
  if (pictures.length < 2) return pictures.length === 0 ? 'Pick two pictures or more.' : 'Pick one more picture.';
  const { least, most } = framesAllowed;
  if (segments.some(({ frames }) => !Number.isInteger(frames) || frames < least || frames > most))
    return `A segment has ${least} to ${most} frames.`;
  if (!Number.isInteger(fps) || fps < 1 || fps > 60) return 'A second has 1 to 60 frames.';
  return '';
}

/** How long the video will be, in seconds. Neighbouring segments share a frame. */
export function secondsOf(segments: readonly Segment[], fps: number): number {
  const frames = segments.reduce((sum, segment) => sum + segment.frames, 0) - Math.max(0, segments.length - 1);
  return fps > 0 ? frames / fps : 0;
}
