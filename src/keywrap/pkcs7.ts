/**
 * The pkcs7 scheme (ocicrypt keywrap/pkcs7): private options under a fresh AES-128-GCM key, which is encrypted to the
 * RSA key of each recipient's certificate with PKCS#1 v1.5. Opening relies on OpenSSL's implicit rejection: a wrong
 * padding gives a random key, so that it looks like any other damage (Bleichenbacher's attack has nothing to ask).
 */
import {
  type KeyObject,
  type X509Certificate,
  constants,
  createCipheriv,
  createDecipheriv,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { MIN_RSA_BITS } from '#src/crypto/key-file.ts';
import type { KeyUnwrapper, KeyWrapper } from './key-wrapper.ts';
import {
  type EnvelopeRecipient,
  type EnvelopedData,
  PKCS7_NONCE_BYTES,
  PKCS7_TAG_BYTES,
  certificateName,
  formatEnvelopedData,
  parseEnvelopedData,
} from './pkcs7-enveloped-data.ts';

export const PKCS7_ANNOTATION = 'org.opencontainers.image.enc.keys.pkcs7';

const CONTENT_CIPHER = 'aes-128-gcm';
const CONTENT_KEY_BYTES = { 'aes-128-gcm': 16, 'aes-256-gcm': 32 } as const;
const padding = constants.RSA_PKCS1_PADDING;

/**
 * One envelope for all certificates.
 * @throws LatchkeyError KEY_INVALID for a certificate without an RSA key of at least 2048 bits
 */
export function createPkcs7Wrapper(certificates: readonly X509Certificate[]): KeyWrapper {
  if (certificates.length === 0) throw new TypeError('a pkcs7 envelope needs a recipient');
  certificates.forEach(requireRsa);
  return {
    annotation: PKCS7_ANNOTATION,
    wrap: async (privateOptions) => {
      const contentKey = randomBytes(CONTENT_KEY_BYTES[CONTENT_CIPHER]);
      const nonce = randomBytes(PKCS7_NONCE_BYTES);
      const cipher = createCipheriv(CONTENT_CIPHER, contentKey, nonce, { authTagLength: PKCS7_TAG_BYTES });
      const ciphertext = Buffer.concat([cipher.update(privateOptions), cipher.final()]);
      const recipients = certificates.map((certificate) => ({
        ...certificateName(certificate),
        encryptedKey: publicEncrypt({ key: certificate.publicKey, padding }, contentKey),
      }));
      contentKey.fill(0);
      return formatEnvelopedData({
        recipients,
        cipher: CONTENT_CIPHER,
        nonce,
        ciphertext,
        tag: cipher.getAuthTag(),
      });
    },
  };
}

function requireRsa({ publicKey, subject }: X509Certificate): void {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey;
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= MIN_RSA_BITS) return;
  const size = details?.modulusLength === undefined ? '' : ` of ${details.modulusLength} bits`;
  throw new LatchkeyError(
    'KEY_INVALID',
    `the certificate of ${JSON.stringify(subject)} has a key of type ${type ?? 'unknown'}${size}`,
    { hint: `pkcs7 needs an RSA key of at least ${MIN_RSA_BITS} bits; for an EC key use jwe:FILE` },
  );
}

/** Opens envelopes for one certificate with its private key. */
export function createPkcs7Unwrapper(certificate: X509Certificate, privateKey: KeyObject): KeyUnwrapper {
  const { issuer, serialNumber } = certificateName(certificate);
  return {
    annotation: PKCS7_ANNOTATION,
    unwrap: async (element) => {
      const envelope = parseEnvelopedData(element);
      const ours = envelope.recipients.filter(
        (recipient) => recipient.issuer.equals(issuer) && recipient.serialNumber.equals(serialNumber),
      );
      if (ours.length === 0) return null;
      for (const recipient of ours) {
        const privateOptions = open(envelope, recipient, privateKey);
        if (privateOptions !== undefined) return privateOptions;
      }
      throw new LatchkeyError(
        'CRYPTO_AUTHENTICATION_FAILED',
        'the pkcs7 envelope names this certificate, but was changed or made for another key of it',
      );
    },
  };
}

function open(
  { cipher, nonce, ciphertext, tag }: EnvelopedData,
  { encryptedKey }: EnvelopeRecipient,
  privateKey: KeyObject,
): Uint8Array | undefined {
  try {
    const contentKey = privateDecrypt({ key: privateKey, padding }, encryptedKey);
    const decipher = createDecipheriv(cipher, contentKey, nonce, { authTagLength: PKCS7_TAG_BYTES });
    decipher.setAuthTag(tag);
    return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  } catch {
    // One answer for a bad length, key and tag: which it was would help an attacker only.
    return undefined;
  }
}
