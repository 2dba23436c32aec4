/** Images of a registry that are signed as they are found there: they are named by their digest. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { type FakeRegistry, startFakeRegistry } from '../fakes/registry.ts';
import { adminClient } from '../fakes/sold-product.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

let directory: string;
let server: TestKeyServer;
let registry: FakeRegistry;
let token: string;
/** By tag, and by digest. */
let tagged: string;
let pinned: string;

function latchkey(...args: string[]) {
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: token };
  return runLatchkey([...args, '--json'], { directory, env });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-pinned-'));
  [server, registry] = await Promise.all([startKeyServer(), startFakeRegistry()]);
  const admin = adminClient(server);
  await admin.createProduct({ code: 'acme', name: 'Acme' });
  ({ token } = await admin.createToken({ name: 'ci', permissionSet: 'release' }));
  await storeRealImage(openLayout(join(directory, 'source')), [await realLayer(MEDIA_TYPE.ociLayer)], {
    tag: 'v1',
  });
  for (const name of ['isv', 'one', 'new']) await latchkey('keygen', name);
  await latchkey('keygen', '--type', 'ed25519', 'vendor');
  tagged = `docker://${registry.host}/web:1`;
  const recipients = ['--recipient', 'jwe:isv.pub.pem', '--recipient', 'jwe:one.pub.pem'];
  const { stdout } = await latchkey('encrypt', 'oci:source:v1', tagged, ...recipients);
  const { digest } = JSON.parse(stdout) as { digest: string };
  pinned = `docker://${registry.host}/web@${digest}`;
});

afterAll(async () => {
  await registry.stop();
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

test.each<[string, string[]]>([
  ['opened here and signed by the key server', ['add', '--key', 'isv.pem', '--product', 'acme']],
  [
    'opened here and signed by its vendor',
    ['add', '--key', 'isv.pem', '--recipient', 'jwe:new.pub.pem', '--sign-key', 'vendor.pem'],
  ],
  [
    'encrypted again and signed by its vendor',
    [
      ...['remove', 'jwe#1.2', '--key', 'isv.pem', '--recipient', 'jwe:isv.pub.pem'],
      ...['--sign-key', 'vendor.pem'],
    ],
  ],
  [
    'freed of a wrapped key and signed by its vendor',
    ['remove', 'jwe#1.2', '--keep-layer-keys', '--sign-key', 'vendor.pem'],
  ],
])('what only a tag of a registry names is not %s', async (_name, [command, ...args]) => {
  const change = (from: string) => latchkey('recipients', command!, from, 'oci:changed:1', ...args);
  expect(await change(tagged)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('is whatever the registry says') as string,
  });
  expect(await change(pinned)).toMatchObject({ status: 0 });
});

test('what only a tag of a registry names is not registered for another tool', async () => {
  await latchkey('image-key', 'create', '--product', 'acme', '--out', 'web.key');
  const register = (image: string) => latchkey('release', 'register', '--image-key', 'web.key', image);
  expect(await register(tagged)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('is whatever the registry says') as string,
  });
  expect((await register(pinned)).stderr).toContain('is not encrypted with image key');
});
