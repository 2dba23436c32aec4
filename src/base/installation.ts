/**
 * How Latchkey lies on this machine: as sources, as a bundle beside them (`dist/`), or as one executable, in which there
 * are no files to load (Node's single executable applications).
 */
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { getAsset, isSea } from 'node:sea';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import packageManifest from '../../package.json' with { type: 'json' };

export const VERSION: string = packageManifest.version;

/** In one executable, the first argument of a command line that names another of its programs. */
export const PROGRAM_OPTION = '--program=';

/** The `latchkey` command, which one executable is without being told so. */
const COMMAND_SCRIPT = 'cli/latchkey.js';

const IS_SOURCE = import.meta.filename.endsWith('.ts');
const ROOT = join(import.meta.dirname, IS_SOURCE ? '../..' : '..');

/**
 * The command line of a program of Latchkey.
 * @param script its path from the project's root, as in `shim/agent/main.js`
 */
export function programCommand(script: string, args: readonly string[] = []): [string, ...string[]] {
  if (isSea() && script === COMMAND_SCRIPT) return [process.execPath, ...args];
  if (isSea()) return [process.execPath, `${PROGRAM_OPTION}${script}`, ...args];
  return [process.execPath, join(ROOT, script), ...args];
}

/**
 * Starts a worker thread.
 * @param script path of its source from the project's root, as in `src/image/hash-worker.ts`
 */
export function startWorker(script: string, options: WorkerOptions): Worker {
  if (IS_SOURCE) return new Worker(join(ROOT, script), options);
  const name = bundledWorker(script);
  if (isSea()) return new Worker(getAsset(name, 'utf8'), { ...options, eval: true });
  return new Worker(join(import.meta.dirname, name), options);
}

/**
 * Loads a package with native code, which cannot lie in one executable: it is looked for in `lib/latchkey/node_modules`
 * beside the executable's own directory, as in /usr.
 * @param load loads it where there are sources
 * @throws an error of Node's when it is not there
 */
export async function loadNativePackage<Package>(
  name: string,
  load: () => Promise<Package>,
): Promise<Package> {
  if (!isSea()) return load();
  return createRequire(`${nativePackagesDirectory() ?? ROOT}/`)(name) as Package;
}

/** Where one executable looks for packages with native code; undefined where they are installed with the sources. */
export function nativePackagesDirectory(): string | undefined {
  return isSea() ? join(dirname(process.execPath), '..', 'lib', 'latchkey', 'node_modules') : undefined;
}

/** File or asset that has a worker's program in one piece. */
export function bundledWorker(script: string): string {
  return basename(script).replace(/\.ts$/, '.cjs');
}
