/** How a node is gated: the modes an operator can choose from, and in plain words what each is worth. */

export const NODE_MODES = ['snapshotter', 'runtime-class', 'sweep', 'hook'] as const;

export type NodeMode = (typeof NODE_MODES)[number];

export const DEFAULT_NODE_MODE: NodeMode = 'snapshotter';

export interface ModeMeaning {
  readonly protects: string;
  readonly doesNotProtect: string;
}

/** For `node status` and the table of the operator's guide, which a test keeps the same. */
export const MODE_MEANINGS: Readonly<Record<NodeMode, ModeMeaning>> = {
  snapshotter: {
    protects:
      'every start of an encrypted image through containerd asks for a lease, and its plaintext is in memory only',
    doesNotProtect: 'against root on this machine while a licensed image runs',
  },
  'runtime-class': {
    protects:
      'as snapshotter, for pods of the latchkey runtime class; under any other class an encrypted image is refused',
    doesNotProtect: 'against root on this machine while a licensed image runs',
  },
  sweep: {
    protects:
      'the start that unpacks an encrypted image asks for a lease, and so does the next one after its last container is removed',
    doesNotProtect:
      'plaintext is on the disk while a container of the image exists, and further starts in that time ask nobody; afterwards it is unlinked, not erased',
  },
  hook: {
    protects: 'every start of an encrypted image that podman or CRI-O make with the hook asks for a lease',
    doesNotProtect:
      'plaintext is on the disk from the pull on, also after a revocation; a start without the hook asks nobody',
  },
};

/** True for the modes in which containerd keeps its snapshots with the agent. */
export function servesSnapshots(mode: NodeMode): boolean {
  return mode === 'snapshotter' || mode === 'runtime-class';
}
