import react from '@vitejs/plugin-react';
import { defaultClientConditions, defineConfig } from 'vite';

// A gateway of yours serves the API while `npm run dev` serves the page: DARKROOM_URL=http://127.0.0.1:8484.
const gateway = process.env.DARKROOM_URL ?? 'http://127.0.0.1:8484';
const proxied = ['/rest/v1', '/auth/v1', '/storage/v1', '/functions/v1', '/realtime/v1', '/projects', '/tasks', '/dev', '/config.json'];

export default defineConfig({
  plugins: [react()],
  // @darkroom/client is compiled from its source, so that a build needs no other build before it.
  resolve: { conditions: ['@darkroom/source', ...defaultClientConditions] },
  build: {
    // Nothing inline: the page's policy allows scripts and styles from its own address only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: Object.fromEntries(proxied.map((path) => [path, { target: gateway, ws: path === '/realtime/v1' }])) },
});
