/** Getting a certificate for the TLS key of this run, for proof of the node key (keyserver/domain/authenticate.ts). */
import { X509Certificate } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { nodeProofStatement } from '#src/licensing/node-proof.ts';
import { certificateRequest } from './certificate-request.ts';
import { type RotatingCertificate, certificateOf } from './certificate-rotation.ts';
import { authenticateAt, challengeAt } from './key-server.ts';
import type { NodeIdentity } from './node-identity.ts';
import type { NodeKey } from './node-key.ts';

/**
 * Authenticates a node whose key cannot do TLS.
 * @throws LatchkeyError DENIED_NODE_*, KEY_*, NET_*, LIMIT_EXCEEDED
 */
export async function authenticate(
  { enrollmentAddress, nodeName }: { readonly enrollmentAddress: string; readonly nodeName: string },
  { nodeId, authorityPem, certificatePem }: NodeIdentity,
  key: NodeKey,
): Promise<RotatingCertificate> {
  // Before anybody is asked: the token may be another one than the node was activated with.
  const publicKey = await key.publicKey();
  if (!new X509Certificate(certificatePem).publicKey.equals(publicKey)) {
    throw new LatchkeyError('KEY_INVALID', `this node was activated with another key than ${key.place}`, {
      hint: "correct node_key, or run 'latchkey node activate' again",
    });
  }
  const certificateRequestDer = await certificateRequest(await key.tlsKey(), nodeName);
  const nonce = await challengeAt(enrollmentAddress, authorityPem);
  const statement = nodeProofStatement({ nodeId, certificateRequest: certificateRequestDer, nonce });
  const signature = await key.sign(statement);
  const proof = { nodeId, certificateRequestDer, nonce, signature };
  return certificateOf(await authenticateAt(enrollmentAddress, authorityPem, proof));
}
