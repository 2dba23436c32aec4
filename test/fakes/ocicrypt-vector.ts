/** Layers that real peers encrypted, with the keys that open them (test/vectors/README.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Descriptor } from '#src/oci/descriptor.ts';

const DIRECTORY = join(import.meta.dirname, '..', 'vectors', 'ocicrypt');

/** The password of `pgp-locked.gpg`. */
export const PGP_PASSWORD = 'open sesame';

export interface OcicryptVector {
  readonly peer: string;
  readonly descriptor: Descriptor;
  readonly ciphertext: Buffer;
  readonly plaintext: Buffer;
}

export function readVector(name: string): OcicryptVector {
  const vector = JSON.parse(readFileSync(join(DIRECTORY, `${name}.json`), 'utf8')) as {
    peer: string;
    descriptor: Descriptor;
    ciphertext: string;
    plaintext: string;
  };
  return {
    ...vector,
    ciphertext: Buffer.from(vector.ciphertext, 'base64'),
    plaintext: Buffer.from(vector.plaintext, 'base64'),
  };
}

export function vectorKeyPath(name: string): string {
  return join(DIRECTORY, 'keys', name);
}

export function readVectorKey(name: string): Buffer {
  return readFileSync(vectorKeyPath(name));
}

/** The elements of one scheme's comma list. */
export function elementsOf({ descriptor }: OcicryptVector, scheme: string): Buffer[] {
  const list = descriptor.annotations?.[`org.opencontainers.image.enc.keys.${scheme}`] ?? '';
  return list.split(',').map((element) => Buffer.from(element, 'base64'));
}
