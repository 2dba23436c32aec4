/** The next certificate of a node that still holds a good one. Nothing else about the node changes. */
import { type JWK, calculateJwkThumbprint } from 'jose';
import { LatchkeyError } from '#src/base/errors.ts';
import { nodeDenial } from '#src/licensing/decide.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import {
  type NodeCertificate,
  issueNodeCertificate,
  parseNodeRequest,
} from '../custody/certificate-authority.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';

/**
 * Gives a certificate for the key that the node has. The one before stays good until it ends: an answer that is
 * lost on the way must not shut a node out.
 * @param requestDer PKCS#10, signed with the node key
 * @throws LatchkeyError INPUT_MALFORMED, also for another key; DENIED_NODE_*
 */
export async function rotateCertificate(
  server: KeyServer,
  identity: NodeIdentity,
  requestDer: Uint8Array,
): Promise<NodeCertificate> {
  const request = await parseNodeRequest(requestDer);
  const publicJwk = request.publicKey.export({ format: 'jwk' }) as JWK;
  if ((await calculateJwkThumbprint(publicJwk)) !== identity.keyThumbprint) {
    throw new LatchkeyError(
      'INPUT_MALFORMED',
      'the certificate request is for another key than this node has',
      {
        hint: 'activate the node to give it a new key',
      },
    );
  }
  const { organizationId } = server;
  const nowMs = server.clock.nowMs();
  const certificate = await issueNodeCertificate(server.keys, request, identity.nodeId, {
    nowMs,
    lifetimeMs: server.nodeCertificateLifetimeMs,
  });
  const refusal = await server.store.write(async (writer) => {
    const { contact } = await loadOrganization(writer, organizationId);
    const denied = nodeDenial(await loadNode(writer, organizationId, identity), contact);
    await appendAuditEvent(writer, organizationId, nowMs, {
      actor: `node:${identity.nodeId}`,
      action: 'node.rotate-certificate',
      target: identity.nodeId,
      outcome: denied === null ? 'allowed' : 'denied',
      code: denied?.code,
      detail: denied === null ? { serial: certificate.serial } : {},
    });
    if (denied !== null) return denialError(denied);
    await writer
      .updateTable('node')
      .set({ certificate_serial: certificate.serial, certificate_expires_at_ms: certificate.expiresAtMs })
      .where('id', '=', identity.nodeId)
      .execute();
    return undefined;
  });
  if (refusal !== undefined) throw refusal;
  return certificate;
}
