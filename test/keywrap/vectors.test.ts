/** Layers that real peers encrypted: every scheme, every recipient, every way to cut the ciphertext, and what must fail. */
import { X509Certificate, constants, privateDecrypt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LayerDecryptor } from '#src/crypto/layer-cipher.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { parsePrivateKey } from '#src/crypto/key-file.ts';
import { publicOptionsOf, unwrapLayerKey } from '#src/keywrap/annotations.ts';
import { createJweUnwrapper } from '#src/keywrap/jwe.ts';
import { type KeyUnwrapper, PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { parsePgpPrivateKeys } from '#src/keywrap/pgp-keys.ts';
import { createPgpUnwrapper } from '#src/keywrap/pgp.ts';
import { type TokenDecryption, createPkcs11Unwrapper } from '#src/keywrap/pkcs11.ts';
import { createTokenDecryption } from '#src/keywrap/pkcs11-token.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { createPkcs7Unwrapper } from '#src/keywrap/pkcs7.ts';
import { createProviderUnwrapper } from '#src/keywrap/provider.ts';
import { digestOf } from '#src/oci/digest.ts';
import { compressionOf, isEncrypted, isLayer } from '#src/oci/media-types.ts';
import { type OcicryptVector, PGP_PASSWORD, readVector, readVectorKey } from '../fakes/ocicrypt-vector.ts';
import { TOKEN_PIN, createSoftToken, softTokenSkipReason } from '../fakes/soft-token.ts';

const UNPACK = { none: (bytes: Buffer) => bytes, gzip: gunzipSync, zstd: zstdDecompressSync };
const TAR_MAGIC_OFFSET = 257;

const privateKey = (name: string) => parsePrivateKey(readVectorKey(`${name}.pem`), name);
const jwe = async (name: string) => createJweUnwrapper(privateKey(name));
const pkcs7 = async (name: string) =>
  createPkcs7Unwrapper(new X509Certificate(readVectorKey(`${name}.crt`)), privateKey(name));
const pgp = async (file: string, password?: string) =>
  createPgpUnwrapper(await parsePgpPrivateKeys(readVectorKey(file), file, password));

const programDirectory = await mkdtemp(join(tmpdir(), 'latchkey-provider-'));
afterAll(() => rm(programDirectory, { recursive: true, force: true }));

/** The program that the peer asked; it keeps what it is asked in the directory. */
const provider = async () => {
  const args = [join(import.meta.dirname, '..', 'fakes', 'key-provider-program.ts'), programDirectory];
  const transport = { kind: 'command', path: process.execPath, args } as const;
  return createProviderUnwrapper({ name: 'acme', transport, environment: process.env }, undefined);
};

/** The token's key in software: SoftHSM has no OAEP with SHA-256. */
const inSoftware: TokenDecryption = async ([block]) => {
  const { RSA_PKCS1_OAEP_PADDING: padding } = constants;
  return privateDecrypt({ key: privateKey('token'), padding, oaepHash: block!.hash }, block!.ciphertext);
};

async function open(vector: OcicryptVector, unwrapper: KeyUnwrapper, chunkBytes: number): Promise<Buffer> {
  const { annotations } = vector.descriptor;
  const privateOptions = await unwrapLayerKey(annotations, [unwrapper]);
  const decryptor = new LayerDecryptor(parsePrivateOptions(privateOptions!), publicOptionsOf(annotations));
  const chunks: Buffer[] = [];
  for (let offset = 0; offset < vector.ciphertext.length; offset += chunkBytes) {
    chunks.push(decryptor.update(vector.ciphertext.subarray(offset, offset + chunkBytes)));
  }
  decryptor.verify();
  return Buffer.concat(chunks);
}

const cases: [string, string, () => Promise<KeyUnwrapper>][] = [
  ['skopeo-jwe-rsa', 'an RSA key', () => jwe('rsa')],
  ['buildah-jwe-ec', 'an EC key', () => jwe('ec')],
  ['skopeo-jwe-several', 'the first of three', () => jwe('ec')],
  ['skopeo-jwe-several', 'the second of three', () => jwe('rsa')],
  ['skopeo-jwe-several', 'the third of three', () => jwe('ec384')],
  ['skopeo-jwe-nondistributable', 'an EC key', () => jwe('ec')],
  ['library-jwe-added', 'the first key', () => jwe('rsa')],
  ['library-jwe-added', 'a key added later', () => jwe('ec')],
  ['library-jwe-added', 'the key added last', () => jwe('ec384')],
  ['skopeo-pkcs7', 'the first certificate', () => pkcs7('rsa')],
  ['skopeo-pkcs7', 'the second certificate', () => pkcs7('token')],
  ['skopeo13-pkcs7', 'the second certificate', () => pkcs7('token')],
  ['skopeo-pgp', 'an armored key', () => pgp('pgp.asc')],
  ['skopeo-pgp', 'a binary key with a password', () => pgp('pgp-locked.gpg', PGP_PASSWORD)],
  ['skopeo13-provider', 'its key provider', provider],
  ['skopeo-pkcs11-sha1', 'the key outside its token', async () => createPkcs11Unwrapper(inSoftware)],
  ['skopeo-pkcs11-sha256', 'the key outside its token', async () => createPkcs11Unwrapper(inSoftware)],
];

describe.each(cases)("a peer's %s with %s", (name, _key, unwrapper) => {
  const vector = readVector(name);

  test.each([
    ['whole', Infinity],
    ['in odd chunks', 7],
    ['in odd chunks across blocks', 61],
    ['byte by byte', 1],
  ])('is read %s', async (_how, chunkBytes) => {
    expect(digestOf(vector.ciphertext)).toBe(vector.descriptor.digest);
    expect(await open(vector, await unwrapper(), chunkBytes)).toEqual(vector.plaintext);
  });

  test('says by its media type what the plaintext is', () => {
    const { mediaType } = vector.descriptor;
    expect({ isEncrypted: isEncrypted(mediaType), isLayer: isLayer(mediaType) }).toEqual({
      isEncrypted: true,
      isLayer: true,
    });
    const tar = UNPACK[compressionOf(mediaType)](vector.plaintext);
    expect(tar.toString('latin1', TAR_MAGIC_OFFSET, TAR_MAGIC_OFFSET + 5)).toBe('ustar');
  });

  test('is refused truncated, changed and with another MAC', async () => {
    const authentic = expect.objectContaining({ code: 'CRYPTO_AUTHENTICATION_FAILED' }) as unknown as Error;
    const truncated = { ...vector, ciphertext: vector.ciphertext.subarray(0, -1) };
    const changed = { ...vector, ciphertext: Buffer.from(vector.ciphertext) };
    changed.ciphertext[5]! ^= 1;
    const { annotations } = vector.descriptor;
    const options = { cipher: 'AES_256_CTR_HMAC_SHA256', hmac: Buffer.alloc(32).toString('base64') };
    const otherMac = withPublicOptions(vector, { ...options, cipheroptions: {} });
    for (const bad of [truncated, changed, otherMac]) {
      await expect(open(bad, await unwrapper(), 16)).rejects.toThrow(authentic);
    }
    expect(annotations?.[PUBLIC_OPTIONS_ANNOTATION]).toBeDefined();
  });

  test('is refused with a public nonce', async () => {
    const encoded = vector.descriptor.annotations?.[PUBLIC_OPTIONS_ANNOTATION] ?? '';
    const options = JSON.parse(Buffer.from(encoded, 'base64').toString()) as object;
    for (const length of [16, 4]) {
      const cipheroptions = { nonce: Buffer.alloc(length).toString('base64') };
      const bad = withPublicOptions(vector, { ...options, cipheroptions });
      await expect(open(bad, await unwrapper(), 16)).rejects.toThrow(/carry a nonce/);
    }
  });
});

function withPublicOptions(vector: OcicryptVector, options: object): OcicryptVector {
  const annotations = {
    ...vector.descriptor.annotations,
    [PUBLIC_OPTIONS_ANNOTATION]: Buffer.from(JSON.stringify(options)).toString('base64'),
  };
  return { ...vector, descriptor: { ...vector.descriptor, annotations } };
}

test.each<[string, () => Promise<KeyUnwrapper>]>([
  ['skopeo-jwe-rsa', () => jwe('ec')],
  ['skopeo-jwe-rsa', () => jwe('token')],
  ['buildah-jwe-ec', () => jwe('ec384')],
  ['skopeo-jwe-several', () => jwe('token')],
  ['library-jwe-added', () => jwe('token')],
])('%s is not for another key', async (name, unwrapper) => {
  expect(await unwrapLayerKey(readVector(name).descriptor.annotations, [await unwrapper()])).toBeNull();
});

const reason = softTokenSkipReason();

describe.skipIf(reason !== '')(`a peer's pkcs11 layer with its token${reason}`, () => {
  let directory: string;
  let decryption: TokenDecryption;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-token-'));
    const { modulePath, moduleEnvironment, path } = await createSoftToken(directory);
    const uri = parsePkcs11Uri(`${path}?module-path=${modulePath}`);
    decryption = createTokenDecryption({ uri, modulePath, moduleEnvironment, pin: TOKEN_PIN });
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('is opened', async () => {
    const vector = readVector('skopeo-pkcs11-sha1');
    expect(await open(vector, createPkcs11Unwrapper(decryption), 7)).toEqual(vector.plaintext);
  });

  test('is refused, saying why, when the token lacks the hash', async () => {
    const { annotations } = readVector('skopeo-pkcs11-sha256').descriptor;
    await expect(unwrapLayerKey(annotations, [createPkcs11Unwrapper(decryption)])).rejects.toThrow(
      /the token refuses RSA-OAEP with sha256/,
    );
  });
});
