/** A directory of its own for every test of a file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** Agents that were stopped in this process may be in the middle of a last write into it. */
const REMOVE = { recursive: true, force: true, maxRetries: 20, retryDelay: 100 };

/** @returns gives the current test's directory; it is removed when the test has ended */
export function temporaryDirectory(): () => string {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-'));
  });
  afterEach(() => rm(directory, REMOVE));
  return () => directory;
}
