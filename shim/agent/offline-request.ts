/** What this node asks for in a file, because it has no line to the key server. */
import { type OfflineRequestFile, offlineRequestInput } from '#src/licensing/offline-request.ts';
import { certificateRequest } from './certificate-request.ts';
import type { KeyUse } from './node-key.ts';

export interface OfflineWish {
  readonly nodeName: string;
  readonly installation: string;
  /** Digests of manifests; none = all that the license covers. */
  readonly images: readonly string[];
  readonly lastSequence: number;
  readonly memoryId: string;
  readonly nowMs: number;
}

/** The request, signed with the node key. */
export async function offlineRequestFile(
  key: Pick<KeyUse, 'publicKey' | 'sign'>,
  { nodeName, installation, images, lastSequence, memoryId, nowMs }: OfflineWish,
): Promise<OfflineRequestFile> {
  const input = offlineRequestInput({
    certificateRequest: (await certificateRequest(key, nodeName)).toString('base64'),
    ...{ nodeName, installation, images: [...images] as never, lastSequence, memoryId },
    requestedAtMs: nowMs,
  });
  const signature = await key.sign(Buffer.from(input));
  const request = `${input}.${signature.toString('base64url')}`;
  return { kind: 'latchkey-offline-request', version: 1, requests: [request] };
}
