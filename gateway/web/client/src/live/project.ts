import type { RealtimeChannel, RealtimePostgresChangesPayload, SupabaseClient } from '@supabase/supabase-js';
import { notifyManager, onlineManager, type QueryClient } from '@tanstack/react-query';
import { queryKeys } from '../keys.js';
import { retryDelay } from '../retry.js';
import { allOf, applyChange, type Change, tables } from './changes.js';
import { Invalidator } from './invalidator.js';

export type LiveStatus = 'connecting' | 'live' | 'offline';

export interface Live {
  /** `live`: nothing that changes from now on is missed. */
  readonly status: LiveStatus;
  /** How many events came right after the last reconnect: what happened meanwhile. 0 until there was one. */
  readonly resumedEvents: number;
  readonly lastEventAt: Date | null;
}

export const idle: Live = { status: 'connecting', resumedEvents: 0, lastEventAt: null };

/** Changes are written into the cache together, so that a burst of them draws the page once. */
const frame = 50;
/** After a reconnect, events belong to what was missed until it is quiet for this long. */
const resumeQuiet = 1000;
/** A channel that nobody looks at is kept for this long: the next page may want it. */
const linger = 1000;

/** The channel of one project, shared by all who look at it. */
export class LiveProject {
  private state = idle;
  private readonly listeners = new Set<() => void>();
  private readonly invalidator: Invalidator;

  private channel: RealtimeChannel | null = null;
  private closing: Promise<unknown> = Promise.resolve();
  private running = false;
  private opening = 0; // grows with each opening and closing, so that a late one knows
  private failures = 0;
  private wasLive = false;

  private changes: Change[] = [];
  private frameTimer: Timer;
  private lingerTimer: Timer;
  private retryTimer: Timer;
  private stopOnline = () => {};

  private resumed = 0;
  private resumeEnds = 0; // events before then count as resumed

  constructor(
    private readonly client: SupabaseClient,
    private readonly cache: QueryClient,
    private readonly projectId: string,
  ) {
    this.invalidator = new Invalidator(cache);
  }

  readonly snapshot = (): Live => this.state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    clearTimeout(this.lingerTimer);
    if (!this.running) this.start();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.lingerTimer = setTimeout(() => this.close(), linger);
    };
  };

  private start(): void {
    this.running = true;
    this.stopOnline = onlineManager.subscribe(this.onOnline);
    void this.open();
  }

  private async open(): Promise<void> {
    const mine = ++this.opening;
    await this.closing;
    // Before the join, so that it says who asks: a join without a token is refused.
    await this.client.realtime.setAuth().catch(() => {});
    if (mine !== this.opening) return;
    const channel = this.client.channel(`task-updates:${this.projectId}`);
    this.channel = channel;
    for (const table of tables) {
      const filter = table === 'credit_ledger' ? {} : { filter: `project_id=eq.${this.projectId}` };
      channel.on('postgres_changes', { event: '*', schema: 'public', table, ...filter }, this.onEvent);
    }
    channel.subscribe((status) => {
      if (channel === this.channel) this.onStatus(status);
    });
  }

  private onStatus(status: string): void {
    if (status === 'SUBSCRIBED') {
      this.onLive();
      return;
    }
    this.set({ status: 'offline' });
    // The client rejoins by itself, but for a channel that the server closed, as it does when a token has expired.
    if (status !== 'CLOSED') return;
    this.channel = null;
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => void this.open(), retryDelay(this.failures++));
  }

  private onLive(): void {
    this.failures = 0;
    if (this.wasLive) {
      this.resumed = 0;
      this.resumeEnds = Date.now() + resumeQuiet;
      // Rows that went meanwhile are in no answer.
      this.cache.setQueryData(queryKeys.generations(this.projectId), (known) => known && []);
    }
    this.wasLive = true;
    // What was read before counts for nothing: it may have changed before anybody listened.
    this.invalidator.add(allOf(this.projectId));
    this.set({ status: onlineManager.isOnline() ? 'live' : 'offline', resumedEvents: this.resumed });
  }

  // The browser knows of a lost network long before a socket does.
  private readonly onOnline = (online: boolean): void => {
    if (!online) {
      this.set({ status: 'offline' });
    } else if (this.channel?.state === 'joined') {
      void this.client.realtime.sendHeartbeat(); // a dead socket is noticed, and opened anew
      this.onLive();
    }
  };

  private readonly onEvent = (payload: RealtimePostgresChangesPayload<Record<string, unknown>>): void => {
    const now = Date.now();
    if (now < this.resumeEnds) {
      this.resumed++;
      this.resumeEnds = now + resumeQuiet;
    }
    this.changes.push({ table: payload.table, type: payload.eventType, row: payload.new, old: payload.old });
    this.frameTimer ??= setTimeout(() => this.flush(), frame);
  };

  private flush(): void {
    this.frameTimer = undefined;
    const changes = this.changes;
    this.changes = [];
    notifyManager.batch(() => {
      for (const change of changes) this.invalidator.add(applyChange(this.cache, this.projectId, change));
      this.set({ resumedEvents: this.resumed, lastEventAt: new Date() });
    });
  }

  private set(changed: Partial<Live>): void {
    this.state = { ...this.state, ...changed };
    for (const listener of this.listeners) listener();
  }

  private close(): void {
    this.running = this.wasLive = false;
    this.opening++;
    this.stopOnline();
    clearTimeout(this.retryTimer);
    clearTimeout(this.frameTimer);
    this.frameTimer = undefined;
    this.changes = [];
    this.invalidator.stop();
    const channel = this.channel;
    this.channel = null;
    // The client has one channel of a name, and gives out one that is about to close.
    if (channel) this.closing = this.client.removeChannel(channel);
    this.state = idle;
  }
}

type Timer = ReturnType<typeof setTimeout> | undefined;

const projects = new WeakMap<QueryClient, WeakMap<SupabaseClient, Map<string, LiveProject>>>();

/** The one LiveProject of a cache, a client and a project. */
export function liveProject(client: SupabaseClient, cache: QueryClient, projectId: string): LiveProject {
  const clients = projects.get(cache) ?? new WeakMap();
  projects.set(cache, clients);
  const known: Map<string, LiveProject> = clients.get(client) ?? new Map();
  clients.set(client, known);
  const live = known.get(projectId) ?? new LiveProject(client, cache, projectId);
  known.set(projectId, live);
  return live;
}
