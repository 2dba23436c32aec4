/** What a node signs with its node key to get a certificate for another key, which does TLS in its place. Pure. */
import { createHash } from 'node:crypto';

/** Says what the signature is for: the node key also signs certificate requests, which begin otherwise. */
const PURPOSE = 'latchkey node authentication 1';

export const CHALLENGE_NONCE_BYTES = 32;
/** ECDSA on P-256 as r and s (IEEE P1363). */
export const NODE_PROOF_BYTES = 64;

export interface NodeProof {
  readonly nodeId: string;
  /** PKCS#10, DER, of the key that is to do TLS. */
  readonly certificateRequest: Uint8Array;
  /** The key server's challenge. */
  readonly nonce: Uint8Array;
}

/** The statement to sign: four lines, of which only the node id has no fixed length. */
export function nodeProofStatement({ nodeId, certificateRequest, nonce }: NodeProof): Buffer {
  const requestDigest = createHash('sha256').update(certificateRequest).digest('hex');
  const lines = [PURPOSE, nodeId, requestDigest, Buffer.from(nonce).toString('hex')];
  return Buffer.from(`${lines.join('\n')}\n`);
}
