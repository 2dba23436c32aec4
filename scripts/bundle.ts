/**
 * Writes `dist/`: each program of Latchkey in one file, and each of their threads. Loading hundreds of modules one by one
 * is most of what a start does; from one file it takes half the time (measured, docs/decisions.md).
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');
const DIRECTORY = join(ROOT, 'dist');

interface Program {
  /** File in `dist/`, without extension. */
  readonly name: string;
  readonly entryPoints: Readonly<Record<string, string>>;
  /** Loaded from node_modules when they are needed, which is seldom: in the bundle they would make every start slower. */
  readonly separatePackages: readonly string[];
}

const PROGRAMS: readonly Program[] = [
  {
    name: 'latchkey',
    entryPoints: { latchkey: 'cli/main.ts', 'hash-worker': 'src/image/hash-worker.ts' },
    separatePackages: ['@grpc/grpc-js', 'graphene-pk11', 'node-forge', 'openpgp', 'tar-stream', 'yaml'],
  },
  {
    name: 'keyserver',
    entryPoints: { keyserver: 'keyserver/main.ts', 'release-worker': 'keyserver/custody/release-worker.ts' },
    separatePackages: ['graphene-pk11', 'pg-native'],
  },
  {
    name: 'agent',
    entryPoints: { agent: 'shim/agent/main.ts', 'decrypt-worker': 'shim/agent/decrypt-worker.ts' },
    separatePackages: ['graphene-pk11'],
  },
  { name: 'install', entryPoints: { install: 'shim/install/main.ts' }, separatePackages: ['graphene-pk11'] },
];

await Promise.all(PROGRAMS.map(bundle));

async function bundle({ name, entryPoints, separatePackages }: Program): Promise<void> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints,
    outdir: DIRECTORY,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    // One file whose modules are evaluated when they are first wanted; ES modules would need a file for each of these.
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    external: [...separatePackages],
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
      path: join(DIRECTORY, `${name}.inputs.json`),
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
