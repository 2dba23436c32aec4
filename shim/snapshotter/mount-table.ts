/** What is mounted where, from the kernel's list (proc(5), mountinfo). */
import { execFile } from 'node:child_process';
import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface MountEntry {
  /** The directory of the file system that is mounted; `/` unless it is a bind mount. */
  readonly root: string;
  readonly mountPoint: string;
  /** Of the device, as `major:minor`. */
  readonly device: string;
  readonly fileSystem: string;
  readonly source: string;
  /** Options of the mount and of its file system. */
  readonly options: readonly string[];
}

/** Pure: the entries of a mountinfo file, in the order in which they were mounted. */
export function parseMountInfo(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [own = '', superblock = ''] = line.split(' - ');
    const [, , device, root, mountPoint, options] = own.split(' ');
    const [fileSystem, source, superOptions = ''] = superblock.split(' ');
    if (device === undefined || root === undefined || mountPoint === undefined || options === undefined)
      return [];
    if (fileSystem === undefined || source === undefined) return [];
    return [
      {
        root: unescaped(root),
        mountPoint: unescaped(mountPoint),
        device,
        fileSystem,
        source: unescaped(source),
        options: [...options.split(','), ...superOptions.split(',')].map(unescaped),
      },
    ];
  });
}

/** Spaces and the like are written in octal. */
function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

export async function readMounts(): Promise<MountEntry[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** What is mounted at a directory, the topmost; undefined for an ordinary one. Works on one that no longer answers. */
export async function mountAt(directory: string): Promise<MountEntry | undefined> {
  // Not of the directory itself: behind a FUSE mount whose program has died no path can be resolved.
  const above = await realpath(dirname(directory)).catch(() => undefined);
  if (above === undefined) return undefined;
  const path = await realpath(directory).catch(() => join(above, basename(directory)));
  return (await readMounts()).findLast(({ mountPoint }) => mountPoint === path);
}

/** Unmounts all that is mounted at a directory; what is in use stays for its users until the last one ends. */
export async function unmountAll(directory: string): Promise<void> {
  for (let mount = await mountAt(directory); mount !== undefined; mount = await mountAt(directory)) {
    await run('umount', ['--lazy', mount.mountPoint]);
  }
}
