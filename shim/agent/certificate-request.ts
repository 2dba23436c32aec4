/** Requests for node certificates. */
import { webcrypto } from 'node:crypto';
import type { KeyUse } from './node-key.ts';

const ECDSA_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** PKCS#10 (RFC 2986): a public key and the node's name, signed with the private key wherever that is. */
export async function certificateRequest(
  key: Pick<KeyUse, 'publicKey' | 'sign'>,
  nodeName: string,
): Promise<Buffer> {
  // Needed at activation and once in the life of a certificate: no reason to hold it in memory all the time.
  await import('reflect-metadata');
  const { Pkcs10CertificateRequestGenerator } = await import('@peculiar/x509');
  const spki = (await key.publicKey()).export({ type: 'spki', format: 'der' });
  const publicKey = await webcrypto.subtle.importKey('spki', Buffer.from(spki), ECDSA_P256, true, ['verify']);
  const subtle = {
    exportKey: () => webcrypto.subtle.exportKey('spki', publicKey),
    sign: async (_algorithm: unknown, _key: unknown, bytes: ArrayBuffer) =>
      Uint8Array.from(await key.sign(Buffer.from(bytes))).buffer,
  };
  const request = await Pkcs10CertificateRequestGenerator.create(
    {
      name: [{ CN: [nodeName] }],
      // The private key is only handed to `sign`, which knows its own.
      keys: { publicKey, privateKey: publicKey },
      signingAlgorithm: ECDSA_P256,
    },
    // All of it that the generator uses.
    { subtle },
  );
  return Buffer.from(request.rawData);
}
