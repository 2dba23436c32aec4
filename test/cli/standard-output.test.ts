/** Results that standard output does not take: nobody may think that he has them. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { standardOutput } from '../../cli/standard-output.ts';
import { runLatchkey, runLatchkeyInto } from '../fakes/command-line.ts';
import { mountSmallDisk } from '../fakes/small-disk.ts';

const STORAGE_STATUS = 74;
const REFUSAL =
  /^latchkey: STORAGE_FULL: the result cannot be written to standard output: the disk is full .+; make room; .+\n$/;

const directory = mkdtempSync(join(tmpdir(), 'latchkey-output-'));

afterAll(() => {
  rmSync(directory, { recursive: true });
});

const run = (file: string, ...args: readonly string[]) => runLatchkeyInto(file, args, { directory });

describe('a full disk', () => {
  it.each([
    ['the help', ['--help']],
    ['an answer', ['--version']],
    ['an error as JSON', ['nonsense', '--json']],
  ])('is told in one line: %s', async (name, args) => {
    const { status, stderr } = await run('/dev/full', ...args);
    if (name === 'an error as JSON') expect(stderr).toMatch(/^latchkey: USAGE_INVALID: .+\n$/);
    else
      expect({ status, stderr }).toEqual({
        status: STORAGE_STATUS,
        stderr: expect.stringMatching(REFUSAL) as string,
      });
    expect(status).not.toBe(0);
  });

  const probe = mountSmallDisk('64k');
  probe?.remove();

  it.skipIf(probe === undefined)(
    'is told, too, when it takes a part; whoever sits there sees the whole (needs the right to mount a small disk)',
    async () => {
      const disk = mountSmallDisk('8k')!;
      const file = openSync(join(disk.directory, 'result'), 'w');
      const seen: string[] = [];
      const people = { isTTY: true, write: (text: string) => seen.push(text) };
      const text = 'share\n'.repeat(2000);
      const output = standardOutput(people, file);
      expect(() => {
        output.write(text);
      }).toThrow(/cannot be written to standard output: the disk is full/);
      expect(seen).toEqual([text]);
      const piped = new Promise((resolve) => output.stream.write('archive'.repeat(2000), resolve));
      output.stream.on('error', () => undefined);
      expect(await piped).toMatchObject({ code: 'ENOSPC' });
      closeSync(file);
      disk.remove();
    },
  );
});

it('is written to a file as it is', async () => {
  const file = join(directory, 'version');
  expect(await run(file, '--version')).toMatchObject({ status: 0, stderr: '' });
  expect(readFileSync(file, 'utf8')).toBe((await runLatchkey(['--version'], { directory })).stdout);
});
