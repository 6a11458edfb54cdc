// Many clients in one process: node storm.mjs <folder with node_modules>. Standard input has a line of JSON that says which (storm_test.go, type crew), and
// ends when they are to stop. A line of JSON goes out when a channel is live for the first time, and when it has seen the last event. What each channel
// received is written to the file that the first line names.
import {createRequire} from 'node:module';
import {writeFileSync} from 'node:fs';
import {createInterface} from 'node:readline';
import {events} from './stream.mjs';

const require = createRequire(`${process.argv[2]}/package.json`);
const {createClient} = require('@supabase/supabase-js');
const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();
const crew = JSON.parse((await lines.next()).value);
const options = crew.newest && !globalThis.WebSocket ? {realtime: {transport: require('ws')}} : {};
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// mark is an event in short, as storm_test.go makes it of the log.
function mark(table, type, record, old) {
  const row = type === 'DELETE' ? old : record;
  const id = table === 'credit_ledger' ? `${row.owner_id}/${row.seq}` : row.id;
  let stamp = '';
  if (type !== 'DELETE') {
    if (table === 'shots' || table === 'projects') stamp = row.name;
    if (table === 'generations') stamp = row.metadata.n;
    if (table === 'shot_generations') stamp = row.position;
    if (table === 'tasks') stamp = `${row.status}/${row.attempt}/${row.generation_created}/${row.updated_at}`;
  }
  return `${table} ${type} ${id} ${stamp ?? ''}`;
}

const record = (name) => {
  const one = {events: [], statuses: {}, resets: 0, history: []};
  received[name] = one;
  return {
    seen(table, type, row, old) {
      one.events.push(mark(table, type, row, old));
      if (table === 'generations' && row?.metadata?.n === crew.last) tell({ended: name});
    },
    status(status) {
      if (status === 'SUBSCRIBED' && !one.statuses.SUBSCRIBED) tell({live: name});
      one.statuses[status] = (one.statuses[status] ?? 0) + 1;
      one.history.push(`${new Date().toISOString().slice(11, 23)} ${status} at ${one.events.length}`);
    },
    reset() { one.resets++; },
  };
};
const received = {};
const clients = [];

const changes = (client, name, bindings, to = record(name)) => {
  const channel = client.channel(`storm ${name}`);
  for (const binding of bindings) channel.on('postgres_changes', {schema: 'public', ...binding}, (p) => to.seen(p.table, p.eventType, p.new, p.old));
  channel.subscribe((status) => {
    to.status(status);
    // The old client leaves a channel by itself when the answer to a join is late. It says so, and the app subscribes anew.
    if (status !== 'CLOSED') return;
    tell({ended: name}); // what comes meanwhile it does not hear
    setTimeout(() => changes(client, name, bindings, to), 0);
  });
};

for (const {name, kind, token, project, early} of crew.clients) {
  const filter = `project_id=eq.${project}`;
  if (kind === 'stream') {
    const to = record(name);
    const {opened} = events({
      url: `${crew.url}/projects/${project}/events`, token, reset: () => to.reset(),
      seen: ({data}) => to.seen(data.table, data.type, data.record, data.old_record),
    });
    opened.then(() => to.status('SUBSCRIBED'));
    continue;
  }
  const client = createClient(crew.url, crew.anonKey, {...options, accessToken: async () => token});
  clients.push(client);
  if (early) await client.realtime.setAuth();
  const app = [
    ...['INSERT', 'UPDATE'].map((event) => ({event, table: 'tasks', filter})),
    ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, table: 'generations', filter})),
    ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, table: 'shots', filter})),
    ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, table: 'shot_generations'})),
    ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, table: 'credit_ledger'})),
  ];
  if (kind === 'app') changes(client, name, app);
  if (kind === 'all') changes(client, name, [{event: '*'}]);
  if (kind === 'spec') changes(client, name, [{event: '*', table: 'generations', filter}]);
}

await lines.next(); // the end of the input
writeFileSync(crew.file, JSON.stringify(received));
process.exit(0);
