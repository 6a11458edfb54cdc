/** The keys of the cache. Every key of a kind begins with the same words, so that invalidating those covers all of them. */
export const queryKeys = {
  generations: (projectId: string) => ['generations', projectId] as const,
  unifiedProject: (projectId: string) => ['unified-generations', 'project', projectId] as const,
  unifiedShot: (shotId: string) => ['unified-generations', 'shot', shotId] as const,
  tasks: (projectId: string) => ['tasks', projectId] as const,
  task: (taskId: string) => ['task', taskId] as const,
  taskGeneration: (taskId: string) => ['task-generation-mapping', taskId] as const,
  generationTask: (generationId: string) => ['generation-task-mapping', generationId] as const,
  projects: () => ['projects'] as const,
  shots: (projectId: string) => ['shots', projectId] as const,
  credits: () => ['credits'] as const,
  ledger: () => ['credit-ledger'] as const,
  workers: () => ['workers'] as const,
  explanation: (taskId: string) => ['task-explanation', taskId] as const,
};

/** Begins the keys of the galleries of all shots. */
export const allShots = ['unified-generations', 'shot'] as const;

/** Begins the keys of why tasks wait: each depends on the others. */
export const allExplanations = ['task-explanation'] as const;

/** Of the mutations that move things about in shots. */
export const positionKey = ['position-generation'] as const;

const second = 1000;
const minute = 60 * second;

/** For how long what was read counts as fresh. Realtime makes it stale before. */
export const cacheTimes = {
  generations: 5 * minute,
  tasks: 30 * second,
  mapping: 10 * minute,
  projects: 5 * minute,
  shots: 5 * minute,
  credits: 30 * second,
  workers: 5 * second,
  explanation: 5 * second,
};
