/** The files of Debian packages, unpacked from the archive without installing them. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';

const run = promisify(execFile);

/** Documentation has no place in an image layer. */
const LEFT_OUT = ['usr/share/doc', 'usr/share/man', 'usr/share/lintian', 'usr/share/locale'];

/**
 * Unpacks packages into a directory.
 * @param cacheDirectory keeps the downloaded packages for the next time
 * @throws LatchkeyError NET_UNREACHABLE when a package is neither cached nor to be had
 */
export async function unpackDebianPackages(
  packages: readonly string[],
  cacheDirectory: string,
  directory: string,
): Promise<void> {
  await mkdir(cacheDirectory, { recursive: true });
  await mkdir(directory, { recursive: true });
  for (const name of packages) {
    const file = (await cached(cacheDirectory, name)) ?? (await download(cacheDirectory, name));
    await run('dpkg-deb', ['--extract', file, directory]);
  }
  for (const path of LEFT_OUT) await rm(join(directory, path), { recursive: true, force: true });
}

async function cached(cacheDirectory: string, name: string): Promise<string | undefined> {
  const file = (await readdir(cacheDirectory)).find((entry) => entry.startsWith(`${name}_`));
  return file === undefined ? undefined : join(cacheDirectory, file);
}

async function download(cacheDirectory: string, name: string): Promise<string> {
  // A directory of its own, so that a broken download is never taken for the package.
  const temporary = await mkdtemp(join(cacheDirectory, 'download-'));
  try {
    await run('apt-get', ['download', name], { cwd: temporary });
    const [file] = await readdir(temporary);
    if (file === undefined) throw new Error('apt-get gave no file');
    await run('mv', [join(temporary, file), cacheDirectory]);
    return join(cacheDirectory, file);
  } catch (error) {
    throw new LatchkeyError('NET_UNREACHABLE', `the Debian package ${name} could not be downloaded`, {
      hint: "run 'apt-get update' and try again",
      cause: error,
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
