import { defineConfig } from 'vitest/config';

// The tests that want a real gateway. gateway/clients starts one and says in DARKROOM_TEST_WORLD where it is and who lives there.
const world = JSON.parse(process.env.DARKROOM_TEST_WORLD ?? '{"url":"http://127.0.0.1:1"}');

export default defineConfig({
  test: {
    environment: 'happy-dom',
    environmentOptions: { happyDOM: { url: world.url } },
    include: ['gateway/**/*.test.tsx'],
    testTimeout: 60_000,
  },
});
