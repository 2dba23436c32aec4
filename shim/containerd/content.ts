/** containerd's content store: where manifests, configs and the encrypted layers are. */
import { status as grpcStatus } from '@grpc/grpc-js';
import { LatchkeyError } from '#src/base/errors.ts';
import { type Digest, digestOf, isDigest } from '#src/oci/digest.ts';
import type { Info } from '#src/wire/generated/containerd/content.ts';
import { type ContainerdConnection, answeredStatus } from './connection.ts';

/** containerd labels a manifest with its config when it has learnt its children (images/handlers.go). */
const MANIFEST_FILTER = 'labels."containerd.io/gc.ref.content.config"';

export interface StoredBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** Every image manifest in a namespace. */
export async function listManifests(
  containerd: ContainerdConnection,
  namespace: string,
): Promise<StoredBlob[]> {
  const { content } = containerd.clients;
  const stream = content.list({ filters: [MANIFEST_FILTER] }, containerd.inNamespace(namespace));
  const blobs: StoredBlob[] = [];
  try {
    for await (const { info } of stream as AsyncIterable<{ info: Info[] }>) {
      for (const { digest, size } of info) {
        if (isDigest(digest)) blobs.push({ digest, sizeBytes: size });
      }
    }
  } catch (error) {
    throw containerd.explain(error);
  }
  return blobs;
}

/**
 * Reads a whole blob and checks it.
 * @throws LatchkeyError LIMIT_EXCEEDED, INPUT_DIGEST_MISMATCH, STATE_NOT_FOUND
 */
export async function readBlob(
  containerd: ContainerdConnection,
  namespace: string,
  digest: Digest,
  maxBytes: number,
): Promise<Buffer> {
  const bytes = await readRange(containerd, namespace, digest, maxBytes + 1);
  if (bytes.length > maxBytes)
    throw new LatchkeyError('LIMIT_EXCEEDED', `${digest} is larger than ${maxBytes} bytes`);
  if (digestOf(bytes) !== digest) {
    throw new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `containerd's content does not match its digest ${digest}`,
    );
  }
  return bytes;
}

/** Reads at most `maxBytes` of a blob. @param offset where to begin */
export async function readRange(
  containerd: ContainerdConnection,
  namespace: string,
  digest: Digest,
  maxBytes: number,
  offset = 0,
): Promise<Buffer> {
  const { content } = containerd.clients;
  // Of a smaller blob containerd gives what there is; without a size it begins to send all of a large one.
  const request = { digest, offset, size: maxBytes };
  const stream = content.read(request, containerd.inNamespace(namespace));
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const { data } of stream as AsyncIterable<{ data: Buffer }>) {
      chunks.push(data);
      length += data.length;
      if (length >= maxBytes) break;
    }
  } catch (error) {
    throw containerd.explain(error);
  } finally {
    stream.cancel();
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

/** True while containerd has the blob. */
export async function hasBlob(
  containerd: ContainerdConnection,
  namespace: string,
  digest: Digest,
): Promise<boolean> {
  return (await blobLabels(containerd, namespace, digest)) !== undefined;
}

/** Labels of a blob; undefined when containerd has not got it. */
export async function blobLabels(
  containerd: ContainerdConnection,
  namespace: string,
  digest: Digest,
): Promise<Readonly<Record<string, string>> | undefined> {
  const { content } = containerd.clients;
  try {
    const { info } = await containerd.call(content.info.bind(content), { digest }, namespace);
    return info?.labels ?? {};
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** True for an error of a call that found nothing. */
export function isNotFound(error: unknown): boolean {
  return answeredStatus(error) === grpcStatus.NOT_FOUND;
}
