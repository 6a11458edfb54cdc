export type { Move } from './cache/generations.js';
export { DarkroomProvider, type DarkroomProviderProps, useDarkroom } from './context.js';
export type { Upload } from './data/files.js';
export { DarkroomError, insufficientCredits, type Toast, toastFor, toDarkroomError } from './errors.js';
export {
  type PreloadMappings,
  type PreloadOptions,
  preloadGenerationTaskMappings,
  useGenerationTask,
  usePreloadedMappings,
  useTaskGeneration,
} from './hooks/generationTaskBridge.js';
export { useCredits, useLedger, useWorkers } from './hooks/useAccount.js';
export { type PositionGenerationInput, usePositionGeneration } from './hooks/usePositionGeneration.js';
export {
  type CreateProjectInput,
  type CreateShotInput,
  useCreateProject,
  useCreateShot,
  useProjects,
  useShots,
} from './hooks/useProjects.js';
export { type RemoveFromShotInput, useRemoveFromShot } from './hooks/useRemoveFromShot.js';
export { useCancelTask, useCreateTask, useRetryTask } from './hooks/useTaskMutations.js';
export {
  type UseTasksOptions,
  useExplainTask,
  useTask,
  useTaskAttempts,
  useTasks,
} from './hooks/useTasks.js';
export { type UseUnifiedGenerationsOptions, useUnifiedGenerations } from './hooks/useUnifiedGenerations.js';
export { useUploadImage } from './hooks/useUploadImage.js';
export { useWebSocket } from './hooks/useWebSocket.js';
export { cacheTimes, queryKeys } from './keys.js';
export type { Live, LiveStatus } from './live/project.js';
export { createQueryClient, DarkroomQueryClient } from './queryClient.js';
export { retryDelay, shouldRetry } from './retry.js';
export * from './types.js';
