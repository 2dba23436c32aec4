import { X509Certificate, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import forge from 'node-forge';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { parsePrivateKey } from '#src/crypto/key-file.ts';
import { createPkcs7Unwrapper, createPkcs7Wrapper } from '#src/keywrap/pkcs7.ts';
import {
  type EnvelopedData,
  certificateName,
  formatEnvelopedData,
  parseEnvelopedData,
} from '#src/keywrap/pkcs7-enveloped-data.ts';
import { elementsOf, readVector, readVectorKey } from '../fakes/ocicrypt-vector.ts';

const [rsa, other] = ['rsa', 'token'].map((name) => ({
  certificate: new X509Certificate(readVectorKey(`${name}.crt`)),
  privateKey: parsePrivateKey(readVectorKey(`${name}.pem`), name),
})) as [Pair, Pair];

interface Pair {
  readonly certificate: X509Certificate;
  readonly privateKey: ReturnType<typeof parsePrivateKey>;
}

const secret = randomBytes(150);
const unwrapper = ({ certificate, privateKey }: Pair) => createPkcs7Unwrapper(certificate, privateKey);
const raises = (code: string) => expect.objectContaining({ code }) as unknown as Error;

describe('the pkcs7 scheme', () => {
  test('writes one envelope for several certificates, and each opens it', async () => {
    const element = await createPkcs7Wrapper([rsa.certificate, other.certificate]).wrap(secret);
    for (const pair of [rsa, other]) expect(await unwrapper(pair).unwrap(element)).toEqual(secret);
  });

  test('writes what skopeo writes, byte for byte', () => {
    for (const name of ['skopeo-pkcs7', 'skopeo13-pkcs7']) {
      const [element] = elementsOf(readVector(name), 'pkcs7');
      expect(formatEnvelopedData(parseEnvelopedData(element!))).toEqual(element);
    }
  });

  test('is not for another certificate', async () => {
    const element = await createPkcs7Wrapper([rsa.certificate]).wrap(secret);
    expect(await unwrapper(other).unwrap(element)).toBeNull();
  });

  test('says that an envelope for it is damaged, and no more', async () => {
    const element = await createPkcs7Wrapper([rsa.certificate]).wrap(secret);
    const envelope = parseEnvelopedData(element);
    const [recipient] = envelope.recipients;
    const changed = (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -1), Buffer.of(bytes.at(-1)! ^ 1)]);
    const damaged: EnvelopedData[] = [
      { ...envelope, tag: changed(envelope.tag) },
      { ...envelope, ciphertext: changed(envelope.ciphertext) },
      { ...envelope, nonce: changed(envelope.nonce) },
      { ...envelope, recipients: [{ ...recipient!, encryptedKey: changed(recipient!.encryptedKey) }] },
      { ...envelope, recipients: [{ ...recipient!, encryptedKey: Buffer.alloc(3) }] },
      { ...envelope, cipher: 'aes-256-gcm' },
    ];
    const messages = new Set<string>();
    for (const data of damaged) {
      const failed = unwrapper(rsa).unwrap(formatEnvelopedData(data));
      await expect(failed).rejects.toThrow(raises('CRYPTO_AUTHENTICATION_FAILED'));
      await failed.catch((error: unknown) => messages.add(String(error)));
    }
    expect(messages.size).toBe(1);
  });

  test('needs an RSA key in the certificate', () => {
    const ec = new X509Certificate(EC_CERTIFICATE);
    expect(() => createPkcs7Wrapper([rsa.certificate, ec])).toThrow(raises('KEY_INVALID'));
  });

  test('needs an RSA key of at least 2048 bits in the certificate', () => {
    const short = new X509Certificate(SHORT_RSA_CERTIFICATE);
    expect(() => createPkcs7Wrapper([rsa.certificate, short])).toThrow(raises('KEY_INVALID'));
  });

  test('reads proper AES-GCM parameters, too', () => {
    const { asn1 } = forge;
    const node = (type: forge.asn1.Type, value: string | forge.asn1.Asn1[]) =>
      asn1.create(asn1.Class.UNIVERSAL, type, Array.isArray(value), value);
    const element = formatEnvelopedData(envelope());
    const tree = asn1.fromDer(element.toString('latin1'));
    const algorithm = at(tree, 1, 0, 2, 1).value as forge.asn1.Asn1[];
    algorithm[1] = node(asn1.Type.SEQUENCE, [
      node(asn1.Type.OCTETSTRING, 'n'.repeat(12)),
      node(asn1.Type.INTEGER, '\x10'),
    ]);
    const { nonce } = parseEnvelopedData(Buffer.from(asn1.toDer(tree).getBytes(), 'latin1'));
    expect(nonce.toString()).toBe('nnnnnnnnnnnn');
  });
});

