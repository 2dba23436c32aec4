/** Containers that stand on files of the agent, read from the kernel's list of mounts: it knows them without the agent. */

export interface StandingContainer {
  /** Of containerd; empty for a mount that is not a container's. */
  readonly namespace: string;
  readonly id: string;
  /** True when it writes into the plaintext store, as every container of an encrypted image does. */
  readonly isGated: boolean;
}

/**
 * @param mounts text of /proc/self/mounts (proc_mounts(5))
 * @param directories of the agent: the plaintext store, and the snapshots that are not secret
 */
export function standingContainers(
  mounts: string,
  directories: { readonly memory: string; readonly disk: string },
): StandingContainer[] {
  return mounts.split('\n').flatMap((line) => {
    const [, point = '', type, options = ''] = line.split(' ');
    if (type !== 'overlay') return [];
    const isBelow = (directory: string) =>
      options.split(/[,:=]/).some((part) => part.startsWith(`${directory}/`));
    const isGated = isBelow(directories.memory);
    if (!isGated && !isBelow(directories.disk)) return [];
    // A shim mounts a container at STATE/io.containerd.runtime.v2.task/NAMESPACE/ID/rootfs.
    const [, namespace = '', id = point] = /\/([^/]+)\/([^/]+)\/rootfs$/.exec(point) ?? [];
    return [{ namespace, id, isGated }];
  });
}
