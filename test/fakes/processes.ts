/** Finds what a test has made somebody else start. */
import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Process ids that run a program. */
export async function processesOf(program: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const executable = await readlink(join('/proc', entry, 'exe')).catch(() => '');
    if (executable === program) found.push(Number(entry));
  }
  return found;
}
