/** That a generation is in a shot. */
export interface Link {
  shot_id: string;
  generation_id: string;
}

/** Which of some generations are not among the links of a shot, each once. */
export function missing(links: readonly Link[], generationIds: readonly string[]): string[] {
  const has = new Set(links.map((link) => link.generation_id));
  return [...new Set(generationIds)].filter((id) => !has.has(id));
}

/** The shots that have all of some generations. */
export function shotsWith(links: readonly Link[], generationIds: readonly string[]): Set<string> {
  const shots = new Set(links.map((link) => link.shot_id));
  return new Set(
    [...shots].filter(
      (shot) =>
        missing(
          links.filter((link) => link.shot_id === shot),
          generationIds,
        ).length === 0,
    ),
  );
}