function envelope(): EnvelopedData {
  const recipient = { ...certificateName(rsa.certificate), encryptedKey: Buffer.alloc(256, 1) };
  return {
    recipients: [recipient],
    cipher: 'aes-128-gcm',
    nonce: Buffer.alloc(12),
    ciphertext: Buffer.from('text'),
    tag: Buffer.alloc(16),
  };
}

function at(tree: forge.asn1.Asn1, ...path: number[]): forge.asn1.Asn1 {
  return path.reduce((node, index) => (node.value as forge.asn1.Asn1[])[index]!, tree);
}

describe('hostile envelopes', () => {
  const [element] = elementsOf(readVector('skopeo-pkcs7'), 'pkcs7');

  /** Tags around the content are not authenticated; what is inside is. */
  const opens = async (bytes: Uint8Array) => {
    const opened = await unwrapper(rsa)
      .unwrap(bytes)
      .catch((error: unknown) => error);
    if (opened === null || opened instanceof LatchkeyError) return;
    expect(opened).toEqual(await unwrapper(rsa).unwrap(element!));
  };

  test('of any bytes give nothing but our own error', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), opens));
  });

  test('with any byte changed give nothing but our own error', async () => {
    const positions = fc.tuple(fc.nat(element!.length - 1), fc.integer({ min: 1, max: 255 }));
    await fc.assert(
      fc.asyncProperty(positions, async ([position, mask]) => {
        const bytes = Buffer.from(element!);
        bytes[position]! ^= mask;
        await opens(bytes);
      }),
      { numRuns: 300 },
    );
  });

  test('of every truncation give nothing but our own error', async () => {
    for (let length = 0; length < element!.length; length += 1) await opens(element!.subarray(0, length));
  });

  test('with too many recipients, or too large, are refused', () => {
    const { recipients, ...rest } = envelope();
    const many = formatEnvelopedData({
      ...rest,
      recipients: Array(33).fill(recipients[0]) as typeof recipients,
    });
    expect(() => parseEnvelopedData(many)).toThrow(raises('LIMIT_EXCEEDED'));
    expect(() => parseEnvelopedData(Buffer.alloc(100_000))).toThrow(raises('LIMIT_EXCEEDED'));
  });

  test('nested without end are refused', () => {
    const depth = 10_000;
    const nested = Buffer.from('3080'.repeat(depth), 'hex');
    expect(() => parseEnvelopedData(nested)).toThrow(raises('INPUT_MALFORMED'));
  });
});

/** openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ec -days 36500 */
const EC_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBcTCCARegAwIBAgIUTGQXTLwibXgQD2YdS71Hkflts6QwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCZWMwIBcNMjYxMTIyMDg1MTM0WhgPMjEyNjEwMjkwODUxMzRa
MA0xCzAJBgNVBAMMAmVjMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/RHevUgv
5gWAOwi4MZHuuYNPv+DM7ZSGwKCGomTF9zP7MASq4bavw4KBYIfF4T2iugbdKhJ5
olXHVe8APDisrqNTMFEwHQYDVR0OBBYEFB5pCwkwv0r4oOtH6asOguc9zIGEMB8G
A1UdIwQYMBaAFB5pCwkwv0r4oOtH6asOguc9zIGEMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSAAwRQIhANQx9e2liZJTnS5GJtBPxBggqKvRV66iZf8XTe/B
0DBYAiA+tL2B/x/cyJQxqgt+a3cQF350HnWjQ6tlaoSE3QraAA==
-----END CERTIFICATE-----`;

/** openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=short -days 36500 */
const SHORT_RSA_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIB/jCCAWegAwIBAgIUcJ1dE7TsHv2NarBw8CpwONCxmtowDQYJKoZIhvcNAQEL
BQAwEDEOMAwGA1UEAwwFc2hvcnQwIBcNMjYxMTI5MjMyNTM1WhgPMjEyNjExMDUy
MzI1MzVaMBAxDjAMBgNVBAMMBXNob3J0MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB
iQKBgQC/SlxTVA3ocJLzNm452MbApNkyjPhT0BwZzHvRYsr4KWPGoJom6duBJBHR
tZMAukR07kFxYryFN4Z7TOPQvnYtqEfarD59kNA6kkqbKTB45RNMpfkNyz4bXVmJ
S8hErgNTrDnC5tLKulpVGydvcewaLFD1Vq3KSkyISGoqN0gaOwIDAQABo1MwUTAd
BgNVHQ4EFgQUEpk3djLKsd89HKspryd2dPjL62cwHwYDVR0jBBgwFoAUEpk3djLK
sd89HKspryd2dPjL62cwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQsFAAOB
gQCYFocXSNjfpF0fAJnWsghrEi1gG/y4/mNblSxQrJ9UEGIcCPNklXB+yFI9HROu
ZMZLPBkwBoCHbCK8AwwYikMMieO3j2R7zmgK9kKLzC85tVtexcoJKrk4HjvPK0p2
4wEjjIi+u1JWnHh/OeVXn7gOvjliJ5I/8n4K500+OZ5a3w==
-----END CERTIFICATE-----`;
