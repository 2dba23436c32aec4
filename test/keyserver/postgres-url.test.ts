import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { startKeyServer } from '../../lab/keyserver.ts';

describe('the place of the database', () => {
  it.each(['postgres://latchkey:secret@db/latchkey', 'postgres://db/latchkey?password=secret'])(
    'is not given with a password on the command line: %s',
    async (url) => {
      await expect(startKeyServer({ args: ['--database', url] })).rejects.toMatchObject({
        status: 2,
        stderr: expect.not.stringContaining('secret') as string,
      });
    },
  );

  it.each([
    ['mysql://db/latchkey', /no PostgreSQL URL/],
    ['/nowhere/url', /cannot be read/],
    ['postgres://latchkey@127.0.0.1:1/latchkey', /NET_UNREACHABLE/],
  ])('is checked: %s', async (database, message) => {
    await expect(startKeyServer({ args: ['--database', database] })).rejects.toMatchObject({
      stderr: expect.stringMatching(message) as string,
    });
  });

  it('may be in a file', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'latchkey-database-url-'));
    const file = join(directory, 'database');
    await writeFile(file, 'postgres://latchkey:secret@127.0.0.1:1/latchkey\n');
    await chmod(file, 0o600);
    const start = startKeyServer({ args: ['--database', file] });
    await expect(start).rejects.toMatchObject({
      stderr: expect.stringMatching(/NET_UNREACHABLE(?!.*secret)/) as string,
    });
    await rm(directory, { recursive: true });
  });
});
