/**
 * One file with Node and all of Latchkey in it (Node's single executable applications). The blob is made by this machine's
 * Node and written into a copy of the Node it shall run on, which is of the same version.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Script } from 'node:vm';
import type { ExecutableBundle } from './bundle.ts';
import { type Architecture, nodeBinary } from './node-binary.ts';
import { PROGRAMS, compiledAsset, programAsset, wrapProgram } from './programs.ts';

/** Marks the place in Node's executable that says that there is an application in it (Node's documentation, sea). */
const SENTINEL_FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
const RESOURCE_NAME = 'NODE_SEA_BLOB';
/** As stack traces show it. */
const MAIN_NAME = 'latchkey.cjs';

const run = promisify(execFile);

/** Builds the executable of an architecture at a path. */
export async function buildExecutable(
  bundle: ExecutableBundle,
  architecture: Architecture,
  path: string,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const directory = await mkdtemp(join(dirname(path), 'executable-'));
  try {
    const blob = await writeBlob(bundle, directory, architecture === process.arch);
    const program = join(directory, 'latchkey');
    await copyFile(await nodeBinary(architecture), program);
    await inject(program, blob);
    await rename(program, path);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** With paths from the directory, since they stand in the blob and in stack traces. Compiled code differs from build to build. */
async function writeBlob(
  bundle: ExecutableBundle,
  directory: string,
  useCodeCache: boolean,
): Promise<string> {
  await writeFile(join(directory, MAIN_NAME), bundle.main);
  const assets = new Map([...bundle.assets, ...(useCodeCache ? compiledPrograms(bundle) : [])]);
  for (const [name, content] of assets) await writeFile(join(directory, name), content);
  const configuration = {
    main: MAIN_NAME,
    output: 'blob',
    assets: Object.fromEntries([...assets.keys()].map((name) => [name, name])),
    // Compiled code is of use on the architecture only that has compiled it.
    useCodeCache,
    disableExperimentalSEAWarning: true,
  };
  await writeFile(join(directory, 'sea.json'), JSON.stringify(configuration));
  await run(process.execPath, ['--experimental-sea-config', 'sea.json'], { cwd: directory });
  return join(directory, configuration.output);
}

/** What V8 makes of the programs, so that it need not be made at each start. */
function compiledPrograms({ assets }: ExecutableBundle): [string, Uint8Array][] {
  return Object.keys(PROGRAMS).map((script) => {
    const name = programAsset(script);
    const source = Buffer.from(assets.get(name) ?? new Uint8Array()).toString();
    return [compiledAsset(script), new Script(wrapProgram(source), { filename: name }).createCachedData()];
  });
}

/** As a program: it takes half a gigabyte, which ends with it. */
async function inject(program: string, blob: string): Promise<void> {
  const postject = join(dirname(createRequire(import.meta.url).resolve('postject')), 'cli.js');
  await run(process.execPath, [postject, program, RESOURCE_NAME, blob, '--sentinel-fuse', SENTINEL_FUSE]);
}
