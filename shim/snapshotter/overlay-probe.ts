/** Whether overlayfs can write into a directory: kernels differ in whether they take one on FUSE. */
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { unmountAll } from './mount-table.ts';

const run = promisify(execFile);

/** Mounts a small overlay with its upper directory there, and changes and removes a file through it. */
export async function overlayCanWrite(directory: string): Promise<boolean> {
  const probe = join(directory, 'overlay-probe');
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) =>
    join(probe, name),
  ) as [string, string, string, string];
  try {
    await unmountAll(merged);
    await rm(probe, { recursive: true, force: true });
    for (const path of [lower, upper, work, merged]) await mkdir(path, { recursive: true });
    await writeFile(join(lower, 'changed'), 'before');
    await writeFile(join(lower, 'removed'), 'before');
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    await run('mount', ['-t', 'overlay', '-o', options, 'overlay', merged]);
    await writeFile(join(merged, 'changed'), 'after');
    await rm(join(merged, 'removed'));
    return true;
  } catch {
    return false;
  } finally {
    await unmountAll(merged);
    await rm(probe, { recursive: true, force: true });
  }
}
