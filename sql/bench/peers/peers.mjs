// Runs a queue of the Node world for the bench: node peers.mjs graphile-worker|pg-boss <url>. Reads a command a line, as JSON, and answers each with a line.

import { createInterface } from 'node:readline';
import pg from 'pg';

const [, , name, connectionString] = process.argv;
const payload = JSON.parse(process.env.BENCH_PAYLOAD);
const queue = 'bench';
let rows = 0;
let measured = null; // says how many rows, where the program itself does not know

// loops runs step over and over, that many times side by side, until end() is called. step says how many rows it did.
function loops(n, step) {
  let on = true;
  let failed = null;
  const running = Array.from({ length: n }, async () => {
    while (on && !failed) {
      const done = await step();
      rows += done;
    }
  }).map((loop) => loop.catch((error) => { failed = error; }));
  return async () => {
    on = false;
    await Promise.all(running);
    if (failed) throw failed;
  };
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// latencies creates a job n times, on an idle system, and measures from the call and from its answer to the start of the work.
async function latencies(n, add, starts) {
  const fromCall = [];
  const fromAnswer = [];
  for (let i = 0; i < n; i++) {
    await sleep(30 + Math.random() * 70);
    const started = new Promise((resolve) => { starts.next = resolve; });
    const called = performance.now();
    await add();
    const answered = performance.now();
    const at = await started;
    fromCall.push(at - called);
    fromAnswer.push(Math.max(0, at - answered));
  }
  return { fromCall, fromAnswer };
}

function open(max) {
  const pool = new pg.Pool({ connectionString, max });
  const complain = (error) => { process.stderr.write(`${name}: ${error.message}\n`); };
  pool.on('error', complain);
  pool.on('connect', (client) => { client.on('error', complain); });
  return pool;
}

async function graphile() {
  const { run, runMigrations, makeWorkerUtils, Logger } = await import('graphile-worker');
  const logger = new Logger(() => () => {});
  await runMigrations({ connectionString, logger });
  // One connection more than there are jobs at a time: it listens.
  const start = async (conns, batch, taskList) => {
    const pgPool = open(conns + 1);
    const worker = { concurrentJobs: conns, pollInterval: 2000 };
    if (batch > 1) Object.assign(worker, { localQueue: { size: batch }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
    const before = await count('true');
    // A job is completed in the background, while the next is fetched, so only the table knows how many are.
    measured = async () => before - await count('true');
    const runner = await run({ pgPool, taskList, logger, noHandleSignals: true, preset: { worker } });
    return async () => {
      await runner.stop();
      while (await count('locked_at is not null') > 0) await sleep(5);
      rows = await measured();
      measured = null;
      await pgPool.end();
    };
  };
  const asking = open(1);
  const count = async (which) => Number((await asking.query(`select count(*) from graphile_worker._private_jobs where ${which}`)).rows[0].count);
  const utils = await makeWorkerUtils({ connectionString, logger });
  const job = { identifier: queue, payload };
  return {
    work: (conns, batch) => start(conns, batch, { [queue]: () => {} }),
    async create(conns, batch) {
      const pgPool = open(conns);
      const adder = await makeWorkerUtils({ pgPool, logger });
      const jobs = Array(batch).fill(job);
      const end = loops(conns, batch === 1
        ? async () => { await adder.addJob(queue, payload); return 1; }
        : async () => (await adder.addJobs(jobs)).length);
      return async () => {
        await end();
        await adder.release();
        await pgPool.end();
      };
    },
    async fill(n) {
      for (let left = n; left > 0; left -= 5000) await utils.addJobs(Array(Math.min(left, 5000)).fill(job));
    },
    async latency(n) {
      const starts = {};
      const end = await start(2, 1, { [queue]: () => { starts.next(performance.now()); } });
      await sleep(1000);
      const result = await latencies(n, () => utils.addJob(queue, payload), starts);
      await end();
      return result;
    },
    close: () => Promise.all([utils.release(), asking.end()]),
  };
}

async function boss() {
  const { PgBoss } = await import('pg-boss');
  const start = async (options) => {
    const one = new PgBoss({ connectionString, schedule: false, ...options });
    one.on('error', (error) => { process.stderr.write(`pg-boss: ${error.message}\n`); });
    await one.start();
    return one;
  };
  const main = await start({ max: 4, useListenNotify: true });
  // One that works with so many connections; main looks after the queue for all. They are kept, since each has much to ask when it starts.
  const kept = {};
  const worker = async (max) => kept[max] ??= await start({ max, supervise: false, migrate: false });
  await main.createQueue(queue);
  await main.createQueue('notified', { notify: true });
  return {
    async work(conns, batch) {
      const one = await worker(conns);
      return loops(conns, async () => {
        const jobs = await one.fetch(queue, { batchSize: batch });
        if (jobs.length === 0) return 0;
        return (await one.complete(queue, jobs.map((job) => job.id))).affected;
      });
    },
    async create(conns, batch) {
      const one = await worker(conns);
      const jobs = Array(batch).fill({ data: payload });
      return loops(conns, batch === 1
        ? async () => { await one.send(queue, payload); return 1; }
        : async () => { await one.insert(queue, jobs); return batch; });
    },
    async fill(n) {
      for (let left = n; left > 0; left -= 5000) await main.insert(queue, Array(Math.min(left, 5000)).fill({ data: payload }));
    },
    async latency(n) {
      const starts = {};
      await main.work('notified', async () => { starts.next(performance.now()); });
      await sleep(1000);
      const result = await latencies(n, () => main.send('notified', payload), starts);
      await main.offWork('notified');
      return result;
    },
    close: () => Promise.all([main, ...Object.values(kept)].map((one) => one.stop({ graceful: false, close: true }))),
  };
}

const peer = await { 'graphile-worker': graphile, 'pg-boss': boss }[name]();
let end = null;

async function obey({ op, n, conns, batch }) {
  switch (op) {
    case 'fill':
    case 'latency':
      return await peer[op](n) ?? {};
    case 'work':
    case 'create':
      rows = 0;
      end = await peer[op](conns, batch);
      return {};
    case 'count':
      return { rows: measured ? await measured() : rows };
    case 'stop':
      await end();
      return { rows };
    default:
      throw new Error(`unknown command ${op}`);
  }
}

process.stdout.write(`${JSON.stringify({})}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = await obey(JSON.parse(line));
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await peer.close();
process.exit(0);
