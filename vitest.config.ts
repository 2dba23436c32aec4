import { type TestProjectInlineConfiguration, defineConfig } from 'vitest/config';
import { postgresSkipReason } from './lab/postgres.ts';
import { ClosingLineReporter } from './test/closing-line-reporter.ts';
import { LongestFirst } from './test/longest-first.ts';

/** Real parts (registries, containerd, databases) need time to start; no test asserts on time. */
const HOOK_TIMEOUT_MS = 180_000;
const TEST_TIMEOUT_MS = 180_000;
const POLL_TIMEOUT_MS = 60_000;

const everything: TestProjectInlineConfiguration = {
  extends: true,
  test: { name: 'latchkey', include: ['test/**/*.test.ts'] },
};

/** The tests of the key server once more, each server with a database of its own on one PostgreSQL. */
const onPostgres: TestProjectInlineConfiguration = {
  extends: true,
  test: {
    name: 'on PostgreSQL',
    include: ['test/keyserver/**/*.test.ts'],
    exclude: [
      // About one database by its name.
      ...['sqlite-*', 'postgres*'],
      // Without a database.
      ...['input-lines', 'node-keys', 'bounded-calls', 'page', 'ids', 'webhook-message', 'syslog-message'],
      'watch-heartbeat',
      // What no database could change, and more than 5 seconds each: sockets and how long they are waited for, limits that
      // count in memory, arguments that are refused before a database is opened, a receiver that is not ours.
      ...['admin-limits', 'connection-limits', 'rate-limit', 'start-configuration', 'syslog-rsyslog'],
    ].map((name) => `test/keyserver/${name}.test.ts`),
    globalSetup: ['test/keyserver/on-postgres/cluster.ts'],
    setupFiles: ['test/keyserver/on-postgres/databases.ts'],
  },
};

export default defineConfig({
  test: {
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: HOOK_TIMEOUT_MS,
    // Vitest's own second is not enough for a machine that is busy.
    expect: { poll: { timeout: POLL_TIMEOUT_MS } },
    // Two cores, and tests that wait for disks, timers and other processes: the third fills the gaps.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    reporters: ['default', new ClosingLineReporter()],
    // Without PostgreSQL its own tests are skipped and say so, which in CI is a failure.
    projects: postgresSkipReason() === null ? [everything, onPostgres] : [everything],
  },
});
