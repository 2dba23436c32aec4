/** Registers a release that another tool has encrypted with one of our image keys. */
import { realpath, rm } from 'node:fs/promises';
import { LatchkeyError } from '#src/base/errors.ts';
import { describeGraph } from '#src/image/describe-image.ts';
import { type ImageGraph, platformImages, platformName, readImageGraph } from '#src/image/image-graph.ts';
import { attachReleaseStatement } from '#src/image/statement-referrer.ts';
import { statementEnvelope } from '#src/image/statement.ts';
import { unwrapLayerKey } from '#src/keywrap/annotations.ts';
import { createLatchkeyUnwrapper } from '#src/keywrap/latchkey.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { isEncrypted } from '#src/oci/media-types.ts';
import type { BlobDestination, BlobSource } from '#src/store/blob-store.ts';
import type { SignedRelease } from '#src/wire/admin/release.ts';
import type { AdminClient } from './admin-client.ts';
import { type ImageKeyFile, readImageKeyFile } from './image-key-file.ts';

export interface Registration {
  readonly store: BlobSource;
  /** The same place, when the signed statement can be attached there. */
  readonly destination: BlobDestination | undefined;
  /** Tag or digest in the store. */
  readonly reference: string | undefined;
  /** As the key server lists it; without it, the digest of the image. */
  readonly version: string | undefined;
  /** How the key server lists the image. */
  readonly repository: string;
  readonly imageKeyPath: string;
  /** Features that a license must hold to run it. */
  readonly entitlementCodes: readonly string[];
  /** False removes the file once the key server has the key. */
  readonly isKept: boolean;
  readonly signal: AbortSignal;
}

/**
 * Registers an image with the key server, after a look whether nodes will be able to open it, and attaches the
 * signed statement. Repeating it is harmless.
 * @throws LatchkeyError INPUT_UNSUPPORTED when a layer is not encrypted with the image key, and what the server says
 */
export async function registerFromFile(
  client: AdminClient,
  registration: Registration,
): Promise<SignedRelease> {
  const { store, reference, version, imageKeyPath, isKept, repository, signal } = registration;
  const imageKey = await readImageKeyFile(imageKeyPath);
  const graph = await readImageGraph(store, reference, { signal });
  await requireOpenable(graph, imageKey);
  const description = describeGraph(graph);
  const { imageKeyId, sealedImageKey, productCode, owner } = imageKey;
  const { organizationId } = owner;
  const statement = statementEnvelope({ ...description, productCode, organizationId, imageKeyId });
  const registered = await client.registerRelease({
    productCode,
    repository,
    version: version ?? description.root.digest,
    imageDigests: [...description.manifests],
    imageKeyId,
    sealedImageKey,
    statement: Buffer.from(statement).toString(),
    entitlementCodes: [...registration.entitlementCodes],
  });
  // The same command again would need the file, so it stays until all is done.
  await attach(registration, graph.root.descriptor, registered.statement);
  // Through a link it is the key that goes, not the link.
  if (!isKept) await rm(await realpath(imageKeyPath), { force: true });
  return registered;
}

async function attach(
  { destination, signal }: Registration,
  root: Descriptor,
  statement: string | null,
): Promise<void> {
  if (destination === undefined || statement === null) return;
  const envelope = Buffer.from(statement);
  await attachReleaseStatement(destination, root, envelope, 'the release is registered', { signal });
}

/** Every encrypted layer must open with this key: a node has no other for it. */
async function requireOpenable(graph: ImageGraph, imageKey: ImageKeyFile): Promise<void> {
  const unwrapper = createLatchkeyUnwrapper(imageKey.imageKeyId, imageKey.imageKey);
  for (const image of platformImages(graph)) {
    const encrypted = image.manifest.layers.filter(({ mediaType }) => isEncrypted(mediaType));
    if (encrypted.length === 0) throw notEncrypted(`the image for ${platformName(image)} is not encrypted`);
    for (const { digest, annotations } of encrypted) {
      if ((await unwrapLayerKey(annotations, [unwrapper])) !== null) continue;
      throw notEncrypted(`layer ${digest} is not encrypted with image key ${imageKey.imageKeyId}`);
    }
  }
}

function notEncrypted(reason: string): LatchkeyError {
  return new LatchkeyError('INPUT_UNSUPPORTED', reason, {
    hint: 'encrypt it with --encryption-key provider:latchkey:image-key=FILE, all platforms with the same FILE',
  });
}
