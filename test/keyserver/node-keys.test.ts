import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { NodeKeys } from '../../keyserver/custody/node-keys.ts';

describe('the keys of nodes', () => {
  it('are read once each', () => {
    const keys = new NodeKeys();
    const [first, second] = [newJwk(), newJwk()];
    const key = keys.read(first);
    expect(key.export({ format: 'jwk' })).toEqual(JSON.parse(first));
    expect(keys.read(second)).not.toBe(key);
    expect(keys.read(first)).toBe(key);
  });

  it('lie on their curve', () => {
    const off = Buffer.alloc(32, 1).toString('base64url');
    expect(() => new NodeKeys().read(JSON.stringify({ kty: 'EC', crv: 'P-256', x: off, y: off }))).toThrow();
  });
});

function newJwk(): string {
  return JSON.stringify(
    generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
  );
}
