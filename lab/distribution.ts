/** What is handed out, built once for all who test it. */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Architecture } from '../deploy/executable/node-binary.ts';

const ROOT = join(import.meta.dirname, '..');

/**
 * The directory with the distribution of one architecture, as `npm run package` writes it. Built when sources have
 * changed; who comes meanwhile waits.
 * @throws what the build said on stderr, as when Node for the architecture is not to be had
 */
export async function builtDistribution(architecture: Architecture): Promise<string> {
  const directory = join(ROOT, '.cache', `distribution-${architecture}`);
  await mkdir(directory, { recursive: true });
  const build = [process.execPath, join(ROOT, 'scripts', 'package.ts'), '--quick', '--directory', directory];
  await promisify(execFile)('flock', [join(directory, 'lock'), ...build, '--architecture', architecture]);
  return directory;
}
