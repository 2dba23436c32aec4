/** All of Latchkey in a few files, which the single executable carries; only native code stays outside. */
import { basename, join } from 'node:path';
import { type Metafile, build } from 'esbuild';
import { bundledWorker } from '#src/base/installation.ts';
import { PROGRAMS, WORKERS, programAsset } from './programs.ts';

export const ROOT = join(import.meta.dirname, '..', '..');

const MAIN = 'deploy/executable/main.ts';
const MAIN_FILE = 'main.cjs';
/** Native, so it is loaded from beside the executable (src/base/installation.ts). */
const NATIVE_PACKAGES = ['graphene-pk11'];

const EXTENSION = '.cjs';

export interface ExecutableBundle {
  readonly main: Uint8Array;
  /** Programs and worker threads: name of the asset -> its content. */
  readonly assets: ReadonlyMap<string, Uint8Array>;
  /** Every file that is in it, from the project's root, sorted. */
  readonly inputs: readonly string[];
}

export async function bundleExecutable(): Promise<ExecutableBundle> {
  const assets = new Map([
    ...WORKERS.map((source) => [bundledWorker(source), source] as const),
    ...Object.entries(PROGRAMS).map(([script, source]) => [programAsset(script), source] as const),
  ]);
  const sources = new Map([[MAIN_FILE, MAIN], ...assets]);
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: Object.fromEntries(
      [...sources].map(([file, source]) => [file.slice(0, -EXTENSION.length), source]),
    ),
    outdir: join(ROOT, 'dist', 'executable'),
    outExtension: { '.js': EXTENSION },
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    external: NATIVE_PACKAGES,
    define: { 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
    minifySyntax: true,
    minifyWhitespace: true,
    write: false,
    metafile: true,
    logLevel: 'warning',
  });
  const contents = new Map(outputFiles.map(({ path, contents }) => [basename(path), contents]));
  const content = (name: string): Uint8Array => {
    const bytes = contents.get(name);
    if (bytes === undefined) throw new TypeError(`the bundler made no ${name}`);
    return bytes;
  };
  return {
    main: content(MAIN_FILE),
    assets: new Map([...assets.keys()].map((file) => [file, content(file)])),
    inputs: inputsOf(metafile),
  };
}

function inputsOf(metafile: Metafile): string[] {
  return Object.keys(metafile.inputs).sort();
}
