/** The release statement that comes with a lease. */
import { type KeyObject, createPublicKey } from 'node:crypto';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { type ReleaseStatement, openStatement } from '#src/image/statement.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';

/**
 * The key server's release key from its JSON Web Key; undefined for a node that has not been told.
 * @throws LatchkeyError KEY_INVALID
 */
export function releaseVerificationKey(jwk: string): KeyObject | undefined {
  if (jwk === '') return undefined;
  try {
    const key = parseJson(jwk, 'the release verification key') as Record<string, string>;
    return createPublicKey({ key, format: 'jwk' });
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', "the key server's release verification key cannot be read", {
      hint: 'is it a Latchkey key server, and not an older one?',
      cause: error,
    });
  }
}

/**
 * Checks the key server's signature and that the statement is about the release of the lease.
 * @throws LatchkeyError DENIED_STATEMENT_INVALID
 */
export function openLeaseStatement(
  envelope: Uint8Array,
  key: KeyObject | undefined,
  claims: LeaseClaims,
): ReleaseStatement {
  const refuse = (reason: string, cause?: unknown, hint = 'its vendor has to register it again') =>
    new LatchkeyError('DENIED_STATEMENT_INVALID', `the release of this image ${reason}`, {
      hint,
      licenseId: claims.licenseId,
      contact: claims.contact,
      cause,
    });
  if (key === undefined) {
    const hint = "run 'latchkey node activate <license key>' on this node once more";
    throw refuse('cannot be checked: this node does not know who signs releases', undefined, hint);
  }
  if (envelope.length === 0) throw refuse('has no signed statement');
  let statement: ReleaseStatement;
  try {
    ({ statement } = openStatement(envelope, [key]));
  } catch (error) {
    throw refuse(`has no valid statement: ${toLatchkeyError(error).message}`, error);
  }
  if (statement.imageKeyId === claims.imageKeyId && statement.organizationId === claims.organizationId) {
    return statement;
  }
  throw refuse('has the statement of another one');
}
