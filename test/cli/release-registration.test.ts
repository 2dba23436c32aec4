/** `latchkey release register`: what another tool has encrypted becomes a release that others can verify. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { LATCHKEY, runLatchkey } from '../fakes/command-line.ts';
import { adminClient } from '../fakes/sold-product.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

let directory: string;
let server: TestKeyServer;
let token: string;

function latchkey(...args: string[]) {
  const env = {
    LATCHKEY_SERVER: server.adminUrl,
    LATCHKEY_TOKEN: token,
    OCICRYPT_KEYPROVIDER_CONFIG: 'providers.json',
  };
  return runLatchkey(args, { directory, env });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-register-'));
  server = await startKeyServer();
  const admin = adminClient(server);
  await admin.createProduct({ code: 'acme', name: 'Acme' });
  ({ token } = await admin.createToken({ name: 'ci', permissionSet: 'release' }));
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
  await storeRealImage(openLayout(join(directory, 'source')), layers, { tag: 'v1' });
  const cmd = { path: process.execPath, args: [LATCHKEY, 'keyprovider'] };
  await writeFile(
    join(directory, 'providers.json'),
    JSON.stringify({ 'key-providers': { latchkey: { cmd } } }),
  );
  await writeFile(join(directory, 'acme.pub.pem'), (await latchkey('organization', 'release-key')).stdout);
});
afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

test('attaches the signed statement, with which the image can be verified', async () => {
  await latchkey('image-key', 'create', '--product', 'acme', '--out', 'web.key');
  // As another tool does it: the key provider wraps the layer key, the key server hears of nothing.
  const recipient = ['--recipient', 'provider:latchkey:image-key=web.key'];
  const encrypted = await latchkey('encrypt', ...recipient, 'oci:source:v1', 'oci:theirs:v1');
  expect(encrypted).toMatchObject({ status: 0 });
  const verify = ['verify', '--key', 'acme.pub.pem', 'oci:theirs:v1'];
  expect(await latchkey(...verify)).toMatchObject({ status: 66 });
  const require = ['--require-entitlement', 'sso'];
  const registered = await latchkey(
    'release',
    'register',
    '--image-key',
    'web.key',
    ...require,
    'oci:theirs:v1',
  );
  expect(registered).toMatchObject({ status: 0, stderr: '' });
  expect(await adminClient(server).releases()).toMatchObject([{ entitlementCodes: ['sso'] }]);
  expect(existsSync(join(directory, 'web.key'))).toBe(false);
  expect(await latchkey(...verify)).toMatchObject({ status: 0 });
});

test('says that an archive stays without it', async () => {
  await latchkey('image-key', 'create', '--product', 'acme', '--out', 'tar.key');
  const recipient = ['--recipient', 'provider:latchkey:image-key=tar.key'];
  await latchkey('encrypt', ...recipient, 'oci:source:v1', 'oci-archive:theirs.tar:v1');
  const image = 'oci-archive:theirs.tar:v1';
  const registered = await latchkey('release', 'register', '--image-key', 'tar.key', image);
  expect(registered).toMatchObject({
    status: 0,
    stderr: expect.stringContaining('not attached') as string,
  });
});

test('removes the key itself where a link was named, and keeps it until the work is done', async () => {
  await latchkey('image-key', 'create', '--product', 'acme', '--out', 'real.key');
  await symlink('real.key', join(directory, 'link.key'));
  const recipient = ['--recipient', 'provider:latchkey:image-key=link.key'];
  await latchkey('encrypt', ...recipient, 'oci:source:v1', 'oci:linked:v1');
  const register = ['release', 'register', '--image-key', 'link.key', 'oci:linked:v1'];
  expect(await latchkey(...register, '--server', 'http://127.0.0.1:9')).toMatchObject({ status: 69 });
  expect(await latchkey(...register, '--keep')).toMatchObject({ status: 0 });
  expect(existsSync(join(directory, 'real.key'))).toBe(true);
  expect(await latchkey(...register)).toMatchObject({ status: 0 });
  expect(existsSync(join(directory, 'real.key'))).toBe(false);
});
