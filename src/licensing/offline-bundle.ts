/**
 * What a node can start with while it has no line to the key server: leases until a day, with the image keys sealed to
 * the node key. A bundle is a compact JWS (RFC 7515, EdDSA, `typ` = "offline-bundle+jwt") for one node and one license.
 * Pure.
 */
import * as z from 'zod';
import type { DeniedCode } from '#src/base/errors.ts';
import { MAX_OFFLINE_LEASES, MAX_OFFLINE_REQUESTS, MAX_OFFLINE_STARTS } from '#src/base/limits.ts';
import { readOfflineFile } from './offline-file.ts';

export const OFFLINE_BUNDLE_TOKEN_TYPE = 'offline-bundle+jwt';
/** Names the certificate of the key that signs leases and bundles; node certificates name a node instead. */
export const LEASE_SIGNER_URI = 'latchkey:lease-signer';

const timeMs = z.int().nonnegative().max(8.64e15);

export const offlineBundleClaimsSchema = z.strictObject({
  bundleId: z.string(),
  organizationId: z.string(),
  nodeId: z.string(),
  /** RFC 7638, of the node key. */
  nodeKeyThumbprint: z.string(),
  /** Names a file of the node. */
  licenseId: z.string().regex(/^lic_[0-9A-Za-z-]{1,64}$/),
  productCode: z.string(),
  contact: z.string(),
  /** The license's when the bundle was made; a change of the license voids it. */
  epoch: z.int().nonnegative(),
  /** One more with each bundle of the node. */
  sequence: z.int().positive(),
  revision: z.int().nonnegative(),
  issuedAtMs: timeMs,
  expiresAtMs: timeMs,
  /** So many containers can be started with it; without it any number. */
  maxStarts: z.int().min(1).max(MAX_OFFLINE_STARTS).optional(),
  /** With `maxStarts`: the memory that counts them. With another one the bundle is of no use. */
  memoryId: z.uuid().optional(),
  /** JSON Web Key of the key that signs release statements. */
  releaseVerificationJwk: z.string(),
  /** Of a node that was enrolled with its request; null for one that is a node already. */
  certificate: z.strictObject({ der: z.base64(), expiresAtMs: timeMs, renewAtMs: timeMs }).nullable(),
  releases: z
    .array(
      z.strictObject({
        imageKeyId: z.string(),
        /** Compact JWE of the image key, to the node key. */
        imageKeyJwe: z.string(),
        /** One for each image of the release, as the key server gives them online. */
        leases: z.array(z.string()).min(1),
      }),
    )
    .min(1)
    .max(MAX_OFFLINE_LEASES),
});

export type OfflineBundleClaims = z.infer<typeof offlineBundleClaimsSchema>;

/** As it is carried: the bundles of some nodes, and what they share. */
export const offlineBundleFileSchema = z.strictObject({
  kind: z.literal('latchkey-offline-bundle'),
  version: z.literal(1),
  /** DER, base64: by the organization's authority, for the key that has signed the bundles. */
  signerCertificate: z.base64(),
  /** Signed envelopes that say what each release is, base64, by image key. */
  statements: z.record(z.string(), z.base64()),
  bundles: z
    .array(z.strictObject({ nodeKeyThumbprint: z.string(), token: z.string() }))
    .min(1)
    .max(MAX_OFFLINE_REQUESTS),
});

export type OfflineBundleFile = z.infer<typeof offlineBundleFileSchema>;

/**
 * Reads a file of bundles; who has signed them is another question.
 * @param what the file's name, for messages
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseOfflineBundleFile(bytes: Uint8Array, what: string): OfflineBundleFile {
  return readOfflineFile(bytes, offlineBundleFileSchema, {
    what,
    kind: 'an offline bundle',
    command: 'latchkey license check-out',
  });
}

/** What the node knows when a bundle is given to it. */
export interface ImportingNode {
  readonly nodeKeyThumbprint: string;
  /** Undefined on a node that was never activated. */
  readonly nodeId: string | undefined;
  /** The highest sequence that it has imported; 0 = none. */
  readonly lastSequence: number;
  /** Not before what it was: see node-time.ts. */
  readonly nowMs: number;
}

export interface BundleRefusal {
  readonly code: Extract<DeniedCode, 'DENIED_LEASE_INVALID' | 'DENIED_REPLAY' | 'DENIED_LEASE_EXPIRED'>;
  readonly reason: string;
}

/** Why a bundle whose signature is good is not imported; null = it is. */
export function importRefusal(
  bundle: Pick<
    OfflineBundleClaims,
    'nodeKeyThumbprint' | 'nodeId' | 'sequence' | 'expiresAtMs' | 'certificate'
  >,
  node: ImportingNode,
): BundleRefusal | null {
  const isForeign =
    bundle.nodeKeyThumbprint !== node.nodeKeyThumbprint ||
    (node.nodeId !== undefined && bundle.nodeId !== node.nodeId);
  if (isForeign) return { code: 'DENIED_LEASE_INVALID', reason: 'it is for another node' };
  if (node.nodeId === undefined && bundle.certificate === null) {
    return { code: 'DENIED_LEASE_INVALID', reason: 'it is for a node that is activated already' };
  }
  if (bundle.sequence <= node.lastSequence) {
    const reason = `it is number ${bundle.sequence}, and number ${node.lastSequence} was imported before`;
    return { code: 'DENIED_REPLAY', reason };
  }
  if (node.nowMs >= bundle.expiresAtMs) {
    return {
      code: 'DENIED_LEASE_EXPIRED',
      reason: `it ended on ${new Date(bundle.expiresAtMs).toISOString()}`,
    };
  }
  return null;
}
