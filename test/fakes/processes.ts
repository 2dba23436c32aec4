/** Finds what a test has made somebody else start. */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Process ids that run a program. In one go: on a machine with many a small layer's processor would have ended meanwhile. */
export function processesOf(program: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && executableOf(entry) === program)
    .map(Number);
}

function executableOf(entry: string): string {
  try {
    return readlinkSync(join('/proc', entry, 'exe'));
  } catch {
    return '';
  }
}
