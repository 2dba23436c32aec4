/** `latchkey verify` and what it needs, as processes: a key server, Debian's registry, layouts, archives. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readImageGraph } from '#src/image/image-graph.ts';
import { readAttachedStatements } from '#src/image/statement-referrer.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestHex } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import {
  type DockerRegistry,
  dockerRegistrySkipReason,
  startDockerRegistry,
} from '../../lab/docker-registry.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { fakeIndex } from '../fakes/image.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const skipReason = dockerRegistrySkipReason();

let directory: string;
let server: TestKeyServer;
const at = (name: string) => join(directory, name);

function latchkey(...args: string[]) {
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken };
  return runLatchkey(args, { directory, env });
}

async function succeed(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await latchkey(...args);
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-verify-'));
  server = await startKeyServer();
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayerGzip)];
  const config = { config: { Cmd: ['/bin/true'] } };
  await storeRealImage(openLayout(at('source')), layers, { tag: 'v1', config });
  await succeed('product', 'create', 'acme');
  await succeed('keygen', '--type', 'ed25519', 'vendor');
  await succeed('keygen', 'recipient');
  await writeFile(at('server.pub.pem'), await succeed('organization', 'release-key'));
  const encrypt = ['encrypt', '--sign-key', 'vendor.pem', '--layer', '1', 'oci:source:v1'];
  await succeed(...encrypt, 'oci:released:1', '--product', 'acme');
});
afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

/** The released image with its manifest changed, in a layout with the statement of the true one in a file. */
async function forge(name: string, change: (layers: readonly Descriptor[]) => readonly Descriptor[]) {
  const released = openLayout(at('released'));
  const manifest = parseManifest((await released.readManifest('1')).bytes);
  const forged = openLayout(at(name));
  await copyBlobs(released, forged, [manifest.config, ...manifest.layers]);
  const layers = change(manifest.layers);
  await forged.writeManifest(
    encodeImageDocument({ ...manifest, mediaType: MEDIA_TYPE.ociManifest, layers }),
    '1',
  );
  const { digest } = (await released.readManifest('1')).descriptor;
  const [statement] = await readAttachedStatements(released, digest);
  await writeFile(at('statement.json'), statement!);
}

test('latchkey inspect tells who is said to have signed, and whether it fits', async () => {
  const inspection = JSON.parse(await succeed('inspect', '--json', 'oci:released:1')) as {
    statements: { keyIds: string[] }[];
  };
  expect(inspection.statements).toMatchObject([{ productCode: 'acme', alterations: [] }]);
  expect(inspection.statements[0]?.keyIds).toHaveLength(2);
  expect(await succeed('inspect', 'oci:released:1')).toMatch(
    /release statement, unchecked.*\n.*product acme\n.*signed by \S+\n.*signed by \S+\n.*fits this image/,
  );
  expect(JSON.parse(await succeed('inspect', '--json', 'oci:source:v1'))).toMatchObject({ statements: [] });
});

