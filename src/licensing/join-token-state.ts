/** Whether a join token lets a node in. Pure. */
import type { DeniedCode } from '#src/base/errors.ts';

export interface JoinTokenFacts {
  readonly tokenId: string;
  readonly usesLeft: number;
  readonly expiresAtMs: number;
  readonly isRevoked: boolean;
  /** The node that used it last; null = none yet. */
  readonly lastNodeId: string | null;
}

export interface JoinTokenDenial {
  readonly code: DeniedCode;
  readonly message: string;
}

/**
 * Gives why the token does not count; null when it does.
 * @param token undefined = there is none like it
 * @param nodeId of the node that comes; the one that used it last may repeat that, because answers get lost
 */
export function joinTokenDenial(
  token: JoinTokenFacts | undefined,
  nodeId: string,
  nowMs: number,
): JoinTokenDenial | null {
  if (token === undefined || token.isRevoked) {
    return { code: 'DENIED_JOIN_TOKEN_UNKNOWN', message: 'there is no such join token, or it was revoked' };
  }
  if (nowMs >= token.expiresAtMs) {
    const end = new Date(token.expiresAtMs).toISOString();
    return { code: 'DENIED_JOIN_TOKEN_EXPIRED', message: `join token ${token.tokenId} expired on ${end}` };
  }
  if (token.usesLeft > 0 || token.lastNodeId === nodeId) return null;
  return { code: 'DENIED_JOIN_TOKEN_USED', message: `join token ${token.tokenId} has no uses left` };
}
