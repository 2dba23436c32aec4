/** An image that skopeo has encrypted; how is written beside it. */
import { createPublicKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parsePrivateKey } from '#src/crypto/key-file.ts';
import { createJweUnwrapper } from '#src/keywrap/jwe.ts';
import { type Digest, parseDigest } from '#src/oci/digest.ts';
import { type EncryptedFixture, withExpectations } from './encrypted-fixture.ts';

const PATH = join(import.meta.dirname, '..', 'vectors', 'skopeo-image.json');

interface Vector {
  readonly root: string;
  readonly ecPrivateKey: string;
  readonly blobs: Readonly<Record<string, string>>;
}

export async function skopeoFixture(): Promise<EncryptedFixture> {
  const vector = JSON.parse(await readFile(PATH, 'utf8')) as Vector;
  const blobs = new Map<Digest, Uint8Array>(
    Object.entries(vector.blobs).map(([digest, bytes]) => [
      parseDigest(digest),
      Buffer.from(bytes, 'base64'),
    ]),
  );
  const privateKey = parsePrivateKey(Buffer.from(vector.ecPrivateKey), 'the key');
  return withExpectations({
    name: 'skopeo',
    blobs,
    root: parseDigest(vector.root),
    unwrappers: [createJweUnwrapper(privateKey)],
    publicKey: createPublicKey(vector.ecPrivateKey),
  });
}
