/** `latchkey encrypt --product` against a real key server. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

let directory: string;
let server: TestKeyServer;

function latchkey(token: string, ...args: string[]) {
  const env = { ...process.env, LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: token };
  return new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(
      process.execPath,
      [LATCHKEY, ...args, '--json'],
      { env, cwd: directory },
      (error, stdout, stderr) => resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-product-'));
  server = await startKeyServer();
  await storeRealImage(openLayout(join(directory, 'source')), [await realLayer(MEDIA_TYPE.ociLayerGzip)], {
    tag: 'v1',
  });
});

afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

test('registers the image key, and shows the contact line of the product', async () => {
  const created = await latchkey(
    server.adminToken,
    'product',
    'create',
    'acme',
    '--contact',
    'help@acme.example',
  );
  expect(created.status).toBe(0);
  const encrypted = await latchkey(
    server.adminToken,
    'encrypt',
    'oci:source:v1',
    'oci:out:2.0',
    '--product',
    'acme',
  );
  expect(encrypted.stderr).toBe('');
  const summary = JSON.parse(encrypted.stdout) as { imageKeyId: string; digest: string };
  const releases = await latchkey(server.adminToken, 'release', 'list');
  expect(JSON.parse(releases.stdout)).toMatchObject([
    { productCode: 'acme', version: '2.0', imageKeyId: summary.imageKeyId, imageDigests: [summary.digest] },
  ]);
  const shown = await latchkey(server.adminToken, 'inspect', 'oci:out:2.0');
  expect(shown.stdout).toContain('help@acme.example');
});

test('an unknown product or a wrong token costs nothing and writes nothing', async () => {
  const args = ['encrypt', 'oci:source:v1', 'oci:none:v1', '--product'];
  const unknown = await latchkey(server.adminToken, ...args, 'nothing');
  expect(unknown.status).toBe(66);
  const refused = await latchkey('wrong-token', ...args, 'acme');
  expect(refused.status).toBe(77);
  expect(existsSync(join(directory, 'none'))).toBe(false);
});

test('asks licenses for entitlements', async () => {
  const ask = ['--require-entitlement', 'sso', '--require-entitlement', 'reports'];
  const encrypt = ['encrypt', 'oci:source:v1', 'oci:out:3.0', ...ask];
  const [refused, encrypted] = [
    await latchkey(server.adminToken, ...encrypt, '--recipient', 'jwe:none.pem'),
    await latchkey(server.adminToken, ...encrypt, '--product', 'acme'),
  ];
  expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('no product') as string });
  expect(encrypted.status).toBe(0);
  const { imageKeyId } = JSON.parse(encrypted.stdout) as { imageKeyId: string };
  const releases = JSON.parse((await latchkey(server.adminToken, 'release', 'list')).stdout) as {
    imageKeyId: string;
    entitlementCodes: string[];
  }[];
  expect(releases.find((release) => release.imageKeyId === imageKeyId)?.entitlementCodes).toEqual([
    'reports',
    'sso',
  ]);
});
