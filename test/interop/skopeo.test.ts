/** Debian's skopeo (Go ocicrypt) as the other side of the format. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { digestHex, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { fakeIndex } from '../fakes/image.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const SKOPEO = '/usr/bin/skopeo';
const reason = existsSync(SKOPEO) ? '' : ` (skipped: needs ${SKOPEO}: apt-get install skopeo)`;
const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const run = promisify(execFile);
const latchkey = (...args: string[]) => run(process.execPath, [LATCHKEY, ...args]);
const skopeo = (...args: string[]) => run(SKOPEO, ['--insecure-policy', ...args]);

describe.skipIf(reason !== '')(`skopeo${reason}`, () => {
  let directory: string;
  let content: Buffer;
  const at = (name: string) => join(directory, name);

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-skopeo-'));
    content = Buffer.from('Acme proprietary\n'.repeat(5000));
    const layers = [
      await realLayer(MEDIA_TYPE.ociLayerGzip, content),
      await realLayer(MEDIA_TYPE.ociLayer, content.subarray(17)),
    ];
    const source = openLayout(at('source'));
    await storeRealImage(source, layers, { tag: 'v1' });
    const children = await Promise.all(
      ['amd64', 'arm64'].map(async (architecture) => ({
        ...(await storeRealImage(source, layers, { architecture, isChild: true })),
        architecture,
      })),
    );
    await source.writeManifest(fakeIndex(children), 'multi');
    await latchkey('keygen', at('ec'));
    await latchkey('keygen', at('rsa'), '--type', 'rsa');
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  /** Unpacks every layer with tar, as a runtime would, and checks the diff IDs of the config. */
  async function checkContent(layout: string): Promise<void> {
    const store = openLayout(layout);
    const [image] = platformImages(await readImageGraph(store, 'v1'));
    for (const [position, layer] of image!.manifest.layers.entries()) {
      const bytes = await readFile(join(layout, 'blobs', 'sha256', digestHex(layer.digest)));
      const isGzip = layer.mediaType === MEDIA_TYPE.ociLayerGzip;
      const unpacked = isGzip ? gunzipSync(bytes) : bytes;
      expect(digestOf(unpacked)).toBe(image!.diffIds[position]);
      await writeFile(at('layer.tar'), bytes);
      const { stdout } = await run('tar', [isGzip ? '-xzOf' : '-xOf', at('layer.tar'), 'data/file']);
      expect(Buffer.from(stdout).equals(position === 0 ? content : content.subarray(17))).toBe(true);
    }
  }

  test.each([
    ['an EC key', ['ec']],
    ['an RSA key', ['rsa']],
    ['one of several keys', ['ec', 'rsa']],
  ])('decrypts our image with %s', async (_what, names) => {
    const out = at(`ours-${names.join('-')}`);
    const recipients = names.flatMap((name) => ['--recipient', `jwe:${at(name)}.pub.pem`]);
    await latchkey('encrypt', `oci:${at('source')}:v1`, `oci:${out}:v1`, ...recipients);
    for (const name of names) {
      const plain = `${out}-plain-${name}`;
      await skopeo('copy', '--decryption-key', `${at(name)}.pem`, `oci:${out}:v1`, `oci:${plain}:v1`);
      await checkContent(plain);
    }
  });

  test.each(['ec', 'rsa'])('encrypts an image that we decrypt with an %s key', async (name) => {
    const theirs = at(`theirs-${name}`);
    const encryption = ['--encryption-key', `jwe:${at(name)}.pub.pem`];
    await skopeo('copy', ...encryption, `oci:${at('source')}:v1`, `oci:${theirs}:v1`);
    const plain = at(`plain-${name}`);
    await latchkey('decrypt', `oci:${theirs}:v1`, `oci:${plain}:v1`, '--key', `${at(name)}.pem`);
    await checkContent(plain);
  });

  test('and we agree on a round trip of ours', async () => {
    const recipient = ['--recipient', `jwe:${at('ec')}.pub.pem`];
    await latchkey('encrypt', `oci:${at('source')}:v1`, `oci:${at('own')}:v1`, ...recipient);
    await latchkey('decrypt', `oci:${at('own')}:v1`, `oci:${at('own-plain')}:v1`, '--key', `${at('ec')}.pem`);
    await checkContent(at('own-plain'));
  });

  test('sees all platforms of an encrypted index', async () => {
    const recipient = ['--recipient', `jwe:${at('ec')}.pub.pem`];
    await latchkey('encrypt', `oci:${at('source')}:multi`, `oci:${at('multi')}:v1`, ...recipient);
    const { stdout } = await skopeo('inspect', '--raw', `oci:${at('multi')}:v1`);
    const index = JSON.parse(stdout) as { manifests: { platform: { architecture: string } }[] };
    expect(index.manifests.map(({ platform }) => platform.architecture)).toEqual(['amd64', 'arm64']);
    await skopeo(
      ...['--override-arch', 'arm64', 'copy', '--decryption-key', `${at('ec')}.pem`],
      ...[`oci:${at('multi')}:v1`, `oci:${at('arm64')}:v1`],
    );
    await checkContent(at('arm64'));
  });
});
