/** Has containerd unpack a layer once more from its blob, and keeps that blob from being collected. */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import type { ContainerdConnection } from './connection.ts';
import { hasBlob } from './content.ts';

/** containerd's garbage collector follows labels with this prefix (docs/garbage-collection.md). */
const KEEP_BLOB_LABEL = 'containerd.io/gc.ref.content.latchkey';
/** A 10 GiB layer at 50 MiB/s; containerd itself sets no limit. */
const APPLY_TIMEOUT_MS = 10 * 60_000;

export interface LayerBlob {
  readonly namespace: string;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly diffId: Digest;
}

/**
 * Diff.Apply of the layer onto the mounts, through the stream processor when it is encrypted.
 * @param capacitySetting says how much fits where the mounts are, for the message when there is no room
 * @throws LatchkeyError STATE_NOT_FOUND when the blob is gone, INPUT_DIGEST_MISMATCH for other content
 */
export async function applyLayer(
  containerd: ContainerdConnection,
  layer: LayerBlob,
  mounts: readonly Mount[],
  capacitySetting: string,
): Promise<void> {
  if (!(await hasBlob(containerd, layer.namespace, layer.digest))) {
    throw new LatchkeyError(
      'STATE_NOT_FOUND',
      `the encrypted layer ${layer.digest} is no longer on this node`,
      {
        hint: 'pull the image again',
      },
    );
  }
  const { diff } = containerd.clients;
  const descriptor = {
    mediaType: layer.mediaType,
    digest: layer.digest,
    size: layer.sizeBytes,
    annotations: {},
  };
  const request = { diff: descriptor, mounts: [...mounts], payloads: {} };
  const { applied } = await containerd
    .call(diff.apply.bind(diff), request, layer.namespace, { deadline: Date.now() + APPLY_TIMEOUT_MS })
    .catch((error: unknown) => {
      throw explainFailedApply(layer, toLatchkeyError(error), capacitySetting);
    });
  if (applied?.digest !== layer.diffId) {
    throw new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `layer ${layer.digest} does not unpack to ${layer.diffId}`,
    );
  }
}

/** Pure. */
export function explainFailedApply(
  layer: Pick<LayerBlob, 'digest'>,
  error: LatchkeyError,
  capacitySetting: string,
): LatchkeyError {
  const text = error.cause instanceof Error ? error.cause.message : error.message;
  if (text.includes('no space left on device')) {
    return new LatchkeyError('STORAGE_FULL', `the plaintext store is too small for layer ${layer.digest}`, {
      hint: `raise ${capacitySetting} in the configuration of the agent, or stop other containers`,
      cause: error,
    });
  }
  if (error.code !== 'BUG_UNEXPECTED') return error;
  return new LatchkeyError('STORAGE_FAILED', `containerd could not unpack layer ${layer.digest}: ${text}`, {
    cause: error,
  });
}

/** Ties the blob's life to the snapshot's: collected together, never before. */
export async function keepLayerBlob(
  containerd: ContainerdConnection,
  snapshotter: string,
  namespace: string,
  chainId: string,
  digest: Digest,
): Promise<void> {
  const { snapshots } = containerd.clients;
  const info = {
    name: chainId,
    parent: '',
    kind: 0,
    createdAt: undefined,
    updatedAt: undefined,
    labels: { [KEEP_BLOB_LABEL]: digest },
  } as const;
  const updateMask = [`labels.${KEEP_BLOB_LABEL}`];
  await containerd.call(snapshots.update.bind(snapshots), { snapshotter, info, updateMask }, namespace);
}

/** True when `keepLayerBlob` has been done for a snapshot. */
export function keepsBlob(labels: Readonly<Record<string, string>>): boolean {
  return labels[KEEP_BLOB_LABEL] !== undefined;
}
