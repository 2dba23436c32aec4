/** External key providers with Debian 13's skopeo as the other side: what one encrypts, the other decrypts. */
import { execFile } from 'node:child_process';
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
import { peerTool, peerToolsSkipReason } from '../../lab/peer-tools.ts';
import { type ProviderService, startProviderService } from '../fakes/key-provider-service.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const PROGRAM = join(import.meta.dirname, '..', 'fakes', 'key-provider-program.ts');
const API_TOKEN = 'token-of-the-admin-api';
const skipReason = peerToolsSkipReason('skopeo');
const run = promisify(execFile);

interface Failure {
  readonly code: number;
  readonly stderr: string;
}

describe.skipIf(skipReason !== undefined)(`an external key provider ${skipReason ?? ''}`, () => {
  let directory: string;
  let service: ProviderService;
  const at = (name: string) => join(directory, name);
  const layout = (name: string) => `oci:${at(name)}:v1`;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lk-ext-'));
    const content = Buffer.from('Acme proprietary\n'.repeat(5000));
    const layers = [
      await realLayer(MEDIA_TYPE.ociLayerGzip, content),
      await realLayer(MEDIA_TYPE.ociLayerGzip, content.subarray(17)),
    ];
    await storeRealImage(openLayout(at('source')), layers, { tag: 'v1' });
    service = await startProviderService();
    for (const behaviour of ['base64', 'numbers', 'fail']) {
      const cmd = { path: process.execPath, args: [PROGRAM, directory, behaviour] };
      await configure(behaviour, { acme: { cmd } });
    }
    await configure('grpc', { acme: { grpc: service.address } });
    await configure('ttrpc', { acme: { ttrpc: 'unix:///run/x.sock' } });
    for (const name of ['right', 'wrong']) await latchkey('base64', 'keygen', at(name));
  });

  afterAll(async () => {
    service.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function configure(name: string, providers: object): Promise<void> {
    await writeFile(at(`${name}.json`), JSON.stringify({ 'key-providers': providers }));
  }

  function environment(config: string): NodeJS.ProcessEnv {
    const OCICRYPT_KEYPROVIDER_CONFIG = at(`${config}.json`);
    return { ...process.env, OCICRYPT_KEYPROVIDER_CONFIG, LATCHKEY_TOKEN: API_TOKEN };
  }

  function latchkey(config: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
    return run(process.execPath, [LATCHKEY, ...args], { env: environment(config) });
  }

  function skopeo(config: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
    return run(peerTool('skopeo'), ['--insecure-policy', ...args], { env: environment(config) });
  }

  async function failureOf(work: Promise<unknown>): Promise<Failure> {
    return work.then(
      () => {
        throw new Error('expected a failure');
      },
      (error: unknown) => error as Failure,
    );
  }

  async function checkContent(name: string): Promise<void> {
    const [image] = platformImages(await readImageGraph(openLayout(at(name)), 'v1'));
    expect(image!.manifest.layers).toHaveLength(2);
    for (const [position, layer] of image!.manifest.layers.entries()) {
      expect(layer.mediaType).toBe(MEDIA_TYPE.ociLayerGzip);
      const bytes = await readFile(join(at(name), 'blobs', 'sha256', digestHex(layer.digest)));
      expect(digestOf(gunzipSync(bytes))).toBe(image!.diffIds[position]);
    }
  }

  /** The documents that the program got since the last time. */
  async function takeRequests(): Promise<string> {
    const text = await readFile(at('requests'), 'utf8');
    await rm(at('requests'));
    return text;
  }

  test.each(['base64', 'numbers', 'grpc'])(
    'that answers by %s opens for skopeo what we wrapped',
    async (form) => {
      const ours = `ours-${form}`;
      const recipient = ['--recipient', 'provider:acme:tenant=a:b'];
      await latchkey(form, 'encrypt', layout('source'), layout(ours), ...recipient);
      const key = ['--decryption-key', 'provider:acme'];
      await skopeo(form, 'copy', ...key, layout(ours), layout(`${ours}-plain`));
      await checkContent(`${ours}-plain`);
    },
  );

  test.each(['base64', 'numbers', 'grpc'])(
    'that answers by %s opens for us what skopeo wrapped',
    async (form) => {
      const theirs = `theirs-${form}`;
      const encryption = ['--encryption-key', 'provider:acme:tenant=a:b'];
      await skopeo(form, 'copy', ...encryption, layout('source'), layout(theirs));
      // The annotation chooses the provider; a key only adds a parameter.
      await latchkey(form, 'decrypt', layout(theirs), layout(`${theirs}-plain`));
      await checkContent(`${theirs}-plain`);
      const key = ['--key', 'provider:acme:license=42'];
      await latchkey(form, 'decrypt', ...key, layout(theirs), layout(`${theirs}-again`));
      await checkContent(`${theirs}-again`);
    },
  );

  test('gets from us the same request as from skopeo', async () => {
    await rm(at('requests'), { force: true });
    await skopeo('base64', 'copy', '--encryption-key', 'provider:acme', layout('source'), layout('same-1'));
    const theirs = await takeRequests();
    await latchkey('base64', 'encrypt', layout('source'), layout('same-2'), '--recipient', 'provider:acme');
    const ours = await takeRequests();
    const shape = (text: string) =>
      text
        .replaceAll(/"optsdata":"[^"]*"/g, '"optsdata":""')
        .split('\n')
        .sort();
    expect(shape(ours)).toEqual(shape(theirs));
  });

  test('never sees a private key of the user, nor the token of the admin API', async () => {
    const recipients = ['--recipient', `jwe:${at('right.pub.pem')}`, '--recipient', 'provider:acme'];
    await latchkey('base64', 'encrypt', layout('source'), layout('both'), ...recipients);
    const privateKey = await readFile(at('wrong.pem'));
    await rm(at('requests'), { force: true });
    await rm(at('environment'), { force: true });
    const keys = ['--key', at('wrong.pem'), '--key', 'provider:acme:license=42'];
    await latchkey('base64', 'decrypt', ...keys, layout('both'), layout('both-plain'));
    const ours = await takeRequests();
    expect(ours).toContain(Buffer.from('license=42').toString('base64'));
    for (const secret of [privateKey.toString('base64'), 'privkeys', API_TOKEN])
      expect(ours).not.toContain(secret);
    expect(await readFile(at('environment'), 'utf8')).not.toContain(API_TOKEN);
    // The same keys with skopeo: so this test would have seen it.
    const peers = ['--decryption-key', at('wrong.pem'), '--decryption-key', 'provider:acme:license=42'];
    await skopeo('base64', 'copy', ...peers, layout('both'), layout('both-theirs'));
    expect(await takeRequests()).toContain(privateKey.toString('base64'));
  });

  test('that fails does not keep a key that is here from opening the image', async () => {
    const recipients = ['--recipient', 'provider:acme', '--recipient', `jwe:${at('right.pub.pem')}`];
    await latchkey('base64', 'encrypt', layout('source'), layout('either'), ...recipients);
    await latchkey('fail', 'decrypt', '--key', at('right.pem'), layout('either'), layout('either-plain'));
    await checkContent('either-plain');
  });

  test('that fails is quoted in one line', async () => {
    await latchkey('base64', 'encrypt', layout('source'), layout('only'), '--recipient', 'provider:acme');
    const { stderr } = await failureOf(latchkey('fail', 'decrypt', layout('only'), layout('only-plain')));
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => line.startsWith('latchkey:'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('no such key');
    expect(lines[0]).not.toMatch(/\p{Cc}/u);
  });

  test.each([
    ['base64', 'provider:other', 'no key provider "other" is configured'],
    ['ttrpc', 'provider:acme', 'configured with ttrpc'],
    ['missing', 'provider:acme', 'cannot be read'],
  ])('configured in %s and asked for as %s is explained', async (config, recipient, message) => {
    const work = latchkey(config, 'encrypt', layout('source'), layout('none'), '--recipient', recipient);
    expect((await failureOf(work)).stderr).toContain(message);
  });

  test('that is configured in a file that is not there is none', async () => {
    const { stderr } = await failureOf(latchkey('missing', 'decrypt', layout('source'), layout('none')));
    expect(stderr).not.toContain('missing.json');
  });
});
