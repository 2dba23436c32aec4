/** Which snapshots somebody stands on, as the kernel sees it: also when containerd cannot be asked. */
import type { MountEntry } from './mount-table.ts';

/**
 * Pure: the ids of snapshots of a store that are part of a mount outside of it.
 * @param directory of the store
 */
export function mountedSnapshots(mounts: readonly MountEntry[], directory: string): Set<number> {
  const inside = (path: string): boolean => path === directory || path.startsWith(`${directory}/`);
  const own = mounts.filter(({ mountPoint }) => inside(mountPoint));
  const ids = new Set<number>();
  for (const { device, root, mountPoint, fileSystem, options } of mounts) {
    if (inside(mountPoint)) continue;
    const paths = fileSystem === 'overlay' ? layerPaths(options) : [];
    // A bind mount shows the file system of the store, or of an image that is mounted in it.
    for (const origin of own.filter((candidate) => candidate.device === device)) {
      paths.push(root === '/' ? origin.mountPoint : `${origin.mountPoint}${root}`);
    }
    for (const path of paths.filter(inside)) {
      const id = Number.parseInt(path.slice(directory.length + 1), 10);
      if (!Number.isNaN(id)) ids.add(id);
    }
  }
  return ids;
}

function layerPaths(options: readonly string[]): string[] {
  return options.flatMap((option) => {
    const [, value] = /^(?:upperdir|lowerdir\+?)=(.*)$/.exec(option) ?? [];
    return value === undefined ? [] : value.split(':');
  });
}
