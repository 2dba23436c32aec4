/** Requests of nodes without a line, as the agent writes them. */
import { randomUUID, sign } from 'node:crypto';
import { type OfflineRequestClaims, offlineRequestInput } from '#src/licensing/offline-request.ts';
import type { NodeKey } from './licensed-node.ts';

/** A signed request; the claims may be anything. */
export function offlineRequest(
  { requestDer, privateKey }: NodeKey,
  claims: Partial<OfflineRequestClaims> = {},
): string {
  const input = offlineRequestInput({
    certificateRequest: requestDer.toString('base64'),
    nodeName: 'air-gapped',
    installation: '',
    images: [],
    lastSequence: 0,
    memoryId: randomUUID(),
    requestedAtMs: 1,
    ...claims,
  });
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}
