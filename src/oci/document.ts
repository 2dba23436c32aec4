/**
 * A manifest or an index, told apart by media type. One document must not be readable as both, or two readers see two
 * images under one digest (CVE-2021-41190).
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_MANIFEST_BYTES, MAX_MEDIA_TYPE_CHARACTERS } from '#src/base/limits.ts';
import type { Descriptor } from './descriptor.ts';
import { digestOf } from './digest.ts';
import { mediaTypeSchema, parseDocument } from './document-schema.ts';
import { parseIndex, type ImageIndex } from './index.ts';
import { parseManifest, type ImageManifest } from './manifest.ts';
import { MEDIA_TYPE, isIndex, isManifest, isSchema1 } from './media-types.ts';

export type ImageDocument =
  | { readonly kind: 'manifest'; readonly mediaType: string; readonly manifest: ImageManifest }
  | { readonly kind: 'index'; readonly mediaType: string; readonly index: ImageIndex };

const outlineSchema = z.looseObject({
  schemaVersion: z.number().optional(),
  mediaType: mediaTypeSchema.optional(),
});

/**
 * Parses a manifest or index.
 * @param mediaType what the descriptor or the registry says the bytes are
 * @throws LatchkeyError INPUT_NOT_AN_IMAGE, INPUT_MALFORMED, INPUT_UNSUPPORTED, LIMIT_EXCEEDED
 */
export function parseImageDocument(bytes: Uint8Array, mediaType: string): ImageDocument {
  refuseSchema1(mediaType);
  if (!isIndex(mediaType) && !isManifest(mediaType)) {
    throw new LatchkeyError(
      'INPUT_NOT_AN_IMAGE',
      `not an image manifest or index: ${JSON.stringify(mediaType.slice(0, MAX_MEDIA_TYPE_CHARACTERS))}`,
    );
  }
  const stated = sniffMediaType(bytes);
  if (isIndex(stated) !== isIndex(mediaType)) {
    throw new LatchkeyError('INPUT_MALFORMED', `the document is ${stated} but is declared as ${mediaType}`);
  }
  if (isIndex(mediaType)) return { kind: 'index', mediaType, index: parseIndex(bytes) };
  return { kind: 'manifest', mediaType, manifest: parseManifest(bytes) };
}

/**
 * The media type of a manifest or index, from its own `mediaType` or, where writers left that out, from its fields.
 * @throws LatchkeyError INPUT_NOT_AN_IMAGE, INPUT_MALFORMED, INPUT_UNSUPPORTED, LIMIT_EXCEEDED
 */
export function sniffMediaType(bytes: Uint8Array): string {
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `the manifest is larger than ${MAX_MANIFEST_BYTES} bytes`);
  }
  const outline = parseDocument(outlineSchema, bytes, 'the image manifest');
  if (outline.schemaVersion === 1) refuseSchema1(MEDIA_TYPE.dockerSchema1);
  const hasManifests = 'manifests' in outline;
  const hasLayers = 'layers' in outline || 'config' in outline;
  if (hasManifests && hasLayers) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the document is both an image manifest and an image index');
  }
  if (!hasManifests && !hasLayers) {
    throw new LatchkeyError(
      'INPUT_NOT_AN_IMAGE',
      'the document is neither an image manifest nor an image index',
    );
  }
  const { mediaType } = outline;
  if (mediaType === undefined) return hasManifests ? MEDIA_TYPE.ociIndex : MEDIA_TYPE.ociManifest;
  refuseSchema1(mediaType);
  const isKnown = hasManifests ? isIndex(mediaType) : isManifest(mediaType);
  if (!isKnown) {
    throw new LatchkeyError('INPUT_MALFORMED', `the document's media type does not fit it: ${mediaType}`);
  }
  return mediaType;
}

/**
 * Writes a manifest or index that we made or changed; gives its bytes and their descriptor.
 * @param value with `mediaType` set, as the spec asks of new documents
 */
export function encodeImageDocument(value: (ImageManifest | ImageIndex) & { readonly mediaType: string }): {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
} {
  const bytes = Buffer.from(JSON.stringify(value));
  return {
    descriptor: { mediaType: value.mediaType, digest: digestOf(bytes), size: bytes.length },
    bytes,
  };
}

function refuseSchema1(mediaType: string): void {
  if (!isSchema1(mediaType)) return;
  throw new LatchkeyError('INPUT_UNSUPPORTED', 'the image has a Docker schema 1 manifest', {
    hint: 'push it again with a current Docker, or convert it with skopeo copy --format oci',
  });
}
