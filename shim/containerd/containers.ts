/** containerd's containers: who stands on a snapshot, and which image it says it is of. */
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';
import { isDigest, type Digest } from '#src/oci/digest.ts';
import type { Container } from '#src/wire/generated/containerd/containers.ts';
import type { ContainerdConnection } from './connection.ts';

/** Set by containerd's CRI plugin on what it makes; the value is `container` or `sandbox`. */
const CRI_KIND_LABEL = 'io.cri-containerd.kind';
/** Where the CRI plugin keeps what it knows of a container, as JSON (pkg/cri/store/container/metadata.go). */
const CRI_METADATA_EXTENSION = 'io.cri-containerd.container.metadata';

const criMetadataSchema = z.object({ Metadata: z.object({ ImageRef: z.string() }) });

export interface ContainerRecord {
  readonly id: string;
  /** Name of its image; empty when it was made without one. */
  readonly image: string;
  readonly isKubernetes: boolean;
  /** Config that Kubernetes made it from: the name may stand for something else since. */
  readonly config?: Digest | undefined;
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

function toRecord({ id, image, labels, extensions }: Container): ContainerRecord {
  const isKubernetes = labels[CRI_KIND_LABEL] !== undefined;
  const metadata = extensions[CRI_METADATA_EXTENSION]?.value;
  return { id, image, isKubernetes, config: metadata === undefined ? undefined : configOf(metadata) };
}

/** Kubernetes' name for an image is the digest of its config. */
function configOf(metadata: Uint8Array): Digest | undefined {
  const known = criMetadataSchema.safeParse(parseJson(metadata, 'what the CRI plugin knows of a container'));
  const image = known.data?.Metadata.ImageRef;
  return isDigest(image) ? image : undefined;
}
