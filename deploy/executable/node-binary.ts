/** Node itself for an architecture: from node_modules, or the package that the lock file pins, checked against it. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { ROOT } from './bundle.ts';

export const ARCHITECTURES = ['x64', 'arm64'] as const;
/** By the names that Node gives them. */
export type Architecture = (typeof ARCHITECTURES)[number];

const CACHE = join(ROOT, '.cache', 'node-binaries');

const run = promisify(execFile);

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.looseObject({ version: z.string().optional(), integrity: z.string().optional() }),
  ),
});

/**
 * The path of Node's executable for an architecture; of another than this machine's it is fetched once.
 * @throws LatchkeyError NET_UNREACHABLE when it is not to be had, CRYPTO_AUTHENTICATION_FAILED when it is another one
 */
export async function nodeBinary(architecture: Architecture): Promise<string> {
  const name = `node-linux-${architecture}`;
  const installed = join(ROOT, 'node_modules', name, 'bin', 'node');
  if (existsSync(installed)) return installed;
  const { packages } = lockSchema.parse(JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')));
  const { version, integrity } = packages[`node_modules/${name}`] ?? {};
  if (version === undefined || integrity === undefined)
    throw new TypeError(`the lock file does not name ${name}`);
  const directory = join(CACHE, `${name}-${version}`);
  if (!existsSync(directory)) await fetchPackage(name, version, integrity, directory);
  return join(directory, 'package', 'bin', 'node');
}

async function fetchPackage(
  name: string,
  version: string,
  integrity: string,
  directory: string,
): Promise<void> {
  await mkdir(CACHE, { recursive: true });
  const temporary = await mkdtemp(join(CACHE, 'download-'));
  try {
    await run('npm', ['pack', '--silent', `${name}@${version}`, '--pack-destination', temporary]).catch(
      (error: unknown) => {
        throw new LatchkeyError('NET_UNREACHABLE', `the npm package ${name} could not be downloaded`, {
          hint: 'try again with a network',
          cause: error,
        });
      },
    );
    const archive = join(temporary, `${name}-${version}.tgz`);
    const actual = `sha512-${createHash('sha512')
      .update(await readFile(archive))
      .digest('base64')}`;
    if (actual !== integrity) {
      throw new LatchkeyError(
        'CRYPTO_AUTHENTICATION_FAILED',
        `${name}@${version} is not what the lock file pins`,
      );
    }
    await run('tar', ['--extract', '--gzip', '--file', archive, '--directory', temporary]);
    await rm(archive);
    await rename(temporary, directory);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
