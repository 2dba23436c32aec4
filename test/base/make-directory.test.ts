import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeDirectory } from '#src/base/make-directory.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const at = (...names: string[]) => join(directory(), ...names);

test('makes what is missing, with its mode, and leaves what is there', async () => {
  await mkdir(at('a'));
  await chmod(at('a'), 0o755);
  await makeDirectory(at('a', 'b', 'c'), 0o700);
  await makeDirectory(at('a', 'b', 'c'), 0o711);
  const modes = await Promise.all(
    [at('a'), at('a', 'b'), at('a', 'b', 'c')].map(async (path) => (await stat(path)).mode & 0o777),
  );
  expect(modes).toEqual([0o755, 0o700, 0o700]);
});

test('made by several at once, is there for all of them', async () => {
  const paths = Array.from({ length: 20 }, (_, index) => at('x', 'y', String(index % 2)));
  await Promise.all(paths.map((path) => makeDirectory(path)));
  expect((await stat(at('x', 'y', '1'))).isDirectory()).toBe(true);
});

test('ends where nothing can be made, which Node’s own never does', async () => {
  await expect(makeDirectory('/proc/latchkey/blobs')).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a file in the way is said', async () => {
  await writeFile(at('file'), '');
  await expect(makeDirectory(at('file'))).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(makeDirectory(at('file', 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});
