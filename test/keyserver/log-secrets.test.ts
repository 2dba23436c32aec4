/** A whole life of a key server at its most talkative: none of the secrets that passed through it is in what it wrote. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatLicenseKey } from '#src/licensing/license-key.ts';
import { redact } from '../../keyserver/redaction.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { serverDatabaseUrl } from '../../lab/server-database.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { createSoldProduct, sealImageKey } from '../fakes/sold-product.ts';

const DATABASE_PASSWORD = 'correct-horse-battery';

let server: TestKeyServer;
const secrets: string[] = [];
let written: string;

async function environment(dataDirectory: string): Promise<NodeJS.ProcessEnv> {
  const url = await serverDatabaseUrl(dataDirectory);
  if (url === null) return process.env;
  const withPassword = url.replace('latchkey@', `latchkey:${DATABASE_PASSWORD}@`);
  expect(withPassword).toContain(DATABASE_PASSWORD);
  return { ...process.env, LATCHKEY_DATABASE: withPassword };
}

beforeAll(async () => {
  const dataDirectory = await mkdtemp(join(tmpdir(), 'latchkey-log-'));
  server = await startKeyServer({
    dataDirectory,
    env: await environment(dataDirectory),
    args: ['--log-level=debug'],
  });
  const sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  const { token: joinToken } = await sold.client.createJoinToken(license.id, {});
  const { token } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' });
  const node = await activateNode(server, licenseKey);
  const joined = await activateNode(server, joinToken);
  const lease = await node.acquire(sold.image);
  const unknownKey = formatLicenseKey(randomBytes(20));
  const rootKey = (await readFile(join(dataDirectory, 'root.key'), 'utf8')).trim();
  const sealed = await sealImageKey(sold.client, 'ik-log', randomBytes(32));
  const idempotencyKey = randomBytes(16).toString('hex');
  // Known by their shape wherever they turn up ...
  const shaped = [licenseKey, unknownKey, joinToken, token, server.adminToken, rootKey, sealed];
  shaped.push(lease.imageKeyJwe, lease.lease);
  // ... and those that could be anything, which only come by where they belong.
  secrets.push(...shaped, DATABASE_PASSWORD, idempotencyKey);
  secrets.push(Buffer.from(sold.image.imageKey).toString('base64'));

  // All that people do wrong with secrets.
  const ask = (path: string, init: RequestInit = {}, bearer = server.adminToken) =>
    fetch(`${server.adminUrl}/${path}`, {
      ...init,
      headers: {
        authorization: `Bearer ${bearer}`,
        'content-type': 'application/json',
        'idempotency-key': idempotencyKey,
      },
    });
  const post = (path: string, body: unknown, bearer?: string) =>
    ask(path, { method: 'POST', body: JSON.stringify(body) }, bearer);
  for (const secret of shaped) {
    const text = encodeURIComponent(secret);
    await ask(`v1/licenses/${text}`);
    await ask(`v1/licenses/${text}:revoke`, { method: 'POST' });
    await ask(`v1/${text}`);
    await ask(`v1/licenses?customer=${text}`);
    await ask('v1/organization', {}, secret);
    await post('v1/licenses', { customer: secret, product: secret });
    await post('v1/licenses', { customer: sold.customerId, product: sold.productCode, [secret]: 1 });
    await post('v1/products', { code: secret, name: 'x' }, token);
    await post('v1/releases', { productCode: sold.productCode, sealedImageKey: secret });
  }
  await ask('v1/products', { method: 'POST', body: `{"code": "${server.adminToken}"` });
  for (const wrong of [unknownKey, joinToken.slice(0, -1), `${licenseKey}0`]) {
    await expect(activateNode(server, wrong)).rejects.toThrow();
  }
  await expect(node.acquire({ ...sold.image, imageDigest: licenseKey })).rejects.toThrow();
  await expect(node.acquire({ ...sold.image, imageKeyId: joinToken })).rejects.toThrow();
  await sold.client.changeLicense(license.id, 'revoke');
  await expect(joined.acquire(sold.image)).rejects.toThrow();
  node.close();
  joined.close();
  await server.stop();
  written = server.log() + server.printed();
});

afterAll(() => server.dispose());

describe('the log', () => {
  it('is one JSON object a line, with a level, a time and a code to look for', () => {
    const lines = server.log().trim().split('\n');
    expect(lines.length).toBeGreaterThan(50);
    const entries = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    for (const entry of entries) {
      expect(entry).toMatchObject({
        level: expect.any(Number) as number,
        time: expect.any(Number) as number,
      });
    }
    const codes = new Set(entries.map(({ code }) => code));
    for (const code of ['STATE_NOT_FOUND', 'AUTH_REQUIRED', 'USAGE_INVALID', 'DENIED_LICENSE_REVOKED']) {
      expect(codes).toContain(code);
    }
    expect(codes).not.toContain('BUG_UNEXPECTED');
  });

  it('holds none of the secrets that came by', () => {
    for (const secret of secrets) {
      expect(written).not.toContain(secret);
      expect(written).not.toContain(encodeURIComponent(secret));
    }
  });

  it('is not read by the start that fails either', async () => {
    const env = {
      ...process.env,
      LATCHKEY_DATABASE: `postgres://latchkey:${DATABASE_PASSWORD}@127.0.0.1:1/db`,
    };
    await expect(startKeyServer({ env })).rejects.toMatchObject({
      stderr: expect.not.stringContaining(DATABASE_PASSWORD) as string,
    });
  });
});

describe('what looks like a secret', () => {
  it.each([
    ['a license key in any spelling', formatLicenseKey(randomBytes(20)).toLowerCase().replaceAll('-', ' ')],
    ['a license key without dashes', formatLicenseKey(randomBytes(20)).replaceAll('-', '')],
    ['a token', `lkt_${randomBytes(32).toString('base64url')}`],
    ['a JWE', `eyJhbGciOiJFQ0RILUVTIn0..${'A'.repeat(16)}.${'B'.repeat(40)}.CC`],
    ['a root key', randomBytes(32).toString('hex')],
    ['a private key', '-----BEGIN PRIVATE KEY-----\\nMIGHAgEA\\n-----END PRIVATE KEY-----'],
  ])('is not written: %s', (_name, secret) => {
    const line = redact(JSON.stringify({ msg: `before ${secret} after` }));
    expect(line).not.toContain(secret);
    expect(JSON.parse(line)).toEqual({ msg: 'before [secret] after' });
  });

  it('leaves the rest of a URL', () => {
    expect(redact('to postgres://user:p%40ss@db,db2/x?password=yy&a=1 now')).toBe(
      'to postgres://user:[secret]@db,db2/x?password=[secret]&a=1 now',
    );
    const digest = `sha256:${randomBytes(32).toString('hex')}`;
    expect(redact(digest)).toBe(digest);
    const ordinary = '{"path":"/v1/licenses/:id","peer":"127.0.0.1:4000","msg":"there is no license lic_1"}';
    expect(redact(ordinary)).toBe(ordinary);
  });

  it('never breaks a line of JSON', () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.constantFrom('a://b:', 'lkt_', '-----BEGIN PRIVATE KEY-----', 'eyJ'),
        (text, start) => {
          JSON.parse(redact(JSON.stringify({ a: `${start}${text}`, b: text })));
        },
      ),
    );
  });
});
