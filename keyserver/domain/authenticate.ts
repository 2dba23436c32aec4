/**
 * A certificate of short life for a key with which a node does TLS in place of its node key, for proof of the node key:
 * nodes whose key is on a PKCS#11 token come here at each start. Image keys stay sealed to the node key.
 */
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import type { JWK } from 'jose';
import { LatchkeyError } from '#src/base/errors.ts';
import { TLS_CERTIFICATE_LIFETIME_MS } from '../limits.ts';
import { nodeDenial } from '#src/licensing/decide.ts';
import { NODE_PROOF_BYTES, type NodeProof, nodeProofStatement } from '#src/licensing/node-proof.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import {
  type NodeCertificate,
  issueTlsCertificate,
  parseNodeRequest,
} from '../custody/certificate-authority.ts';
import type { Challenges } from './challenges.ts';
import { type KnownNode, loadNode, loadNodeById, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';

export interface Authentication extends NodeProof {
  /** Of the statement of the proof, by the node key. */
  readonly signature: Uint8Array;
}

const MAX_NODE_ID = 64;

export class NodeAuthentication {
  readonly #server: KeyServer;
  readonly #challenges: Challenges;
  /** Checked in place of the key of a node that is not there, so that an answer takes the same time. */
  readonly #nobodyJwk: string;

  constructor(server: KeyServer, challenges: Challenges) {
    this.#server = server;
    this.#challenges = challenges;
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#nobodyJwk = JSON.stringify(publicKey.export({ format: 'jwk' }));
  }

  /**
   * Gives the certificate. An unknown node and a wrong signature get the same answer for the same work.
   * @throws LatchkeyError INPUT_MALFORMED; STATE_CONFLICT for a challenge that was used or is too old; DENIED_NODE_*
   */
  async authenticate(request: Authentication): Promise<NodeCertificate> {
    const { nodeId, signature, nonce } = request;
    if (!/^[a-z0-9_-]+$/.test(nodeId) || nodeId.length > MAX_NODE_ID)
      throw new LatchkeyError('INPUT_MALFORMED', 'the node id is malformed');
    if (signature.length !== NODE_PROOF_BYTES)
      throw new LatchkeyError('INPUT_MALFORMED', `the signature is not ${NODE_PROOF_BYTES} bytes`);
    if (!this.#challenges.isOpen(nonce)) throw usedOrOld();
    const tlsKey = await parseNodeRequest(request.certificateRequest);
    const node = await loadNodeById(this.#server.store.read, this.#server.organizationId, nodeId);
    const proven = isSigned(request, node?.publicJwk ?? this.#nobodyJwk) ? node : null;
    const { keys, clock, nodeCertificateLifetimeMs } = this.#server;
    const certificate =
      proven === null
        ? undefined
        : await issueTlsCertificate(keys, tlsKey, proven, {
            nowMs: clock.nowMs(),
            lifetimeMs: Math.min(nodeCertificateLifetimeMs, TLS_CERTIFICATE_LIFETIME_MS),
          });
    return this.#record(request, proven, certificate);
  }

  async #record(
    { nodeId, nonce }: Authentication,
    proven: KnownNode | null,
    certificate: NodeCertificate | undefined,
  ): Promise<NodeCertificate> {
    const { organizationId, clock, store } = this.#server;
    const refusal = await store.write(async (writer) => {
      if (!(await this.#challenges.use(writer, nonce))) throw usedOrOld();
      const { contact } = await loadOrganization(writer, organizationId);
      const thumbprint = proven?.keyThumbprint ?? '';
      // Its state may have changed since.
      const known = await loadNode(writer, organizationId, { nodeId, keyThumbprint: thumbprint });
      const denied = nodeDenial(known, contact);
      await appendAuditEvent(writer, organizationId, clock.nowMs(), {
        // Who has proven nothing is nobody.
        ...(proven === null
          ? { actor: 'enrollment' as const }
          : { actor: `node:${nodeId}` as const, authMethod: 'node-key' as const }),
        action: 'node.authenticate',
        target: nodeId,
        outcome: denied === null ? 'allowed' : 'denied',
        code: denied?.code,
        detail: denied === null && certificate !== undefined ? { serial: certificate.serial } : {},
      });
      if (denied !== null || certificate === undefined) return denied ?? nodeDenial(null, contact);
      await writer
        .updateTable('node')
        .set({ certificate_serial: certificate.serial, certificate_expires_at_ms: certificate.expiresAtMs })
        .where('id', '=', nodeId)
        .execute();
      return null;
    });
    if (refusal !== null) throw denialError(refusal);
    if (certificate === undefined) throw new TypeError('an authentication was allowed without a certificate');
    return certificate;
  }
}

function usedOrOld(): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', 'the challenge was used before or is too old', {
    hint: 'ask for another one',
  });
}

function isSigned(request: Authentication, publicJwk: string): boolean {
  const key = createPublicKey({ key: JSON.parse(publicJwk) as JWK, format: 'jwk' });
  return verify('sha256', nodeProofStatement(request), { key, dsaEncoding: 'ieee-p1363' }, request.signature);
}