describe('latchkey verify', () => {
  test.each(['vendor.pub.pem', 'server.pub.pem'])('says yes with %s, and what was released', async (key) => {
    const text = await succeed('verify', '--key', key, '--blobs', 'oci:released:1');
    expect(text).toMatch(/^verified +oci:released:1$/m);
    expect(text).toMatch(/^product +acme$/m);
    expect(text).toMatch(/^platform +linux\/amd64: 2 layers, 1 of them encrypted$/m);
    expect(text).toMatch(/^layers +all 2 read$/m);
    const json = JSON.parse(await succeed('verify', '--key', key, 'oci:released:1', '--json')) as object;
    expect(json).toMatchObject({ verified: true, isWholeRelease: true, product: 'acme', layersRead: 0 });
  });

  test('says no without a key, with a wrong one, and without a statement', async () => {
    await succeed('keygen', '--type', 'ed25519', 'stranger');
    expect(await latchkey('verify', 'oci:released:1')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/a public key is needed/) as string,
    });
    for (const [status, message, ...args] of [
      [
        65,
        /CRYPTO_AUTHENTICATION_FAILED: the key has not signed the statement/,
        'stranger.pub.pem',
        'oci:released:1',
      ],
      [65, /KEY_INVALID: vendor.pem is a private key/, 'vendor.pem', 'oci:released:1'],
      [66, /there is no key file none.pem/, 'none.pem', 'oci:released:1'],
      [66, /no statement is attached to oci:source/, 'vendor.pub.pem', 'oci:source:v1'],
    ] as const) {
      const outcome = await latchkey('verify', '--key', ...args);
      expect(outcome).toMatchObject({ status, stdout: '', stderr: expect.stringMatching(message) as string });
    }
  });

  test('tells what was altered', async () => {
    const verify = (name: string) =>
      latchkey('verify', '--key', 'vendor.pub.pem', '--statement', 'statement.json', `oci:${name}:1`);
    await forge('reordered', ([first, second]) => [second!, first!]);
    await forge('unlabelled', ([first, second]) => [first!, { ...second!, annotations: {} }]);
    for (const [name, message] of [
      ['reordered', /INPUT_STATEMENT_MISMATCH: .*its layers are in another order/],
      ['unlabelled', /INPUT_STATEMENT_MISMATCH: .*layer 1 has another type, size or key/],
    ] as const) {
      expect(await verify(name)).toMatchObject({
        status: 65,
        stderr: expect.stringMatching(message) as string,
      });
    }
    expect((await verify('released')).status).toBe(0);
  });

  test('finds a changed byte of a layer only when it reads the layers', async () => {
    await succeed('encrypt', 'oci:source:v1', 'oci:flipped:1', '--product', 'acme', '--layer', '1');
    const { nodes } = await readImageGraph(openLayout(at('flipped')), '1');
    const [image] = nodes.filter((node) => node.kind === 'image');
    const path = at(`flipped/blobs/sha256/${digestHex(image!.manifest.layers[1]!.digest)}`);
    const bytes = await readFile(path);
    bytes[100] = (bytes[100] ?? 0) ^ 1;
    await rm(path);
    await writeFile(path, bytes);
    const verify = ['verify', '--key', 'server.pub.pem', 'oci:flipped:1'];
    expect((await latchkey(...verify)).status).toBe(0);
    expect(await latchkey(...verify, '--blobs')).toMatchObject({
      status: 65,
      stderr: expect.stringMatching(/INPUT_DIGEST_MISMATCH/) as string,
    });
  });

  test('takes one platform of a release for a part of it, and says so', async () => {
    const source = openLayout(at('two'));
    const platforms = await Promise.all(
      ['amd64', 'arm64'].map(async (architecture) => {
        const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
        return { ...(await storeRealImage(source, layers, { architecture, isChild: true })), architecture };
      }),
    );
    await source.writeManifest(fakeIndex(platforms), 'v1');
    const recipient = ['--recipient', 'jwe:recipient.pub.pem'];
    await succeed('encrypt', ...recipient, '--sign-key', 'vendor.pem', 'oci:two:v1', 'oci:released-two:1');
    const { source: released, root, nodes } = await readImageGraph(openLayout(at('released-two')), '1');
    const [envelope] = await readAttachedStatements(released, root.descriptor.digest);
    await writeFile(at('two.json'), envelope!);
    const image = `oci:released-two@${nodes[1]!.blob.descriptor.digest}`;
    const text = await succeed('verify', '--key', 'vendor.pub.pem', '--statement', 'two.json', image);
    expect(text).toMatch(/^platform +linux\/arm64: 1 layers, 1 of them encrypted$/m);
    expect(text).toMatch(/^part +one platform of the release/m);
    expect(await succeed('verify', '--key', 'vendor.pub.pem', 'oci:released-two:1')).not.toMatch(/^part/m);
  });

  test('of an image for recipients only needs the vendor’s signature', async () => {
    const recipient = ['--recipient', 'jwe:recipient.pub.pem'];
    await succeed('encrypt', ...recipient, '--sign-key', 'vendor.pem', 'oci:source:v1', 'oci:signed:1');
    await succeed('verify', '--key', 'vendor.pub.pem', 'oci:signed:1');
    const unsigned = await latchkey('encrypt', ...recipient, 'oci:source:v1', 'oci:unsigned:1');
    expect(unsigned).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/nobody can verify this image/) as string,
    });
  });

  test.each([
    ['an RSA key', ['--type', 'rsa', 'rsa'], 'rsa.pem', /signs no statements/],
    ['a public key', ['--type', 'ed25519', 'public'], 'public.pub.pem', /is not a private key/],
  ])('%s does not sign', async (_name, keygen, key, message) => {
    await succeed('keygen', ...keygen);
    const args = ['--recipient', 'jwe:recipient.pub.pem', '--sign-key', key, 'oci:source:v1', 'oci:never:1'];
    expect(await latchkey('encrypt', ...args)).toMatchObject({
      status: 65,
      stderr: expect.stringMatching(message) as string,
    });
  });
});

describe.skipIf(skipReason !== undefined)(`in a registry ${skipReason ?? ''}`, () => {
  let registry: DockerRegistry;
  beforeAll(async () => {
    registry = await startDockerRegistry();
  });
  afterAll(() => registry.stop());

  test('without the referrers API the statement is found under the tag of its image', async () => {
    const image = `docker://${registry.host}/acme/web:1`;
    await succeed('encrypt', 'oci:source:v1', image, '--product', 'acme', '--sign-key', 'vendor.pem');
    await succeed('verify', '--key', 'vendor.pub.pem', '--blobs', image);
    const { digest } = JSON.parse(await succeed('inspect', image, '--json')) as { digest: string };
    const tags = (await (await fetch(`http://${registry.host}/v2/acme/web/tags/list`)).json()) as {
      tags: string[];
    };
    expect(tags.tags).toContain(digest.replace(':', '-'));
  });
});
