import { type UseMutationResult, type UseQueryResult, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useDarkroom } from '../context.js';
import { createProject, createShot, listProjects, listShots } from '../data/projects.js';
import type { DarkroomError } from '../errors.js';
import { cacheTimes, queryKeys } from '../keys.js';
import type { Project, Shot } from '../types.js';

/** The projects of the signed-in user, newest first. */
export function useProjects(): UseQueryResult<Project[], DarkroomError> {
  const client = useDarkroom();
  return useQuery<Project[], DarkroomError>({
    queryKey: queryKeys.projects(),
    queryFn: () => listProjects(client),
    staleTime: cacheTimes.projects,
  });
}

/** The shots of a project, the first one first. */
export function useShots(projectId: string | null | undefined): UseQueryResult<Shot[], DarkroomError> {
  const client = useDarkroom();
  return useQuery<Shot[], DarkroomError>({
    queryKey: queryKeys.shots(projectId ?? ''),
    queryFn: () => listShots(client, projectId ?? ''),
    staleTime: cacheTimes.shots,
    enabled: Boolean(projectId),
  });
}

export interface CreateProjectInput {
  name: string;
}

// A project or shot has no idempotency key, so a call whose answer was lost is not made again: it could make two.
const once = { retry: false } as const;

export function useCreateProject(): UseMutationResult<Project, DarkroomError, CreateProjectInput> {
  const client = useDarkroom();
  const cache = useQueryClient();
  return useMutation<Project, DarkroomError, CreateProjectInput>({
    ...once,
    mutationFn: ({ name }) => createProject(client, name),
    onSuccess: (project) => {
      cache.setQueryData<Project[]>(queryKeys.projects(), (known) => known && [project, ...known.filter((p) => p.id !== project.id)]);
      void cache.invalidateQueries({ queryKey: queryKeys.projects() });
    },
  });
}

export interface CreateShotInput {
  projectId: string;
  name: string;
}

export function useCreateShot(): UseMutationResult<Shot, DarkroomError, CreateShotInput> {
  const client = useDarkroom();
  const cache = useQueryClient();
  return useMutation<Shot, DarkroomError, CreateShotInput>({
    ...once,
    mutationFn: ({ projectId, name }) => createShot(client, projectId, name),
    onSuccess: (shot) => {
      cache.setQueryData<Shot[]>(queryKeys.shots(shot.project_id), (known) => known && [...known.filter((s) => s.id !== shot.id), shot]);
      void cache.invalidateQueries({ queryKey: queryKeys.shots(shot.project_id) });
    },
  });
}
