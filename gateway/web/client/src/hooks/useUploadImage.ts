import { type UseMutationResult, useMutation } from '@tanstack/react-query';
import { useDarkroom } from '../context.js';
import { type Upload, uploadImage } from '../data/files.js';
import type { DarkroomError } from '../errors.js';

/** Stores a picture, for a travel to begin or end with. */
export function useUploadImage(): UseMutationResult<Upload, DarkroomError, File | Blob> {
  const client = useDarkroom();
  return useMutation<Upload, DarkroomError, File | Blob>({ mutationFn: (file) => uploadImage(client, file) });
}
