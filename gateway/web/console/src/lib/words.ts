import type { JsonObject, Task } from '@darkroom/client';

const amounts = new Intl.NumberFormat(undefined, { maximumFractionDigits: 3 });

/** A number of credits: `10`, `2.5`. */
export function credits(amount: number): string {
  return amounts.format(amount);
}

/** The same with its unit: `1 credit`. */
export function inCredits(amount: number): string {
  return `${credits(amount)} ${amount === 1 ? 'credit' : 'credits'}`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${amounts.format(n)} ${n === 1 ? one : many}`;
}

/** The first characters of an id, for people. */
export function short(id: string): string {
  return id.slice(0, 8);
}

const kinds: Record<string, string> = {
  single_image: 'Picture',
  travel_orchestrator: 'Travel',
  travel_segment: 'Segment',
  travel_stitch: 'Stitch',
};

/** What a type of task is called here. */
export function kindOf(taskType: string): string {
  return kinds[taskType] ?? taskType.replaceAll('_', ' ').replace(/^./, (c) => c.toUpperCase());
}

/** What a task is about, in its own words where it has any. */
export function titleOf(task: Pick<Task, 'task_type' | 'params'>): string {
  const { task_type: type, params } = task;
  const details = object(params.orchestrator_details);
  if (type === 'travel_segment') {
    const index = Number(params.segment_index ?? 0) + 1;
    return text(params.base_prompt) || `Segment ${index}`;
  }
  if (type === 'travel_stitch') return 'Join the segments';
  if (type === 'travel_orchestrator') {
    const prompts = Array.isArray(details.base_prompts_expanded) ? details.base_prompts_expanded.map(text).filter(Boolean) : [];
    return prompts.join(', ') || count(Number(details.num_new_segments_to_generate ?? 1), 'segment');
  }
  return text(params.prompt) || kindOf(type);
}

/** What a picture or video is about. */
export function captionOf(params: JsonObject): string {
  const details = object(params.orchestrator_details);
  const prompts = Array.isArray(details.base_prompts_expanded) ? details.base_prompts_expanded.map(text).filter(Boolean) : [];
  return text(params.prompt) || prompts.join(', ') || text(params.base_prompt);
}

export function object(value: unknown): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value.trim() : '';
}

/** Bytes as people say them; nothing for none. */
export function bytes(n: number): string {
  if (!(n > 0)) return '';
  const gib = n / 2 ** 30;
  return gib >= 1 ? `${amounts.format(Math.round(gib * 10) / 10)} GiB` : `${amounts.format(Math.round(n / 2 ** 20))} MiB`;
}
