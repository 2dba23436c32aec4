/** The command in one file: which one the entry runs, and that it needs no source. */
import { copyFile, cp, mkdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { LARGE_LAYER_BYTES } from '#src/base/limits.ts';
import { openLayout } from '#src/store/layout.ts';
import { type CommandOutcome, LATCHKEY, runProgram } from '../fakes/command-line.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const ROOT = join(import.meta.dirname, '..', '..');

const directory = temporaryDirectory();
const at = (...names: string[]) => join(directory(), ...names);

/** Runs the entry that lies in the test's own tree. */
function latchkey(...args: string[]): Promise<CommandOutcome> {
  return runProgram(process.execPath, [at('tree', 'cli', 'latchkey.js'), ...args], {
    directory: directory(),
  });
}

beforeEach(async () => {
  await mkdir(at('tree', 'cli'), { recursive: true });
  await copyFile(LATCHKEY, at('tree', 'cli', 'latchkey.js'));
  await copyFile(join(ROOT, 'package.json'), at('tree', 'package.json'));
});

describe('the entry runs', () => {
  const OLD = new Date('2026-01-01');
  const NEW = new Date('2026-01-02');

  beforeEach(async () => {
    await mkdir(at('tree', 'dist'));
    const said = (what: string): string => `main = (args) => console.log('${what}', ...args);`;
    await writeFile(at('tree', 'cli', 'main.ts'), `export const ${said('sources')}`);
    await writeFile(at('tree', 'dist', 'latchkey.cjs'), `exports.${said('bundle')}`);
    await writeFile(at('tree', 'dist', 'inputs.json'), '["cli/main.ts"]');
    await utimes(at('tree', 'cli', 'main.ts'), OLD, OLD);
    await utimes(at('tree', 'dist', 'latchkey.cjs'), NEW, NEW);
  });

  test('the bundle when every source is older', async () => {
    expect(await latchkey('a', 'b')).toEqual({ status: 0, stdout: 'bundle a b\n', stderr: '' });
  });

  test.each<[string, () => Promise<void>]>([
    ['one is newer', () => utimes(at('tree', 'dist', 'latchkey.cjs'), OLD, new Date(OLD.getTime() - 1))],
    ['one is gone', () => writeFile(at('tree', 'dist', 'inputs.json'), '["cli/main.ts", "src/gone.ts"]')],
    ['there is no bundle', () => rm(at('tree', 'dist', 'latchkey.cjs'))],
    ['its list is cut off', () => writeFile(at('tree', 'dist', 'inputs.json'), '["cli/main')],
  ])('the sources when %s', async (_, change) => {
    await change();
    expect(await latchkey('a', 'b')).toEqual({ status: 0, stdout: 'sources a b\n', stderr: '' });
  });
});

test('the bundle needs no source, in a directory of any name', async () => {
  const made = await runProgram('npm', ['run', '--silent', 'bundle'], { directory: ROOT });
  expect(made).toEqual({ status: 0, stdout: '', stderr: '' });
  await cp(join(ROOT, 'dist'), at('tree', 'dist'), { recursive: true });
  await writeFile(at('tree', 'dist', 'inputs.json'), '[]');
  await symlink(join(ROOT, 'node_modules'), at('tree', 'node_modules'));
  await cp(at('tree'), at('a tree %41'), { recursive: true, verbatimSymlinks: true });
  await rm(at('tree'), { recursive: true });
  await symlink('a tree %41', at('tree'));

  // Large enough for the hash thread, which is a file of its own.
  await storeImage(openLayout(at('plain')), fakeImage([LARGE_LAYER_BYTES]), 'v1');
  expect(await latchkey('keygen', 'key')).toMatchObject({ status: 0 });
  const recipient = ['--recipient', 'jwe:key.pub.pem'];
  expect(await latchkey('encrypt', 'oci:plain:v1', 'oci:encrypted:v1', ...recipient)).toMatchObject({
    status: 0,
  });
  expect(await latchkey('decrypt', 'oci:encrypted:v1', 'oci:decrypted:v1', '--key', 'key.pem')).toMatchObject(
    { status: 0 },
  );
  // Loaded apart from the bundle.
  expect(await latchkey('copy', 'oci:encrypted:v1', 'oci-archive:encrypted.tar:v1')).toMatchObject({
    status: 0,
  });
});
