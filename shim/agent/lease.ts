/** A lease as the node holds it, and when it is good. Pure. */
import { type KeyObject, createPublicKey } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { openToken } from '#src/crypto/open-token.ts';
import { LEASE_TOKEN_TYPES, type LeaseClaims, parseLeaseClaims } from '#src/licensing/lease-claims.ts';
import type { Digest } from '#src/oci/digest.ts';

/** What is wrong with a lease is told as far as this. */
const MAX_REASON_CHARACTERS = 500;

/** In place of a digest where only the key is known (a key provider call): whichever image of the key's release. */
export const ANY_IMAGE = '';

export interface LeaseSubject {
  readonly imageDigest: Digest | typeof ANY_IMAGE;
  readonly imageKeyId: string;
}

/** Names a lease's subject in maps. */
export function subjectKey(subject: LeaseSubject): string {
  return `${subject.imageKeyId} ${subject.imageDigest}`;
}

/** When the server cut a lease, on its clock and on ours that never goes back. */
export interface LeaseAnchor {
  readonly serverTimeMs: number;
  readonly monotonicMs: number;
}

/**
 * Now, for deciding about a lease: never less than the time the key server said plus what has passed since,
 * so that turning the wall clock back gains nothing.
 */
export function leaseTimeMs(anchor: LeaseAnchor, clock: Clock): number {
  const elapsedMs = Math.max(0, clock.monotonicMs() - anchor.monotonicMs);
  return Math.max(clock.nowMs(), anchor.serverTimeMs + elapsedMs);
}

/** When a lease ends: later for a node that reaches no key server, if its license says so. */
export function leaseEndMs(
  { expiresAtMs, connectivityGraceUntilMs = expiresAtMs }: LeaseClaims,
  isCutOff: boolean,
): number {
  return isCutOff ? connectivityGraceUntilMs : expiresAtMs;
}

/**
 * The key server's lease verification key from its JSON Web Key.
 * @throws LatchkeyError KEY_INVALID
 */
export function leaseVerificationKey(jwk: string): KeyObject {
  try {
    const key = parseJson(jwk, 'the lease verification key') as Record<string, string>;
    return createPublicKey({ key, format: 'jwk' });
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', "the key server's lease verification key cannot be read", {
      hint: 'is it a Latchkey key server, and not an older one?',
      cause: error,
    });
  }
}

/**
 * Checks the signature and that the lease is for this node and this subject.
 * @throws LatchkeyError DENIED_LEASE_INVALID
 */
export async function verifyLease(
  token: string,
  key: KeyObject,
  expected: { readonly nodeId: string; readonly subject?: LeaseSubject },
): Promise<LeaseClaims> {
  try {
    const payload = await openToken(token, key, LEASE_TOKEN_TYPES);
    const claims = parseLeaseClaims(parseJson(payload, 'the lease'));
    if (claims.nodeId !== expected.nodeId) throw new Error('the lease is for another node');
    if (expected.subject !== undefined && !isAbout(claims, expected.subject)) {
      throw new Error('the lease is for another image');
    }
    return claims;
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).slice(0, MAX_REASON_CHARACTERS);
    throw new LatchkeyError('DENIED_LEASE_INVALID', `the key server's lease is not valid: ${reason}`, {
      hint: error instanceof LatchkeyError ? error.hint : undefined,
      cause: error,
    });
  }
}

function isAbout(claims: LeaseClaims, { imageDigest, imageKeyId }: LeaseSubject): boolean {
  return (
    claims.imageKeyId === imageKeyId && (imageDigest === ANY_IMAGE || claims.imageDigest === imageDigest)
  );
}
