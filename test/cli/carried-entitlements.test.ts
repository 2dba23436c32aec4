/** What a release requires of licenses is required of the releases that are made from it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { adminClient } from '../fakes/sold-product.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

let directory: string;
let server: TestKeyServer;
let token: string;

function latchkey(...args: string[]) {
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: token };
  return runLatchkey([...args, '--json'], { directory, env });
}

async function done(...args: string[]): Promise<{ entitlementCodes: string[]; notes: string[] }> {
  const { stdout, stderr, status } = await latchkey(...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as { entitlementCodes: string[]; notes: string[] };
}

const add = (...args: string[]) =>
  ['recipients', 'add', 'oci:sso:1', 'oci:out:1', '--key', 'isv.pem', '--product', ...args] as const;
const to = (name: string) => ['--recipient', `jwe:${name}.pub.pem`];
const requires = (code: string) => ['--require-entitlement', code];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-carried-'));
  server = await startKeyServer();
  const admin = adminClient(server);
  for (const code of ['acme', 'other']) await admin.createProduct({ code, name: code });
  // As CI has it: it may not list releases.
  ({ token } = await admin.createToken({ name: 'ci', permissionSet: 'release' }));
  const source = openLayout(join(directory, 'source'));
  await storeRealImage(source, [await realLayer(MEDIA_TYPE.ociLayerGzip)], { tag: 'v1' });
  for (const name of ['isv', 'new']) await latchkey('keygen', name);
  const encrypt = ['encrypt', 'oci:source:v1'];
  await done(...encrypt, 'oci:sso:1', '--product', 'acme', ...to('isv'), ...to('new'), ...requires('sso'));
  await done(...encrypt, 'oci:jwe:1', ...to('isv'));
});

afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

const acme = ['--product', 'acme'];

test.each([
  ['re-wrapped', ['recipients', 'rewrap', 'oci:sso:1', 'oci:out:1', ...acme]],
  ['opened with a key', add('acme')],
  [
    'with one recipient less',
    ['recipients', 'remove', 'oci:sso:1', 'oci:out:1', 'jwe#1.2', '--keep-layer-keys', ...acme],
  ],
  [
    'of which layers are reused',
    ['encrypt', 'oci:source:v1', 'oci:out:1', ...acme, '--reuse-from', 'oci:sso:1'],
  ],
])('an image %s', async (_how, args) => {
  const { entitlementCodes, notes } = await done(...args);
  expect(entitlementCodes).toEqual(['sso']);
  expect(notes).toContain('only licenses with sso may run it, as is so with oci:sso:1');
  const [release] = await adminClient(server).releases({ order: 'desc', limit: 1 });
  expect(release!.entitlementCodes).toEqual(['sso']);
});

test('unless the command says something else', async () => {
  expect((await done(...add('acme'), ...requires('audit'))).entitlementCodes).toEqual(['audit']);
  expect((await done(...add('acme'), '--no-require-entitlement')).entitlementCodes).toEqual([]);
  expect(await latchkey(...add('acme'), '--no-require-entitlement', ...requires('audit'))).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('given and taken away') as string,
  });
});

test('where nobody knows what the image requires, it has to be said', async () => {
  const result = await latchkey(...add('other'));
  expect(result).toMatchObject({
    status: 66,
    stderr: expect.stringContaining('--no-require-entitlement') as string,
  });
  expect((await done(...add('other'), ...requires('sso'))).entitlementCodes).toEqual(['sso']);
});

test('an image that was never released requires nothing', async () => {
  const fresh = ['recipients', 'add', 'oci:jwe:1', 'oci:out:1', '--key', 'isv.pem', ...acme];
  expect((await done(...fresh)).entitlementCodes).toEqual([]);
});
