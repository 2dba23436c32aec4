/** The file in which a key server keeps its data when it has no PostgreSQL. */
import { cp, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';

let directory: string;
let template: string;
let dataDirectory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-file-'));
  template = join(directory, 'template');
  expect(await (await startKeyServer({ dataDirectory: template })).stop()).toBe(0);
});

beforeEach(async () => {
  dataDirectory = await mkdtemp(join(directory, 'data-'));
  await cp(template, dataDirectory, { recursive: true });
});

afterAll(() => rm(directory, { recursive: true, force: true }));

const file = () => join(dataDirectory, 'latchkey.db');

async function expectRefusal(code: string): Promise<void> {
  const result = await startKeyServer({ dataDirectory }).catch((error: unknown) => error);
  if (!(result instanceof KeyServerExit)) {
    await (result as TestKeyServer).stop();
    throw new Error('the key server started');
  }
  expect(result.stderr).toMatch(new RegExp(`^latchkey: ${code}: [^\n]+; [^\n]+\n$`, 'u'));
  expect(result.status).toBe(65);
}

describe('the database file', () => {
  it('is not for others to read', async () => {
    expect((await stat(file())).mode & 0o077).toBe(0);
  });

  it.each([
    ['that is no database', () => writeFile(file(), 'x'.repeat(8192))],
    ['that was cut off', () => truncate(file(), 20_000)],
    [
      'with overwritten pages',
      async () => {
        const bytes = await readFile(file());
        bytes.fill(0xa5, 4096 * 3, 4096 * 12);
        await writeFile(file(), bytes);
      },
    ],
  ])('is refused: one %s', async (_name, damage) => {
    await damage();
    const damaged = await readFile(file());
    await expectRefusal('STATE_DAMAGED');
    expect((await readFile(file())).equals(damaged)).toBe(true);
  });

  it('has no copy beside it that a backup left behind whose server was killed', async () => {
    const left = ['', '-wal', '-shm'].map((suffix) => `${file()}.snapshot-0b1c${suffix}`);
    for (const path of left) await writeFile(path, 'half');
    await (await startKeyServer({ dataDirectory })).stop();
    expect((await readdir(dataDirectory)).filter((name) => name.includes('snapshot'))).toEqual([]);
  });

  it('belongs to one server at a time', async () => {
    const server = await startKeyServer({ dataDirectory });
    await expectRefusal('STATE_CONFLICT');
    expect((await fetch(`${server.adminUrl}/healthz`)).status).toBe(200);
    await server.stop();
  });
});
