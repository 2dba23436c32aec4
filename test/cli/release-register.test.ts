/** What becomes of the file with the image key, once the release is registered. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import { publishImage } from '#src/image/publish.ts';
import { createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { readImageKeyFile } from '../../cli/image-key-file.ts';
import { run } from '../../cli/main.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

let directory: string;
let server: TestKeyServer;
const at = (name: string) => join(directory, name);

async function latchkey(...args: string[]) {
  const written = { stdout: '', stderr: '' };
  const status = await run(args, {
    stdout: { write: (text) => (written.stdout += text) },
    stderr: { write: (text) => (written.stderr += text) },
    env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken },
    clock: systemClock,
    signal: new AbortController().signal,
  });
  return { status, ...written };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-register-'));
  server = await startKeyServer();
  await storeRealImage(openLayout(at('plain')), [await realLayer(MEDIA_TYPE.ociLayerGzip)], { tag: '1' });
  expect((await latchkey('product', 'create', 'acme')).status).toBe(0);
});
afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

/** An image encrypted under a new image key, as another tool does it with our key provider. */
async function encryptElsewhere(name: string): Promise<string> {
  const keyPath = at(`${name}.key`);
  expect((await latchkey('image-key', 'create', '--product', 'acme', '--out', keyPath)).status).toBe(0);
  const { owner, imageKey } = await readImageKeyFile(keyPath);
  const graph = await readImageGraph(openLayout(at('plain')), '1');
  await publishImage({
    graph,
    plan: planEncryption(graph, { kind: 'all' }),
    destination: openLayout(at(name)),
    tag: '1',
    wrappers: [createLatchkeyWrapper(owner, imageKey)],
    recipientIds: [],
    repository: name,
    isSalted: false,
    cacheDirectory: at('cache'),
    clock: systemClock,
  });
  return keyPath;
}

test('it is removed, also where the command names a link to it', async () => {
  const keyPath = await encryptElsewhere('linked');
  await symlink(keyPath, at('link.key'));
  const outcome = await latchkey(
    'release',
    'register',
    '--image-key',
    at('link.key'),
    `oci:${at('linked')}:1`,
  );
  expect(outcome).toMatchObject({ status: 0 });
  expect(existsSync(keyPath)).toBe(false);
});

test('it is kept when that is asked for, and when the key server cannot be reached', async () => {
  const keyPath = await encryptElsewhere('kept');
  const register = ['release', 'register', '--image-key', keyPath, `oci:${at('kept')}:1`];
  expect((await latchkey(...register, '--server', 'http://127.0.0.1:9')).status).toBe(69);
  expect(existsSync(keyPath)).toBe(true);
  expect((await latchkey(...register, '--keep')).status).toBe(0);
  expect(existsSync(keyPath)).toBe(true);
});
