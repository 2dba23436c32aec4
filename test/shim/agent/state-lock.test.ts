/** One agent for each state directory, and nothing left behind that would keep the next one out. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockState } from '../../../shim/agent/state-lock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

function path(): string {
  return join(directory(), 'agent.lock');
}

test('is held by one at a time, and by the next when it is released', () => {
  const first = lockState(path());
  expect(() => lockState(path())).toThrow(
    expect.objectContaining({
      code: 'STATE_CONFLICT',
      message: `another agent is running on ${directory()}`,
    }),
  );
  first.release();
  lockState(path()).release();
  expect(readdirSync(directory())).toEqual(['agent.lock']);
});

test.each([
  ['a directory', () => mkdirSync(path())],
  ['somebody else’s file', () => writeFileSync(path(), 'not ours'.repeat(200))],
])('says what to do about %s in its place', (_case, make) => {
  make();
  expect(() => lockState(path())).toThrow(
    expect.objectContaining({ code: 'STORAGE_FAILED', hint: expect.stringContaining('remove it') as string }),
  );
});
