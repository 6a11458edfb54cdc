import type { SupabaseClient } from '@supabase/supabase-js';
import type { Project, Shot } from '../types.js';
import { answer } from './answer.js';

/** The projects of the signed-in user, newest first. */
export async function listProjects(client: SupabaseClient): Promise<Project[]> {
  return answer<Project[]>(client.from('projects').select('*').order('created_at', { ascending: false }));
}

export async function createProject(client: SupabaseClient, name: string): Promise<Project> {
  return answer<Project>(client.rpc('create_project', { name }));
}

/** The shots of a project, the first one first. */
export async function listShots(client: SupabaseClient, projectId: string): Promise<Shot[]> {
  return answer<Shot[]>(client.from('shots').select('*').eq('project_id', projectId).order('created_at').order('id'));
}

export async function createShot(client: SupabaseClient, projectId: string, name: string): Promise<Shot> {
  return answer<Shot>(client.rpc('create_shot', { project_id: projectId, name }));
}
