/** Image indexes (OCI image spec, image-index.md) and Docker's manifest lists, which have the same shape. */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_INDEX_ENTRIES } from '#src/base/limits.ts';
import type { Descriptor } from './descriptor.ts';
import {
  annotationsSchema,
  descriptorListSchema,
  descriptorSchema,
  mediaTypeSchema,
  parseDocument,
} from './document-schema.ts';

/** Fields the spec does not name are kept on the value too, and survive `{ ...index, manifests }`. */
export interface ImageIndex {
  readonly schemaVersion: 2;
  readonly mediaType?: string | undefined;
  readonly artifactType?: string | undefined;
  /** Entries may lack a platform. */
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: mediaTypeSchema.optional(),
  artifactType: z.string().optional(),
  manifests: descriptorListSchema,
  subject: descriptorSchema.optional(),
  annotations: annotationsSchema.optional(),
});

/**
 * Parses an image index.
 * @param maxEntries more for lists of whole images, which are not read as one
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseIndex(bytes: Uint8Array, maxEntries = MAX_INDEX_ENTRIES): ImageIndex {
  const index = parseDocument(indexSchema, bytes, 'the image index');
  if (index.manifests.length > maxEntries) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the image index has ${index.manifests.length} entries, more than ${maxEntries}`,
    );
  }
  return index;
}
