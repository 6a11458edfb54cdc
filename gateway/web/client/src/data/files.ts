import type { SupabaseClient } from '@supabase/supabase-js';
import { toDarkroomError } from '../errors.js';

const bucket = 'image_uploads';

/** A file that was stored. */
export interface Upload {
  /** Below the bucket. */
  path: string;
  /** Where everybody finds it. */
  url: string;
}

/** Stores a picture of the signed-in user's under a name that nobody can guess. */
export async function uploadImage(client: SupabaseClient, file: File | Blob): Promise<Upload> {
  const { data: session } = await client.auth.getSession();
  const userId = session.session?.user.id;
  if (!userId) throw toDarkroomError({ code: 'TD040', message: 'Nobody is signed in', status: 401 });
  const { data, error } = await client.storage.from(bucket).upload(`${userId}/${crypto.randomUUID()}${extension(file)}`, file, {
    contentType: file.type || undefined,
  });
  if (error) throw toDarkroomError(error);
  return { path: data.path, url: client.storage.from(bucket).getPublicUrl(data.path).data.publicUrl };
}

function extension(file: File | Blob): string {
  const named = 'name' in file ? /\.[A-Za-z0-9]{1,5}$/.exec(file.name)?.[0].toLowerCase() : undefined;
  return named ?? { 'image/png': '.png', 'image/jpeg': '.jpg', 'image/webp': '.webp' }[file.type] ?? '';
}
