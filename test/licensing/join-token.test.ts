import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  JOIN_TOKEN_BYTES,
  formatJoinToken,
  isJoinToken,
  joinTokenDigest,
} from '#src/licensing/join-token.ts';
import { joinTokenDenial } from '#src/licensing/join-token-state.ts';
import { LICENSE_KEY_BYTES, formatLicenseKey } from '#src/licensing/license-key.ts';

describe('a join token', () => {
  test('is told from a license key, and its digest does not show it', () => {
    const token = formatJoinToken(randomBytes(JOIN_TOKEN_BYTES));
    expect(isJoinToken(token)).toBe(true);
    expect(isJoinToken(formatLicenseKey(randomBytes(LICENSE_KEY_BYTES)))).toBe(false);
    expect(joinTokenDigest(token)).toMatch(/^[0-9a-f]{64}$/u);
    expect(() => formatJoinToken(randomBytes(5))).toThrow(TypeError);
  });
});

describe('a join token lets in', () => {
  const good = { tokenId: 'join_1', usesLeft: 1, expiresAtMs: 1000, isRevoked: false, lastNodeId: null };
  test.each([
    ['a node while it has uses', good, null],
    ['nobody after its last use', { ...good, usesLeft: 0, lastNodeId: 'node_2' }, 'DENIED_JOIN_TOKEN_USED'],
    [
      'its last node again, whose answer may have got lost',
      { ...good, usesLeft: 0, lastNodeId: 'node_1' },
      null,
    ],
    ['nobody from its end on', { ...good, expiresAtMs: 500 }, 'DENIED_JOIN_TOKEN_EXPIRED'],
    ['nobody once it is revoked, whatever else', { ...good, isRevoked: true }, 'DENIED_JOIN_TOKEN_UNKNOWN'],
    ['nobody when it is not known', undefined, 'DENIED_JOIN_TOKEN_UNKNOWN'],
  ])('%s', (_case, token, code) => {
    expect(joinTokenDenial(token, 'node_1', 500)?.code ?? null).toBe(code);
  });
});
