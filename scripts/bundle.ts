/**
 * Writes `dist/`: the `latchkey` command in one file, and the hash thread in another. Loading some two hundred modules
 * one by one is most of what a short command does; from one file it takes half the time (measured, docs/decisions.md).
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');
const DIRECTORY = join(ROOT, 'dist');

/** Loaded from node_modules when they are needed, which is seldom: in the bundle they would make every start slower. */
const SEPARATE_PACKAGES = ['@grpc/grpc-js', 'graphene-pk11', 'node-forge', 'openpgp', 'tar-stream', 'yaml'];

const ENTRIES = { latchkey: 'cli/main.ts', 'hash-worker': 'src/image/hash-worker.ts' };

await main();

async function main(): Promise<void> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ENTRIES,
    outdir: DIRECTORY,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    // One file whose modules are evaluated when they are first wanted; ES modules would need a file for each of these.
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    external: SEPARATE_PACKAGES,
    define: { 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
    minifySyntax: true,
    minifyWhitespace: true,
    write: false,
    metafile: true,
    logLevel: 'warning',
  });
  await mkdir(DIRECTORY, { recursive: true });
  const inputs = Object.keys(metafile.inputs).filter((path) => !path.startsWith('node_modules/'));
  const written = [
    ...outputFiles,
    // The entry compares: a bundle that is older than one of these is not used.
    {
      path: join(DIRECTORY, 'inputs.json'),
      contents: JSON.stringify([...inputs, 'package-lock.json'].sort()),
    },
  ];
  for (const { path, contents } of written) {
    const partial = `${path}.${process.pid}.partial`;
    await writeFile(partial, contents);
    // A command may be starting right now.
    await rename(partial, path);
  }
}
