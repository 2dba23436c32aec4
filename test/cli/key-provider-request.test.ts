/** `latchkey keyprovider` at release: requests as tools send them, image key files as people keep them. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import { parseElement } from '#src/keywrap/latchkey-element.ts';
import { createLatchkeyUnwrapper } from '#src/keywrap/latchkey.ts';
import { formatWrapRequest, parseWrapAnswer } from '#src/keywrap/provider-protocol.ts';
import { digestOf } from '#src/oci/digest.ts';
import { type ImageKeyFile, readImageKeyFile, writeImageKeyFile } from '../../cli/image-key-file.ts';
import { answerProviderRequest, readRequest } from '../../cli/key-provider-request.ts';

const KEY: ImageKeyFile = {
  imageKeyId: 'ik-1',
  owner: { imageKeyId: 'ik-1', organizationId: 'org-1', contact: 'help@acme.example' },
  productCode: 'acme',
  imageKey: randomBytes(32),
  sealedImageKey: 'a.b.c.d.e',
};
const OPTIONS = { symmetricKey: randomBytes(32), nonce: randomBytes(16), plainDigest: digestOf('layer') };

let directory: string;
let keyPath: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-image-key-'));
  keyPath = join(directory, 'web.key');
  await writeImageKeyFile(keyPath, KEY);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function answer(document: Uint8Array): Promise<Uint8Array> {
  return answerProviderRequest(document, '/nowhere.sock', new AbortController().signal);
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

describe('an image key file', () => {
  test('comes back as it was, for its owner alone', async () => {
    const { owner, ...rest } = await readImageKeyFile(keyPath);
    expect({ owner, ...rest, imageKey: Buffer.from(rest.imageKey) }).toEqual(KEY);
    expect((await stat(keyPath)).mode & 0o777).toBe(0o600);
  });

  test('is never overwritten', async () => {
    const before = await readFile(keyPath);
    await expect(writeImageKeyFile(keyPath, { ...KEY, imageKeyId: 'ik-2' })).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
    });
    expect(await readFile(keyPath)).toEqual(before);
  });

  test('that others can read is refused, and mended by the command that is told', async () => {
    const path = join(directory, 'open.key');
    await writeImageKeyFile(path, KEY);
    await chmod(path, 0o644);
    await expect(readImageKeyFile(path)).rejects.toMatchObject({
      code: 'KEY_INVALID',
      hint: `run: chmod 600 ${path}`,
    });
  });

  test('of whatever content raises nothing but our error, and that never shows the content', async () => {
    const path = join(directory, 'noise.key');
    const good = JSON.parse(await readFile(keyPath, 'utf8')) as Record<string, unknown>;
    const check = async (content: string | Uint8Array) => {
      await writeFile(path, content, { mode: 0o600 });
      const failure = await readImageKeyFile(path).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: 'KEY_INVALID' });
      // A parser's own message may quote what it has read.
      expect(failure).not.toHaveProperty('cause');
    };
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), check), { numRuns: 30 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...Object.keys(good)), fc.jsonValue(), async (name, value) => {
        fc.pre(typeof value !== 'string' && !(name === 'version' && value === 1));
        await check(JSON.stringify({ ...good, [name]: value }));
      }),
      { numRuns: 60 },
    );
    await check(JSON.stringify({ ...good, imageKey: Buffer.alloc(31).toString('base64') }));
    await check(JSON.stringify({ ...good, more: true }));
  });
});

describe('wrapping', () => {
  test('gives an element of the image key', async () => {
    const privateOptions = formatPrivateOptions(OPTIONS);
    const request = formatWrapRequest('latchkey', `image-key=${keyPath}`, privateOptions);
    const element = parseWrapAnswer(await answer(request));
    expect(parseElement(element).header).toEqual({
      ...KEY.owner,
      plainDigest: OPTIONS.plainDigest,
    });
    const opened = await createLatchkeyUnwrapper('ik-1', KEY.imageKey).unwrap(element);
    expect(Buffer.from(opened!)).toEqual(Buffer.from(privateOptions));
  });

  test.each([
    ['under another name', 'other', `image-key=x`, /under the name latchkey/],
    ['without a file', 'latchkey', 'Enabled', /one image key is needed/],
    ['with an empty path', 'latchkey', 'image-key=', /one image key is needed/],
    ['with a file that is not there', 'latchkey', 'image-key=/nowhere/key', /no image key file/],
  ])('%s is explained', async (_what, name, parameter, message) => {
    await expect(answer(formatWrapRequest(name, parameter, formatPrivateOptions(OPTIONS)))).rejects.toThrow(
      message,
    );
  });

  test('with two files is refused: which one would be registered?', async () => {
    const encoded = Buffer.from(`image-key=${keyPath}`).toString('base64');
    const optsdata = Buffer.from(formatPrivateOptions(OPTIONS)).toString('base64');
    const ec = { Parameters: { latchkey: [encoded, encoded] } };
    const request = Buffer.from(JSON.stringify({ op: 'keywrap', keywrapparams: { ec, optsdata } }));
    await expect(answer(request)).rejects.toThrow(/one image key is needed/);
  });

  test('for a layer without a digest, or what is no layer key, is refused', async () => {
    const parameter = `image-key=${keyPath}`;
    const nameless = formatPrivateOptions({ ...OPTIONS, plainDigest: undefined });
    await expect(answer(formatWrapRequest('latchkey', parameter, nameless))).rejects.toMatchObject({
      code: 'INPUT_UNSUPPORTED',
    });
    const noise = answer(formatWrapRequest('latchkey', parameter, Buffer.from('{"symkey":7}')));
    await expect(noise).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  });
});

describe('the request', () => {
  test('is read whole, in whatever pieces it comes', async () => {
    const bytes = randomBytes(1000);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 1200 }), async (size) => {
        expect(Buffer.from(await readRequest(inPieces(bytes, size)))).toEqual(bytes);
      }),
    );
  });

  test('is not read beyond the limit', async () => {
    const reading = readRequest(inPieces(Buffer.alloc(MAX_PROVIDER_MESSAGE_BYTES + 1), 65536));
    await expect(reading).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  test('of noise raises nothing but our error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json(), async (text) => {
        await expect(answer(Buffer.from(text))).rejects.toBeInstanceOf(LatchkeyError);
      }),
    );
  });

  test('to open says what is missing when there is no agent', async () => {
    const request = { op: 'keyunwrap', keyunwrapparams: { annotation: 'QQ==' } };
    await expect(answer(Buffer.from(JSON.stringify(request)))).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
      hint: expect.stringContaining('[key_provider] socket') as string,
    });
  });
});
