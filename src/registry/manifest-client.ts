/** Manifests of a repository (distribution spec, "Pulling manifests" and "Pushing Manifests"). */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import { digestOf, isDigest, type Digest } from '#src/oci/digest.ts';
import { sniffMediaType } from '#src/oci/document.ts';
import { MEDIA_TYPE, isIndex, isManifest, isSchema1, isUnknownDocument } from '#src/oci/media-types.ts';
import type { ManifestBlob, ReadManifestOptions } from '#src/store/blob-store.ts';
import { BROKEN_RECORD } from './registry-error.ts';
import type { Repository } from './repository.ts';

const ACCEPT = [
  MEDIA_TYPE.ociIndex,
  MEDIA_TYPE.ociManifest,
  MEDIA_TYPE.dockerManifestList,
  MEDIA_TYPE.dockerManifest,
].join(', ');

/**
 * Reads a manifest or index.
 * @param reference tag or digest
 * @throws LatchkeyError STATE_NOT_FOUND, INPUT_DIGEST_MISMATCH, INPUT_NOT_AN_IMAGE, INPUT_UNSUPPORTED, LIMIT_EXCEEDED, NET_*
 */
export async function getManifest(
  repository: Repository,
  reference: string,
  { signal, mediaType }: ReadManifestOptions = {},
): Promise<ManifestBlob> {
  const isUnknown = isUnknownDocument(mediaType);
  const response = await repository.send(
    {
      method: 'GET',
      url: repository.url(`manifests/${reference}`),
      headers: { accept: isUnknown ? mediaType : ACCEPT },
      answer: MAX_MANIFEST_BYTES,
      signal,
    },
    [200],
    `read the manifest ${JSON.stringify(reference)} of`,
  );
  const { bytes } = response;
  const digest = digestOf(bytes);
  const stated = isDigest(reference) ? reference : response.headers.get('docker-content-digest');
  // A digest in another algorithm than ours cannot be compared; then the tag is all there is to go by.
  if (isDigest(stated) && stated !== digest) {
    throw new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `${repository.location}: the manifest ${stated} does not have that digest`,
      { hint: 'the registry or something on the way changed it; do not use the image' },
    );
  }
  const type = isUnknown ? mediaType : mediaTypeOf(response.headers, bytes);
  return { descriptor: { mediaType: type, digest, size: bytes.length }, bytes };
}

/**
 * True when the repository has this manifest, under the tag when one is given. A registry that does not say which
 * manifest a tag names counts as having another one.
 * @throws LatchkeyError NET_*
 */
export async function hasManifest(
  repository: Repository,
  digest: Digest,
  tag: string | undefined,
  signal?: AbortSignal,
): Promise<boolean> {
  const response = await repository.send(
    {
      method: 'HEAD',
      url: repository.url(`manifests/${tag ?? digest}`),
      headers: { accept: ACCEPT },
      scopes: [repository.pushScope],
      signal,
    },
    [200, 404, BROKEN_RECORD],
    `look for the manifest ${JSON.stringify(tag ?? digest)} of`,
  );
  const stated = response.headers.get('docker-content-digest');
  return response.status === 200 && (stated === digest || (stated === null && tag === undefined));
}

/**
 * Stores a manifest under a tag, or without one under its digest.
 * @returns whether the registry lists it as a referrer of its subject by itself (`OCI-Subject`)
 * @throws LatchkeyError INPUT_DIGEST_MISMATCH when the registry stored something else, NET_*
 */
export async function putManifest(
  repository: Repository,
  manifest: ManifestBlob,
  tag: string | undefined,
  signal?: AbortSignal,
): Promise<{ readonly listsReferrer: boolean }> {
  const { descriptor, bytes } = manifest;
  const response = await repository.send(
    {
      method: 'PUT',
      url: repository.url(`manifests/${tag ?? descriptor.digest}`),
      headers: { 'content-type': descriptor.mediaType },
      body: () => bytes,
      scopes: [repository.pushScope],
      signal,
    },
    [200, 201, 202],
    'push the manifest to',
  );
  const stored = response.headers.get('docker-content-digest');
  if (isDigest(stored) && stored !== descriptor.digest) {
    throw new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `${repository.location} stored the manifest ${descriptor.digest} as ${stored}`,
      { hint: 'the registry changes what it is given; use another one' },
    );
  }
  return { listsReferrer: response.headers.has('oci-subject') };
}

/** Registries that do not know a type answer with a general one; then the document itself says what it is. */
function mediaTypeOf(headers: Headers, bytes: Uint8Array): string {
  const stated = headers.get('content-type')?.split(';')[0]?.trim() ?? '';
  if (isIndex(stated) || isManifest(stated) || isSchema1(stated)) return stated;
  return sniffMediaType(bytes);
}
