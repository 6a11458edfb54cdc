import { hashKey, type QueryClient, type QueryKey } from '@tanstack/react-query';
import { allShots, positionKey } from '../keys.js';

/** So long it is quiet before something is read anew, */
export const quiet = 150;
/** and so long it takes at most, however busy it is. */
export const longest = 1000;

/** Collects what has to be read anew, so that a burst of changes reads once. */
export class Invalidator {
  private readonly keys = new Map<string, QueryKey>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private since = 0;

  constructor(private readonly cache: QueryClient) {}

  add(keys: readonly QueryKey[]): void {
    if (keys.length === 0) return;
    if (this.keys.size === 0) this.since = Date.now();
    for (const key of keys) this.keys.set(hashKey(key), key);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), Math.max(0, Math.min(quiet, this.since + longest - Date.now())));
  }

  /** Forgets what was collected. */
  stop(): void {
    clearTimeout(this.timer);
    this.keys.clear();
  }

  private flush(): void {
    const keys = [...this.keys.values()];
    this.keys.clear();
    // What the user drags about is read when the last move has been answered.
    const moving = this.cache.isMutating({ mutationKey: positionKey }) > 0;
    for (const key of keys) {
      if (moving && isShot(key)) continue;
      void this.cache.invalidateQueries({ queryKey: key });
    }
  }
}

function isShot(key: QueryKey): boolean {
  return allShots.every((part, i) => key[i] === part);
}
