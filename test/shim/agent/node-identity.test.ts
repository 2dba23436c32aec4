import { createPrivateKey } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { IdentityStore, type NodeIdentity } from '../../../shim/agent/node-identity.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const identity: NodeIdentity = {
  nodeId: 'node-1',
  certificatePem: 'certificate',
  authorityPem: 'authority',
  certificateExpiresAtMs: 1_900_000_000_000,
  certificateRenewAtMs: 1_800_000_000_000,
  leaseVerificationJwk: '{}',
  releaseVerificationJwk: '{}',
  licenses: [{ licenseId: 'lic-1', productCode: 'acme', contact: 'license@acme.example' }],
};

let store: IdentityStore;
beforeEach(() => {
  store = new IdentityStore(path());
});

function path(...names: string[]): string {
  return join(directory(), 'identity', ...names);
}

function mode(file: string): number {
  return statSync(file).mode & 0o777;
}

describe('the private key', () => {
  test('is made once and is the same ever after', async () => {
    const pem = await store.privateKeyPem();
    expect(createPrivateKey(pem).asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(await store.privateKeyPem()).toBe(pem);
    expect(await new IdentityStore(path()).privateKeyPem()).toBe(pem);
  });

  test('is one, however many ask for it at first', async () => {
    const pems = await Promise.all(Array.from({ length: 5 }, () => store.privateKeyPem()));
    expect(new Set(pems).size).toBe(1);
    expect(readFileSync(path('node-key.pem'), 'utf8')).toBe(pems[0]);
  });

  test.each(['', 'garbage', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'])(
    'that is damaged (%j) is reported, not replaced',
    async (text) => {
      await store.save(identity);
      writeFileSync(path('node-key.pem'), text);
      await expect(store.privateKeyPem()).rejects.toMatchObject({
        code: 'STATE_DAMAGED',
        message: `${path('node-key.pem')} is not a private key`,
      });
      expect(readFileSync(path('node-key.pem'), 'utf8')).toBe(text);
    },
  );
});

describe('the identity', () => {
  test('is nothing before an activation', async () => {
    expect(await store.load()).toBeUndefined();
  });

  test('comes back as it was saved; the last one counts', async () => {
    await store.save({ ...identity, nodeId: 'node-0' });
    await store.save(identity);
    expect(await store.load()).toEqual(identity);
  });

  test('of a node activated before releases were signed is still read', async () => {
    await store.save({ ...identity, releaseVerificationJwk: undefined } as unknown as NodeIdentity);
    expect(await store.load()).toEqual({ ...identity, releaseVerificationJwk: '' });
  });

  test('and the key can be read by their owner only, and leave no other file', async () => {
    const before = process.umask(0);
    try {
      await store.privateKeyPem();
      await store.save(identity);
    } finally {
      process.umask(before);
    }
    expect(mode(path())).toBe(0o700);
    expect(readdirSync(path()).sort()).toEqual(['identity.json', 'node-key.pem']);
    for (const name of readdirSync(path())) expect(mode(path(name))).toBe(0o600);
  });

  test('half-written by a crash is not seen', async () => {
    await store.save(identity);
    writeFileSync(path('identity.json.new'), '{"nodeId":');
    expect(await store.load()).toEqual(identity);
    await store.save({ ...identity, nodeId: 'node-2' });
    expect(await store.load()).toMatchObject({ nodeId: 'node-2' });
  });

  test('saved by several at once is one of theirs', async () => {
    const ids = ['a', 'b', 'c', 'd'];
    await Promise.all(ids.map((nodeId) => store.save({ ...identity, nodeId })));
    expect(ids).toContain((await store.load())?.nodeId);
  });

  test.each([
    '',
    'garbage',
    'null',
    '[]',
    '{}',
    JSON.stringify({ ...identity, nodeId: 7 }),
    JSON.stringify({ ...identity, licenses: [{}] }),
    JSON.stringify(identity).slice(0, -1),
    JSON.stringify(identity).replace('{', '{"nodeId":"node-0",'),
  ])('that is damaged (%j) is reported with what to do', async (text) => {
    await store.save(identity);
    writeFileSync(path('identity.json'), text);
    await expect(store.load()).rejects.toMatchObject({
      code: 'STATE_DAMAGED',
      hint: expect.stringContaining('latchkey node activate') as string,
    });
  });
});
