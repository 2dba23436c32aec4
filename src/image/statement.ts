/**
 * What a release is, as a signed statement (in-toto Statement v1 in a DSSE envelope): every manifest of it, and for each
 * platform the config and the layers in order, with what they are encrypted under. Neither OCI nor ocicrypt binds a layer
 * to its place in an image; this does. Pure.
 */
import type { KeyObject } from 'node:crypto';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { canonicalJson } from '#src/base/json.ts';
import { MAX_GRAPH_MANIFESTS, MAX_LAYERS, MAX_STATEMENT_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import {
  encodeDsseEnvelope,
  parseDsseEnvelope,
  signDsseEnvelope,
  verifyDsseEnvelope,
} from '#src/crypto/dsse.ts';
import { type Digest, digestHex, isDigest } from '#src/oci/digest.ts';
import { digestSchema, parseDocument } from '#src/oci/document-schema.ts';
import { type Platform, formatPlatform } from '#src/oci/platform.ts';

/** in-toto attestation framework, spec/v1/envelope.md. */
export const STATEMENT_PAYLOAD_TYPE = 'application/vnd.in-toto+json';
/** in-toto attestation framework, spec/v1/statement.md. */
const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const RELEASE_PREDICATE_TYPE = 'urn:latchkey:release:v1';

export interface StatementLayer {
  readonly mediaType: string;
  /** Of the blob as it is in the registry: ciphertext for an encrypted layer. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Of the unpacked layer; none for one that the config does not count, which has no files. */
  readonly diffId?: Digest | undefined;
  readonly isEncrypted: boolean;
  /** The image keys that open it; none for a plain layer and for one that only other recipients open. */
  readonly imageKeyIds: readonly string[];
}

/** The image of one platform. */
export interface StatementImage {
  readonly platform: Platform;
  readonly manifest: Digest;
  readonly config: Digest;
  /** From the base up. */
  readonly layers: readonly StatementLayer[];
}

/** What an image is, whoever released it. */
export interface ImageDescription {
  readonly root: { readonly digest: Digest; readonly mediaType: string };
  /** Every manifest and index: the root, the platforms, indexes in between, artifacts that the index names. */
  readonly manifests: readonly Digest[];
  readonly images: readonly StatementImage[];
}

export interface ReleaseStatement extends ImageDescription {
  /** Undefined for an image that no key server knows, as the next two are. */
  readonly productCode?: string | undefined;
  readonly organizationId?: string | undefined;
  readonly imageKeyId?: string | undefined;
  /** The plain image it was made from, where that is known. */
  readonly sourceDigest?: Digest | undefined;
}

const identifier = z.string().min(1).max(256);

const layerSchema = z.strictObject({
  mediaType: identifier,
  digest: digestSchema,
  sizeBytes: z.int().nonnegative(),
  diffId: digestSchema.optional(),
  isEncrypted: z.boolean(),
  imageKeyIds: z.array(identifier).max(MAX_WRAPPED_KEYS),
});

/** Configs of hand-made images leave these empty. */
const platformField = z.string().max(256);

const platformSchema = z.strictObject({
  os: platformField,
  architecture: platformField,
  variant: platformField.optional(),
  'os.version': platformField.optional(),
  'os.features': z.array(platformField).max(64).optional(),
});

const statementSchema = z.strictObject({
  _type: z.literal(STATEMENT_TYPE),
  predicateType: z.literal(RELEASE_PREDICATE_TYPE),
  subject: z
    .array(z.strictObject({ name: identifier, digest: z.strictObject({ sha256: z.string() }) }))
    .max(MAX_GRAPH_MANIFESTS),
  predicate: z.strictObject({
    productCode: identifier.optional(),
    organizationId: identifier.optional(),
    imageKeyId: identifier.optional(),
    sourceDigest: digestSchema.optional(),
    root: z.strictObject({ digest: digestSchema, mediaType: identifier }),
    images: z
      .array(
        z.strictObject({
          platform: platformSchema,
          manifest: digestSchema,
          config: digestSchema,
          layers: z.array(layerSchema).max(MAX_LAYERS),
        }),
      )
      .min(1)
      .max(MAX_GRAPH_MANIFESTS),
  }),
});

/**
 * Writes a statement as in-toto JSON, the same bytes for the same release.
 * @throws LatchkeyError LIMIT_EXCEEDED
 */
export function encodeStatement(statement: ReleaseStatement): Uint8Array {
  const { manifests, ...predicate } = statement;
  const names = new Map(
    statement.images.map(({ manifest, platform }) => [manifest, formatPlatform(platform)]),
  );
  const bytes = Buffer.from(
    canonicalJson({
      _type: STATEMENT_TYPE,
      predicateType: RELEASE_PREDICATE_TYPE,
      subject: manifests.map((digest) => ({
        name: names.get(digest) ?? (digest === statement.root.digest ? 'root' : 'artifact'),
        digest: { sha256: digestHex(digest) },
      })),
      predicate,
    }),
  );
  if (bytes.length <= MAX_STATEMENT_BYTES) return bytes;
  throw new LatchkeyError(
    'LIMIT_EXCEEDED',
    `the statement of this release would be larger than ${MAX_STATEMENT_BYTES} bytes`,
    { hint: 'release fewer platforms in one image' },
  );
}

/**
 * Reads a statement; who vouches for it is for the caller to know.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseStatement(bytes: Uint8Array): ReleaseStatement {
  const { subject, predicate } = parseDocument(statementSchema, bytes, 'the release statement');
  const manifests = subject.map(({ digest }) => `sha256:${digest.sha256}`).filter(isDigest);
  const named = new Set<Digest>(manifests);
  const needed = [predicate.root.digest, ...predicate.images.map(({ manifest }) => manifest)];
  if (named.size !== subject.length || needed.some((digest) => !named.has(digest))) {
    throw new LatchkeyError(
      'INPUT_MALFORMED',
      'the release statement is malformed: its subjects and its images differ',
    );
  }
  return { ...predicate, manifests };
}

/** An envelope with a statement and no signature yet, as JSON. */
export function statementEnvelope(statement: ReleaseStatement): Uint8Array {
  const payload = encodeStatement(statement);
  return encodeDsseEnvelope({ payloadType: STATEMENT_PAYLOAD_TYPE, payload, signatures: [] });
}

/**
 * Adds a signature to an envelope.
 * @throws LatchkeyError KEY_INVALID, INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function signStatement(envelope: Uint8Array, privateKey: KeyObject): Uint8Array {
  return encodeDsseEnvelope(signDsseEnvelope(parseDsseEnvelope(envelope), privateKey));
}

/**
 * Reads the statement in an envelope without asking who signed it.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function readStatement(envelope: Uint8Array): ReleaseStatement {
  const { payloadType, payload } = parseDsseEnvelope(envelope);
  if (payloadType === STATEMENT_PAYLOAD_TYPE) return parseStatement(payload);
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    `the signed statement holds ${JSON.stringify(payloadType)}, not ${STATEMENT_PAYLOAD_TYPE}`,
  );
}

/**
 * Reads the statement in an envelope that one of the keys has signed.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED, INPUT_MALFORMED, LIMIT_EXCEEDED, KEY_INVALID
 */
export function openStatement(
  envelope: Uint8Array,
  publicKeys: readonly KeyObject[],
): { readonly statement: ReleaseStatement; readonly key: KeyObject } {
  const key = verifyDsseEnvelope(parseDsseEnvelope(envelope), publicKeys);
  if (key === undefined) {
    throw new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', 'the statement is not signed by this key');
  }
  return { statement: readStatement(envelope), key };
}
