import { defineConfig } from 'vitest/config';
import { ClosingLineReporter } from './test/closing-line-reporter.ts';

/** Real parts (registries, containerd, databases) need time to start; no test asserts on time. */
const HOOK_TIMEOUT_MS = 180_000;
const TEST_TIMEOUT_MS = 180_000;

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: HOOK_TIMEOUT_MS,
    // Two cores: more files at once would only fight over containerd and disks.
    maxWorkers: 2,
    reporters: ['default', new ClosingLineReporter()],
  },
});
