// Runs a suite in Node: node node.mjs <folder with node_modules> <suite.mjs>. The environment is JSON on standard input; a line of JSON per step goes out.
import {createRequire} from 'node:module';
import {text} from 'node:stream/consumers';

const require = createRequire(`${process.argv[2]}/package.json`);
const {createClient} = require('@supabase/supabase-js');
const {run} = await import(`./${process.argv[3]}`);
const env = JSON.parse(await text(process.stdin));

// The newest client wants a WebSocket before it does anything; Node has one from version 22 on. The old client brings its own.
const options = env.newest && !globalThis.WebSocket ? {realtime: {transport: require('ws')}} : {};
if (!globalThis.File) globalThis.File = (await import('node:buffer')).File; // Node 18

await run({createClient, env, options, report: (name, fault) => console.log(JSON.stringify({name, fault}))});
console.log(JSON.stringify({end: true}));
