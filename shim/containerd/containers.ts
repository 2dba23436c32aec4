/** containerd's containers: who stands on a snapshot, and which image it says it is of. */
import type { Container } from '#src/wire/generated/containerd/containers.ts';
import type { ContainerdConnection } from './connection.ts';

/** Set by containerd's CRI plugin on what it makes; the value is `container` or `sandbox`. */
const CRI_KIND_LABEL = 'io.cri-containerd.kind';

export interface ContainerRecord {
  readonly id: string;
  /** Name of its image; empty when it was made without one. */
  readonly image: string;
  readonly isKubernetes: boolean;
}

/** The containers of a namespace whose root filesystem is a snapshot of ours. */
export async function containersOn(
  containerd: ContainerdConnection,
  namespace: string,
  snapshotter: string,
  snapshotKey: string,
): Promise<ContainerRecord[]> {
  const { containers } = containerd.clients;
  const answer = await containerd.call(containers.list.bind(containers), { filters: [] }, namespace);
  return answer.containers
    .filter((container) => container.snapshotter === snapshotter && container.snapshotKey === snapshotKey)
    .map(toRecord);
}

function toRecord({ id, image, labels }: Container): ContainerRecord {
  return { id, image, isKubernetes: labels[CRI_KIND_LABEL] !== undefined };
}
