// Runs the suite in Node: node node.mjs <folder with node_modules>. The environment is JSON on standard input; a line of JSON per step goes out.
import {createRequire} from 'node:module';
import {text} from 'node:stream/consumers';
import {run} from './suite.mjs';

const require = createRequire(`${process.argv[2]}/package.json`);
const {createClient} = require('@supabase/supabase-js');
const env = JSON.parse(await text(process.stdin));

// The newest client wants a WebSocket before it does anything; Node has one from version 22 on. The old client brings its own.
const options = env.newest && !globalThis.WebSocket ? {realtime: {transport: require('ws')}} : {};
if (!globalThis.File) globalThis.File = (await import('node:buffer')).File; // Node 18

await run({createClient, env, options, report: (name, fault) => console.log(JSON.stringify({name, fault}))});
console.log(JSON.stringify({end: true}));
