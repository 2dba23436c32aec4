/** Requests that were carried here from nodes without a line. */
import { importJWK, type JWK } from 'jose';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { verifyToken } from '#src/crypto/verify-token.ts';
import {
  OFFLINE_REQUEST_TOKEN_TYPE,
  type OfflineRequestClaims,
  offlineRequestClaimsSchema,
} from '#src/licensing/offline-request.ts';
import { parseNodeRequest } from '../custody/certificate-authority.ts';

/**
 * Reads a node's request, which the node key has signed.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export async function parseOfflineRequest(token: string): Promise<OfflineRequestClaims> {
  const claims = readClaims(token);
  const { publicKey } = await parseNodeRequest(Buffer.from(claims.certificateRequest, 'base64'));
  try {
    const key = await importJWK(publicKey.export({ format: 'jwk' }) as JWK, 'ES256');
    await verifyToken(token, { key, algorithms: ['ES256'], type: OFFLINE_REQUEST_TOKEN_TYPE });
    return claims;
  } catch (error) {
    throw malformed('is not signed by the key of its node', error);
  }
}

function readClaims(token: string): OfflineRequestClaims {
  try {
    const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url');
    return offlineRequestClaimsSchema.parse(parseJson(payload, 'the request'));
  } catch (error) {
    throw malformed('cannot be read', error);
  }
}

function malformed(reason: string, cause: unknown): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `the offline request ${reason}`, {
    hint: 'give the file that `latchkey node request` has written, as it is',
    cause,
  });
}
