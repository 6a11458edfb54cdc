import type { Generation } from '@darkroom/client';

/** What the create form begins with. */
export interface CreateRequest {
  kind: 'picture' | 'travel';
  prompt?: string;
  shotId?: string;
  /** The pictures of a travel. */
  pictures?: Pick<Generation, 'id' | 'location' | 'thumbnail_url'>[];
}
