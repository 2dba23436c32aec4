/** Image manifests (OCI image spec, manifest.md) and Docker's schema 2 manifests, which have the same shape. */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LAYERS } from '#src/base/limits.ts';
import type { Descriptor } from './descriptor.ts';
import {
  annotationsSchema,
  descriptorListSchema,
  descriptorSchema,
  mediaTypeSchema,
  parseDocument,
} from './document-schema.ts';

/** Fields the spec does not name are kept on the value too, and survive `{ ...manifest, layers }`. */
export interface ImageManifest {
  readonly schemaVersion: 2;
  /** As the document says it; older writers leave it out, so ask the descriptor first. */
  readonly mediaType?: string | undefined;
  readonly artifactType?: string | undefined;
  readonly config: Descriptor;
  /** From the base up. */
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

const manifestSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: mediaTypeSchema.optional(),
  artifactType: z.string().optional(),
  config: descriptorSchema,
  layers: descriptorListSchema,
  subject: descriptorSchema.optional(),
  annotations: annotationsSchema.optional(),
});

/**
 * Parses an image manifest.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseManifest(bytes: Uint8Array): ImageManifest {
  const manifest = parseDocument(manifestSchema, bytes, 'the image manifest');
  if (manifest.layers.length > MAX_LAYERS) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the image has ${manifest.layers.length} layers, more than ${MAX_LAYERS}`,
    );
  }
  return manifest;
}
