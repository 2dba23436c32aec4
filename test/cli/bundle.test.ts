/** Each program in one file: which one its entry runs, and that it needs no source. */
import {
  copyFile,
  cp,
  glob,
  mkdir,
  readFile,
  readdir,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { bundledWorker } from '#src/base/installation.ts';
import { LARGE_LAYER_BYTES } from '#src/base/limits.ts';
import { openLayout } from '#src/store/layout.ts';
import { WORKERS } from '../../deploy/executable/programs.ts';
import { type CommandOutcome, runProgram } from '../fakes/command-line.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const ROOT = join(import.meta.dirname, '..', '..');

const directory = temporaryDirectory();
const at = (...names: string[]) => join(directory(), ...names);

/** Sources of the threads that some program starts. */
async function startedWorkers(): Promise<string[]> {
  const sources = ['cli', 'keyserver', 'shim', 'src'].map((part) => glob(join(ROOT, part, '**', '*.ts')));
  const found: string[] = [];
  for (const files of sources) {
    for await (const file of files) {
      const text = await readFile(file, 'utf8');
      found.push(
        ...[...text.matchAll(/startWorker\('(?<script>[^']+)'/gu)].map(
          ({ groups }) => groups?.['script'] ?? '',
        ),
      );
    }
  }
  return found;
}

/** By the program's name in `dist/`: its entry. */
const ENTRIES = {
  latchkey: join('cli', 'latchkey.js'),
  keyserver: join('keyserver', 'main.js'),
  agent: join('shim', 'agent', 'main.js'),
  install: join('shim', 'install', 'main.js'),
} as const;

type ProgramName = keyof typeof ENTRIES;

/** Runs the entry that lies in the test's own tree. */
function runEntry(name: ProgramName, ...args: string[]): Promise<CommandOutcome> {
  return runProgram(process.execPath, [at('tree', ENTRIES[name]), ...args], { directory: directory() });
}

const latchkey = (...args: string[]) => runEntry('latchkey', ...args);

beforeEach(async () => {
  for (const path of [...Object.values(ENTRIES), join('src', 'base', 'launch.js')]) {
    await mkdir(at('tree', dirname(path)), { recursive: true });
    await copyFile(join(ROOT, path), at('tree', path));
  }
  await copyFile(join(ROOT, 'package.json'), at('tree', 'package.json'));
});

describe.each(Object.keys(ENTRIES) as ProgramName[])('the entry of %s runs', (name) => {
  const OLD = new Date('2026-01-01');
  const NEW = new Date('2026-01-02');
  const source = join(dirname(ENTRIES[name]), 'main.ts');
  const bundle = () => at('tree', 'dist', `${name}.cjs`);
  const list = () => at('tree', 'dist', `${name}.inputs.json`);

  beforeEach(async () => {
    await mkdir(at('tree', 'dist'));
    const said = (what: string): string => `main = (args) => console.log('${what}', ...args);`;
    await writeFile(at('tree', source), `export const ${said('sources')}`);
    await writeFile(bundle(), `exports.${said('bundle')}`);
    await writeFile(list(), JSON.stringify([source]));
    await utimes(at('tree', source), OLD, OLD);
    await utimes(bundle(), NEW, NEW);
  });

  test('the bundle when every source is older', async () => {
    expect(await runEntry(name, 'a', 'b')).toEqual({ status: 0, stdout: 'bundle a b\n', stderr: '' });
  });

  test.each<[string, () => Promise<void>]>([
    ['one is newer', () => utimes(bundle(), OLD, new Date(OLD.getTime() - 1))],
    ['one is gone', () => writeFile(list(), JSON.stringify([source, 'src/gone.ts']))],
    ['there is no bundle', () => rm(bundle())],
    ['its list is cut off', () => writeFile(list(), '["cli/main')],
  ])('the sources when %s', async (_, change) => {
    await change();
    expect(await runEntry(name, 'a', 'b')).toEqual({ status: 0, stdout: 'sources a b\n', stderr: '' });
  });

  test('nothing on an old Node, and says what it needs', async () => {
    const script = `
      Object.defineProperty(process.versions, 'node', { value: '20.1.0' });
      await import(${JSON.stringify(join(ROOT, ENTRIES[name]))});`;
    const outcome = await runProgram(process.execPath, ['--input-type=module', '-e', script], {
      directory: directory(),
    });
    const stderr = 'latchkey: needs Node.js 24 or newer, this is 20.1.0\n';
    expect(outcome).toEqual({ status: 78, stdout: '', stderr });
  });
});

test('the bundle needs no source, in a directory of any name', async () => {
  const made = await runProgram('npm', ['run', '--silent', 'bundle'], { directory: ROOT });
  expect(made).toEqual({ status: 0, stdout: '', stderr: '' });
  const bundled = await readdir(join(ROOT, 'dist'));
  const workers = await startedWorkers();
  expect(workers.toSorted()).toEqual(WORKERS.toSorted());
  for (const worker of workers) expect(bundled).toContain(bundledWorker(worker));
  await cp(join(ROOT, 'dist'), at('tree', 'dist'), { recursive: true });
  for (const name of Object.keys(ENTRIES)) await writeFile(at('tree', 'dist', `${name}.inputs.json`), '[]');
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
  // Each of the others gets as far as its arguments, or what they name.
  expect(await runEntry('keyserver', '--nonsense')).toMatchObject({ status: 2 });
  expect(await runEntry('agent', at('none.toml'))).toMatchObject({
    stderr: expect.stringMatching(/^latchkey: /u) as string,
  });
  expect(await runEntry('install', 'nonsense', '{}')).toMatchObject({
    stdout: expect.stringContaining('"error"') as string,
  });
  // Loaded apart from the bundle.
  expect(await latchkey('copy', 'oci:encrypted:v1', 'oci-archive:encrypted.tar:v1')).toMatchObject({
    status: 0,
  });
});
