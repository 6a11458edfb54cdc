import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import type { tables } from '../live/changes.js';

/** What a test's server was asked. */
export interface Asked {
  method: string;
  /** Below /rest/v1, such as `tasks` or `rpc/create_task`. */
  path: string;
  query: URLSearchParams;
  // biome-ignore lint/suspicious/noExplicitAny: whatever a test expects of it
  body: any;
}

/** How a test's server refuses. */
export class Refusal {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly message = 'refused',
  ) {}
}

type Handler = (asked: Asked) => unknown;

let clients = 0;

/** The server's end of the wire that the real supabase-js speaks: answers tables and functions as a test says, and is realtime. */
export class TestServer {
  readonly asked: Asked[] = [];
  readonly sockets: TestSocket[] = [];
  /** So many joins are refused, as the first one is after events have gone past retention. */
  refusedJoins = 0;
  private readonly handlers = new Map<string, Handler>();

  /** Says what a table or function answers. A thrown Refusal is one; anything else thrown is a broken network. */
  on(path: string, handler: Handler): this {
    this.handlers.set(path, handler);
    return this;
  }

  askedFor(path: string): Asked[] {
    return this.asked.filter((asked) => asked.path === path);
  }

  client(): SupabaseClient {
    const server = this;
    return createClient('http://darkroom.test', 'public-key', {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false, storageKey: `client-${++clients}` },
      global: { fetch: (input, init) => this.answer(input, init) },
      realtime: {
        transport: class extends TestSocket {
          constructor(readonly url: string) {
            super(server);
          }
          // biome-ignore lint/suspicious/noExplicitAny: as much of a WebSocket as the client uses
        } as any,
      },
    });
  }

  private async answer(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    const url = new URL(request.url);
    const text = await request.text();
    const asked = {
      method: request.method,
      path: url.pathname.replace('/rest/v1/', ''),
      query: url.searchParams,
      body: text ? JSON.parse(text) : undefined,
    };
    this.asked.push(asked);
    const json = { 'content-type': 'application/json' };
    try {
      const handler = this.handlers.get(asked.path);
      const data = handler ? await handler(asked) : [];
      return new Response(JSON.stringify(data), { status: 200, headers: json });
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      const body = { code: thrown.code, message: thrown.message, details: null, hint: null };
      return new Response(JSON.stringify(body), { status: thrown.status, headers: json });
    }
  }

  /** Tells everybody of a change. */
  change(table: (typeof tables)[number], type: 'INSERT' | 'UPDATE' | 'DELETE', row: object): void {
    for (const socket of this.sockets) socket.change(table, type, row);
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.sockets.splice(0)) socket.drop();
  }
}

interface Binding {
  id: number;
  table: string;
}

class TestSocket {
  readyState = 0;
  onopen?: (event: object) => void;
  onmessage?: (event: { data: string }) => void;
  onclose?: (event: object) => void;
  onerror?: (event: object) => void;
  readonly joined = new Map<string, { ref: string; bindings: Binding[]; token: unknown }>();

  constructor(private readonly server: TestServer) {
    server.sockets.push(this);
    setTimeout(() => {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.onopen?.({});
    }, 1);
  }

  send(text: string): void {
    const [joinRef, ref, topic, event, payload] = JSON.parse(text);
    const reply = (status: string, response: object) => this.tell([joinRef, ref, topic, 'phx_reply', { status, response }]);
    if (event === 'phx_join') {
      if (this.server.refusedJoins > 0) {
        this.server.refusedJoins--;
        reply('error', { reason: 'events since then are no longer kept' });
        return;
      }
      const bindings = payload.config.postgres_changes.map((wanted: object, i: number) => ({ id: i + 1, ...wanted }));
      this.joined.set(topic, { ref: joinRef, bindings, token: payload.access_token });
      reply('ok', { postgres_changes: bindings });
    } else if (event === 'phx_leave') {
      this.joined.delete(topic);
      reply('ok', {});
    } else if (event === 'heartbeat') {
      reply('ok', {});
    }
  }

  change(table: string, type: string, row: object): void {
    for (const [topic, { bindings }] of this.joined) {
      const ids = bindings.filter((binding) => binding.table === table).map((binding) => binding.id);
      const rows = type === 'DELETE' ? { record: {}, old_record: row } : { record: row };
      const data = { schema: 'public', table, commit_timestamp: new Date().toISOString(), type, columns: [], errors: null, ...rows };
      if (ids.length > 0) this.tell([null, null, topic, 'postgres_changes', { ids, data }]);
    }
  }

  /** Ends a channel for good, as when a token has expired. */
  closeChannels(): void {
    for (const [topic, { ref }] of this.joined) this.tell([ref, ref, topic, 'phx_close', {}]);
    this.joined.clear();
  }

  close(): void {
    this.drop(1000);
  }

  drop(code = 1006): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    const at = this.server.sockets.indexOf(this);
    if (at >= 0) this.server.sockets.splice(at, 1);
    setTimeout(() => this.onclose?.({ code }), 0);
  }

  private tell(message: unknown[]): void {
    setTimeout(() => {
      if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(message) });
    }, 1);
  }
}
