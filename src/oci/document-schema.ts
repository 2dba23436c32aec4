/**
 * What all OCI JSON documents share: strict JSON, descriptors, and errors that name the field. Unknown fields are
 * kept, so that a rewritten document says everything its source said.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_ANNOTATION_BYTES, MAX_MEDIA_TYPE_CHARACTERS } from '#src/base/limits.ts';
import { isDigest, type Digest } from './digest.ts';

export const digestSchema = z.custom<Digest>(isDigest, 'not a sha256 digest');

export const mediaTypeSchema = z.string().min(1).max(MAX_MEDIA_TYPE_CHARACTERS);

/** Bytes, not characters, are bounded: an annotation goes on the wire as UTF-8. */
const annotationValueSchema = z
  .string()
  .refine((value) => Buffer.byteLength(value) <= MAX_ANNOTATION_BYTES, 'annotation value too long');

export const annotationsSchema = z.record(z.string(), annotationValueSchema);

const platformSchema = z.looseObject({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
  'os.version': z.string().optional(),
  'os.features': z.array(z.string()).optional(),
});

export const descriptorSchema = z.looseObject({
  mediaType: mediaTypeSchema,
  digest: digestSchema,
  size: z.int().min(0),
  annotations: annotationsSchema.optional(),
  platform: platformSchema.optional(),
  urls: z.array(z.string()).optional(),
  artifactType: z.string().optional(),
  data: z.string().optional(),
});

/** Go writes an empty list as null. */
export const descriptorListSchema = z
  .array(descriptorSchema)
  .nullable()
  .transform((list) => list ?? []);

/** Names of fields come from outside, and a message is for a person: this much of them is shown. */
const MAX_SHOWN_CHARACTERS = 200;

/**
 * Parses a JSON document of a known shape.
 * @param bytes UTF-8
 * @param what what the document is, for the message
 * @throws LatchkeyError INPUT_MALFORMED, naming the field
 */
export function parseDocument<Schema extends z.ZodType>(
  schema: Schema,
  bytes: Uint8Array,
  what: string,
): z.output<Schema> {
  return checkDocument(schema, parseJson(bytes, what), what);
}

/**
 * Checks a value that is JSON already; raises what {@link parseDocument} raises.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function checkDocument<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  what: string,
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field =
    issue === undefined || issue.path.length === 0
      ? ''
      : ` at ${issue.path.join('.').slice(0, MAX_SHOWN_CHARACTERS)}`;
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    `${what} is malformed${field}: ${(issue?.message ?? 'unreadable').slice(0, MAX_SHOWN_CHARACTERS)}`,
  );
}
