/**
 * Where the signed statement of a release is: beside the image, as a manifest that names the image's root as its subject
 * (OCI image spec, manifest.md "Guidelines for Artifact Usage"), so that it goes where the image goes.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_ATTACHED_STATEMENTS, MAX_STATEMENT_ENVELOPE_BYTES } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { type ImageManifest, parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobDestination, BlobSource, ManifestBlob, TransferOptions } from '#src/store/blob-store.ts';
import { collectBytes } from '#src/store/verified-stream.ts';
import { RELEASE_PREDICATE_TYPE, STATEMENT_PAYLOAD_TYPE } from './statement.ts';

/** As cosign and the in-toto tools attach statements. */
export const STATEMENT_ARTIFACT_TYPE = STATEMENT_PAYLOAD_TYPE;
/** IANA's name of a DSSE envelope. */
export const ENVELOPE_MEDIA_TYPE = 'application/vnd.dsse.envelope.v1+json';
const PREDICATE_TYPE_ANNOTATION = 'in-toto.io/predicate-type';

/** OCI image spec, manifest.md "Guidance for an Empty Descriptor". */
const EMPTY_CONFIG = Buffer.from('{}');

/** The manifest that carries an envelope; the same for the same statement and image. */
export function statementManifest(root: Descriptor, envelope: Uint8Array): ManifestBlob {
  const { mediaType, digest, size } = root;
  return encodeImageDocument({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    artifactType: STATEMENT_ARTIFACT_TYPE,
    config: descriptorOf(MEDIA_TYPE.ociEmpty, EMPTY_CONFIG),
    layers: [descriptorOf(ENVELOPE_MEDIA_TYPE, envelope)],
    subject: { mediaType, digest, size },
    annotations: { [PREDICATE_TYPE_ANNOTATION]: RELEASE_PREDICATE_TYPE },
  });
}

/** Whether a manifest carries the statement of a release, by what it says of itself. */
export function isStatementManifest({ annotations }: Pick<ImageManifest, 'annotations'>): boolean {
  return annotations?.[PREDICATE_TYPE_ANNOTATION] === RELEASE_PREDICATE_TYPE;
}

/**
 * Attaches a statement to an image that is there already; doing it again changes nothing.
 * @param root the image's manifest or index
 * @returns the digest of the manifest that carries the statement
 * @throws LatchkeyError what the destination raises
 */
export async function attachStatement(
  destination: BlobDestination,
  root: Descriptor,
  envelope: Uint8Array,
  options: TransferOptions = {},
): Promise<Digest> {
  const { signal } = options;
  const blobs = [
    [descriptorOf(MEDIA_TYPE.ociEmpty, EMPTY_CONFIG), EMPTY_CONFIG],
    [descriptorOf(ENVELOPE_MEDIA_TYPE, envelope), envelope],
  ] as const;
  for (const [descriptor, bytes] of blobs) {
    if (await destination.hasBlob(descriptor, { signal })) continue;
    await destination.writeBlob(descriptor, () => once(bytes), { signal });
  }
  const manifest = statementManifest(root, envelope);
  await destination.writeManifest(manifest, undefined, { signal });
  return manifest.descriptor.digest;
}

/**
 * Attaches the statement of a release that is in force already: what fails now is repaired by a rerun.
 * @param done what has been done, for the message: `the image is pushed`
 * @throws LatchkeyError what the destination raises
 */
export async function attachReleaseStatement(
  destination: BlobDestination,
  root: Descriptor,
  envelope: Uint8Array,
  done: string,
  options: TransferOptions = {},
): Promise<Digest> {
  try {
    return await attachStatement(destination, root, envelope, options);
  } catch (error) {
    const { code, message } = toLatchkeyError(error);
    throw new LatchkeyError(
      code,
      `${done} and licensed nodes can run it, but its statement could not be attached: ${message}`,
      { hint: 'run the same command again, so that others can verify the image', cause: error },
    );
  }
}

/**
 * The envelopes attached to an image, in the order in which they are listed. Nothing in them has been checked: whoever
 * can push can attach. One that cannot be read stands in nobody's way.
 * @throws LatchkeyError LIMIT_EXCEEDED, and what listing raises
 */
export async function readAttachedStatements(
  source: BlobSource,
  root: Digest,
  options: TransferOptions = {},
): Promise<Uint8Array[]> {
  const referrers = await source.listReferrers(root, STATEMENT_ARTIFACT_TYPE, options);
  // Registries may leave annotations out of the list, so a statement of unknown kind is looked at too.
  const candidates = referrers.filter(({ annotations }) => {
    const predicateType = annotations?.[PREDICATE_TYPE_ANNOTATION];
    return predicateType === undefined || predicateType === RELEASE_PREDICATE_TYPE;
  });
  if (candidates.length > MAX_ATTACHED_STATEMENTS) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `${candidates.length} statements are attached to ${root}, more than ${MAX_ATTACHED_STATEMENTS}`,
      { hint: 'name the one that counts with --statement FILE' },
    );
  }
  const envelopes: Uint8Array[] = [];
  for (const { digest } of candidates) {
    const envelope = await readEnvelope(source, root, digest, options);
    if (envelope !== undefined) envelopes.push(envelope);
  }
  return envelopes;
}

async function readEnvelope(
  source: BlobSource,
  root: Digest,
  digest: Digest,
  options: TransferOptions,
): Promise<Uint8Array | undefined> {
  try {
    const { subject, layers } = parseManifest((await source.readManifest(digest, options)).bytes);
    const layer = layers.find(({ mediaType }) => mediaType === ENVELOPE_MEDIA_TYPE);
    if (subject?.digest !== root || layer === undefined) return undefined;
    return await collectBytes(source.openBlob(layer, options), layer, MAX_STATEMENT_ENVELOPE_BYTES);
  } catch (error) {
    if (error instanceof LatchkeyError && /^(?:INPUT|LIMIT|STATE_NOT_FOUND)/.test(error.code))
      return undefined;
    throw error;
  }
}

function descriptorOf(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
