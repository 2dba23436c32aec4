/** A directory of its own for every test of a file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** @returns gives the current test's directory; it is removed when the test has ended */
export function temporaryDirectory(): () => string {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));
  return () => directory;
}
