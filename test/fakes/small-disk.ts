/** A disk that is soon full: a tmpfs of its own. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SmallDisk {
  readonly directory: string;
  /** Makes room. */
  grow(size: string): void;
  remove(): void;
}

/** @returns undefined where this user may not mount one */
export function mountSmallDisk(size: string): SmallDisk | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'latchkey-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory], { stdio: 'ignore' });
  } catch {
    rmSync(directory, { recursive: true });
    return undefined;
  }
  return {
    directory,
    grow: (larger) => execFileSync('mount', ['-o', `remount,size=${larger}`, directory]),
    remove: () => {
      execFileSync('umount', ['--lazy', directory]);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
