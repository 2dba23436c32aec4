/**
 * What a node without a line to the key server asks for: a file that somebody carries. Each request is a compact JWS
 * (RFC 7515, ES256, `typ` = "offline-request+jwt") by the node key, with the certificate request that names this key, so
 * that a node that was never activated can be enrolled with it. A file of a cluster has the requests of its nodes.
 */
import * as z from 'zod';
import {
  MAX_OFFLINE_IMAGES,
  MAX_OFFLINE_REQUESTS,
  MAX_OFFLINE_REQUEST_CHARACTERS,
} from '#src/base/limits.ts';
import { isDigest } from '#src/oci/digest.ts';
import { readOfflineFile } from './offline-file.ts';

export const OFFLINE_REQUEST_TOKEN_TYPE = 'offline-request+jwt';
const MAX_CERTIFICATE_REQUEST_CHARACTERS = 8192;
/** Far beyond any count of bundles, and far below where adding one does nothing. */
const MAX_SEQUENCE = 2 ** 40;

export const offlineRequestClaimsSchema = z.strictObject({
  /** PKCS#10, DER, P-256, base64. */
  certificateRequest: z.base64().max(MAX_CERTIFICATE_REQUEST_CHARACTERS),
  nodeName: z.string(),
  /** '' when the node does not say. */
  installation: z.string(),
  /** Digests of manifests as the node has them; none = all that the license covers. */
  images: z.array(z.string().refine(isDigest, 'not a sha256 digest')).max(MAX_OFFLINE_IMAGES),
  /** The highest sequence of a bundle that the node has seen. */
  lastSequence: z.int().nonnegative().max(MAX_SEQUENCE),
  /** Of the node's memory, another one when that was lost; undefined from a node that is too old to count starts. */
  memoryId: z.uuid().optional(),
  requestedAtMs: z.int().nonnegative(),
});

export type OfflineRequestClaims = z.infer<typeof offlineRequestClaimsSchema>;

export const offlineRequestFileSchema = z.strictObject({
  kind: z.literal('latchkey-offline-request'),
  version: z.literal(1),
  requests: z.array(z.string().max(MAX_OFFLINE_REQUEST_CHARACTERS)).min(1).max(MAX_OFFLINE_REQUESTS),
});

export type OfflineRequestFile = z.infer<typeof offlineRequestFileSchema>;

/** What the node key signs; the request is this, a dot, and the signature (r and s) in base64url. */
export function offlineRequestInput(claims: OfflineRequestClaims): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${encode({ alg: 'ES256', typ: OFFLINE_REQUEST_TOKEN_TYPE })}.${encode(claims)}`;
}

/**
 * Reads a file of requests; who has signed them is another question.
 * @param what the file's name, for messages
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseOfflineRequestFile(bytes: Uint8Array, what: string): OfflineRequestFile {
  return readOfflineFile(bytes, offlineRequestFileSchema, {
    what,
    kind: 'an offline request',
    command: 'latchkey node request',
  });
}
