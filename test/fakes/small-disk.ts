/** A disk that is soon full: a tmpfs of its own. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SmallDisk {
  readonly directory: string;
  /** Makes room. */
  grow(size: string): void;
  /** Takes the room that is left, but for some bytes, with a file of that name. */
  fill(name: string, leftBytes?: number): Promise<void>;
  remove(): void;
}

/**
 * @param directory where; one of its own unless given
 * @returns undefined where this user may not mount one
 */
export function mountSmallDisk(
  size: string,
  directory = mkdtempSync(join(tmpdir(), 'latchkey-disk-')),
): SmallDisk | undefined {
  mkdirSync(directory, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory], { stdio: 'ignore' });
  } catch {
    rmSync(directory, { recursive: true });
    return undefined;
  }
  return {
    directory,
    grow: (larger) => execFileSync('mount', ['-o', `remount,size=${larger}`, directory]),
    fill: async (name, leftBytes = 0) => {
      const { bavail, bsize } = await statfs(directory);
      const file = await open(join(directory, name), 'w');
      const chunk = Buffer.alloc(64 * 1024);
      for (let left = bavail * bsize - leftBytes; left > 0; left -= chunk.length)
        await file.write(chunk, 0, Math.min(chunk.length, left));
      await file.close();
    },
    remove: () => {
      execFileSync('umount', ['--lazy', directory]);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
