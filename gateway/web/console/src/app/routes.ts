/** The places of the console. Their addresses stand below /p/, where the gateway serves the one page. */
export type Place =
  | { page: 'gallery'; generationId?: string }
  | { page: 'shot'; shotId: string; generationId?: string }
  | { page: 'queue'; taskId?: string }
  | { page: 'workers' }
  | { page: 'credits' };

/** Where the address leads: the project, and the place in it. */
export interface Location {
  projectId: string | null;
  place: Place;
}

export function pathOf(projectId: string, place: Place): string {
  const root = `/p/${projectId}`;
  switch (place.page) {
    case 'gallery':
      return `${root}/gallery${place.generationId ? `/${place.generationId}` : ''}`;
    case 'shot':
      return `${root}/shot/${place.shotId}${place.generationId ? `/${place.generationId}` : ''}`;
    case 'queue':
      return `${root}/queue${place.taskId ? `/${place.taskId}` : ''}`;
    default:
      return `${root}/${place.page}`;
  }
}

export function locationOf(path: string): Location {
  const [p, projectId, page, first, second] = path.split('/').filter(Boolean);
  if (p !== 'p' || !projectId) return { projectId: null, place: { page: 'gallery' } };
  switch (page) {
    case 'shot':
      if (first) return { projectId, place: { page, shotId: first, ...(second ? { generationId: second } : {}) } };
      break;
    case 'queue':
      return { projectId, place: { page, ...(first ? { taskId: first } : {}) } };
    case 'workers':
    case 'credits':
      return { projectId, place: { page } };
    default:
  }
  return { projectId, place: { page: 'gallery', ...(page === 'gallery' && first ? { generationId: first } : {}) } };
}
