/** A bundle that was carried to this node: who has made it, for whom, and what is in it. Trusts the authority alone. */
import { type KeyObject, X509Certificate } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { ED25519_ALGORITHMS, verifyToken } from '#src/crypto/verify-token.ts';
import type { ReleaseStatement } from '#src/image/statement.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import {
  LEASE_SIGNER_URI,
  OFFLINE_BUNDLE_TOKEN_TYPE,
  type OfflineBundleClaims,
  type OfflineBundleFile,
  offlineBundleClaimsSchema,
} from '#src/licensing/offline-bundle.ts';
import { openLeaseStatement, releaseVerificationKey } from './lease-statement.ts';
import { ANY_IMAGE, type LeaseSubject, subjectKey, verifyLease } from './lease.ts';

/** What is wrong is told as far as this. */
const MAX_REASON_CHARACTERS = 500;

export interface CarriedLease {
  /** As the key server has signed it. */
  readonly token: string;
  readonly claims: LeaseClaims;
  readonly statement: ReleaseStatement;
  /** Sealed to the node key. */
  readonly imageKeyJwe: string;
}

export interface OpenedBundle {
  readonly claims: OfflineBundleClaims;
  /** Has signed the bundle and its leases. */
  readonly signerKey: KeyObject;
  /** With this bundle alone, to be kept. */
  readonly file: OfflineBundleFile;
  find(subject: LeaseSubject): CarriedLease | undefined;
}

/**
 * Finds this node's bundle in a file and checks all of it but whether it may be used now.
 * @param authorityPem the vendor's authority
 * @param nodeKeyThumbprint of this node
 * @throws LatchkeyError DENIED_LEASE_INVALID, DENIED_STATEMENT_INVALID
 */
export async function openBundle(
  file: OfflineBundleFile,
  authorityPem: string,
  nodeKeyThumbprint: string,
): Promise<OpenedBundle> {
  const own = file.bundles.find((bundle) => bundle.nodeKeyThumbprint === nodeKeyThumbprint);
  if (own === undefined) throw invalidBundle('it holds nothing for this node');
  const signerKey = signerKeyOf(file.signerCertificate, authorityPem);
  const claims = await readClaims(own.token, signerKey);
  if (claims.nodeKeyThumbprint !== nodeKeyThumbprint) throw invalidBundle('it is for another node');
  const releaseKey = releaseVerificationKey(claims.releaseVerificationJwk);
  const leases = new Map<string, CarriedLease>();
  for (const { imageKeyId, imageKeyJwe, leases: tokens } of claims.releases) {
    const envelope = Buffer.from(file.statements[imageKeyId] ?? '', 'base64');
    for (const token of tokens) {
      const lease = await verifyLease(token, signerKey, { nodeId: claims.nodeId });
      if (!isOf(claims, lease) || lease.imageKeyId !== imageKeyId)
        throw invalidBundle('a lease is not of it');
      const statement = openLeaseStatement(envelope, releaseKey, lease);
      const carried: CarriedLease = { token, claims: lease, statement, imageKeyJwe };
      leases.set(subjectKey(lease), carried);
      // Where only the key is known, any image of its release does.
      const anyImage = subjectKey({ imageDigest: ANY_IMAGE, imageKeyId });
      if (!leases.has(anyImage)) leases.set(anyImage, carried);
    }
  }
  const statements = Object.fromEntries(
    claims.releases.map(({ imageKeyId }) => [imageKeyId, file.statements[imageKeyId] ?? '']),
  );
  return {
    claims,
    signerKey,
    file: { ...file, statements, bundles: [own] },
    find: (subject) => leases.get(subjectKey(subject)),
  };
}

/** A bundle is void as a whole, so its leases are none but its own. */
function isOf(bundle: OfflineBundleClaims, lease: LeaseClaims): boolean {
  return (
    lease.licenseId === bundle.licenseId &&
    lease.epoch === bundle.epoch &&
    lease.nodeKeyThumbprint === bundle.nodeKeyThumbprint &&
    lease.expiresAtMs <= bundle.expiresAtMs
  );
}

function signerKeyOf(certificate: string, authorityPem: string): KeyObject {
  try {
    const signer = new X509Certificate(Buffer.from(certificate, 'base64'));
    const authority = new X509Certificate(authorityPem);
    if (!signer.checkIssued(authority) || !signer.verify(authority.publicKey))
      throw new Error('not the authority');
    // Nodes have certificates of the same authority.
    if (signer.subjectAltName !== `URI:${LEASE_SIGNER_URI}` || signer.ca)
      throw new Error('not a lease signer');
    return signer.publicKey;
  } catch (error) {
    throw invalidBundle("its signer is not the vendor's", error);
  }
}

async function readClaims(token: string, signerKey: KeyObject): Promise<OfflineBundleClaims> {
  try {
    const payload = await verifyToken(token, {
      key: signerKey,
      algorithms: ED25519_ALGORITHMS,
      type: OFFLINE_BUNDLE_TOKEN_TYPE,
    });
    return offlineBundleClaimsSchema.parse(parseJson(payload, 'the bundle'));
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).slice(0, MAX_REASON_CHARACTERS);
    throw invalidBundle(reason, error);
  }
}

export function invalidBundle(reason: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('DENIED_LEASE_INVALID', `the offline bundle is not valid: ${reason}`, {
    hint: 'ask the vendor for a new one, with a request of this node',
    cause,
  });
}
