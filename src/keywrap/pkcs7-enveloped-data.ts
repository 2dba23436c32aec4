/**
 * The ASN.1 of ocicrypt's pkcs7 scheme: EnvelopedData (RFC 5652 section 6.1) as Go's pkcs7 package writes it, which no
 * other tool reads. Two quirks: the parameters of AES-GCM are a *primitive* tag 16 that holds the bytes of a
 * SEQUENCE { [4] nonce, INTEGER tagBytes }, and the content is a constructed [0] with one OCTET STRING of ciphertext
 * and tag. AuthEnvelopedData, which AES-GCM would call for, is not used.
 */
import type { X509Certificate } from 'node:crypto';
import forge from 'node-forge';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';

const { asn1 } = forge;
const { Class, Type } = asn1;
type Node = forge.asn1.Asn1;

const OID = {
  data: '1.2.840.113549.1.7.1',
  envelopedData: '1.2.840.113549.1.7.3',
  rsaEncryption: '1.2.840.113549.1.1.1',
  aes128Gcm: '2.16.840.1.101.3.4.1.6',
  aes256Gcm: '2.16.840.1.101.3.4.1.46',
} as const;

export const PKCS7_NONCE_BYTES = 12;
export const PKCS7_TAG_BYTES = 16;

/** Names a certificate (RFC 5652 section 10.2.4). */
export interface CertificateName {
  /** DER of the issuer's distinguished name. */
  readonly issuer: Buffer;
  /** Content bytes of the serial number. */
  readonly serialNumber: Buffer;
}

export interface EnvelopeRecipient extends CertificateName {
  /** The content key, RSA PKCS#1 v1.5. */
  readonly encryptedKey: Buffer;
}

export interface EnvelopedData {
  readonly recipients: readonly EnvelopeRecipient[];
  readonly cipher: 'aes-128-gcm' | 'aes-256-gcm';
  readonly nonce: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** The name under which a recipient is found. */
export function certificateName(certificate: X509Certificate): CertificateName {
  const [tbsCertificate] = childrenOf(read(certificate.raw));
  const fields = childrenOf(tbsCertificate);
  // The version is left out of version 1 certificates.
  const start = fields[0]?.tagClass === Class.CONTEXT_SPECIFIC ? 1 : 0;
  return {
    serialNumber: bytesOf(fields[start], Type.INTEGER),
    issuer: Buffer.from(asn1.toDer(required(fields[start + 2])).getBytes(), 'latin1'),
  };
}

/** Writes an envelope, byte for byte as Go does. */
export function formatEnvelopedData(data: EnvelopedData): Buffer {
  const parameters = sequence(
    node(Class.CONTEXT_SPECIFIC, 4, data.nonce),
    node(Class.UNIVERSAL, Type.INTEGER, Buffer.of(data.tag.length)),
  );
  const encryptedContentInfo = sequence(
    objectIdentifier(OID.data),
    sequence(
      objectIdentifier(data.cipher === 'aes-128-gcm' ? OID.aes128Gcm : OID.aes256Gcm),
      node(Class.UNIVERSAL, Type.SEQUENCE, write(parameters)),
    ),
    parent(Class.CONTEXT_SPECIFIC, 0, [
      node(Class.UNIVERSAL, Type.OCTETSTRING, Buffer.concat([data.ciphertext, data.tag])),
    ]),
  );
  const enveloped = sequence(
    node(Class.UNIVERSAL, Type.INTEGER, Buffer.of(0)),
    parent(Class.UNIVERSAL, Type.SET, data.recipients.map(recipientInfo)),
    encryptedContentInfo,
  );
  return write(sequence(objectIdentifier(OID.envelopedData), parent(Class.CONTEXT_SPECIFIC, 0, [enveloped])));
}

function recipientInfo({ issuer, serialNumber, encryptedKey }: EnvelopeRecipient): Node {
  return sequence(
    node(Class.UNIVERSAL, Type.INTEGER, Buffer.of(0)),
    sequence(read(issuer), node(Class.UNIVERSAL, Type.INTEGER, serialNumber)),
    sequence(objectIdentifier(OID.rsaEncryption)),
    node(Class.UNIVERSAL, Type.OCTETSTRING, encryptedKey),
  );
}

/**
 * Reads an envelope.
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED for another cipher, LIMIT_EXCEEDED
 */
export function parseEnvelopedData(bytes: Uint8Array): EnvelopedData {
  if (bytes.length > MAX_ANNOTATION_BYTES) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the pkcs7 envelope is longer than ${MAX_ANNOTATION_BYTES} bytes`,
    );
  }
  const [type, content] = childrenOf(read(bytes));
  if (identifierOf(type) !== OID.envelopedData) throw malformed('it is not EnvelopedData');
  const [, recipientInfos, encryptedContentInfo] = childrenOf(childrenOf(content)[0]);
  const infos = childrenOf(recipientInfos);
  if (infos.length > MAX_WRAPPED_KEYS) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the pkcs7 envelope has more than ${MAX_WRAPPED_KEYS} recipients`,
    );
  }
  const [, algorithm, encryptedContent] = childrenOf(encryptedContentInfo);
  const [cipherNode, parameters] = childrenOf(algorithm);
  const sealed = contentBytes(encryptedContent);
  if (sealed.length < PKCS7_TAG_BYTES) throw malformed('its content is too short');
  return {
    recipients: infos.flatMap(readRecipientInfo),
    cipher: cipherOf(identifierOf(cipherNode)),
    nonce: nonceOf(parameters),
    ciphertext: sealed.subarray(0, -PKCS7_TAG_BYTES),
    tag: sealed.subarray(-PKCS7_TAG_BYTES),
  };
}

/** Recipients of another kind (key agreement, another padding) are nobody we could be. */
function readRecipientInfo(info: Node): EnvelopeRecipient[] {
  if (info.tagClass !== Class.UNIVERSAL) return [];
  const [, name, algorithm, encryptedKey] = childrenOf(info);
  if (identifierOf(childrenOf(algorithm)[0]) !== OID.rsaEncryption) return [];
  const [issuer, serialNumber] = childrenOf(name);
  return [
    {
      issuer: write(required(issuer)),
      serialNumber: bytesOf(serialNumber, Type.INTEGER),
      encryptedKey: bytesOf(encryptedKey, Type.OCTETSTRING),
    },
  ];
}

function cipherOf(identifier: string): EnvelopedData['cipher'] {
  if (identifier === OID.aes128Gcm) return 'aes-128-gcm';
  if (identifier === OID.aes256Gcm) return 'aes-256-gcm';
  throw new LatchkeyError('INPUT_UNSUPPORTED', `the pkcs7 envelope uses the cipher ${identifier}`);
}

/** Go's quirk, or the proper parameters of RFC 5084: SEQUENCE { OCTET STRING nonce, INTEGER tagBytes }. */
function nonceOf(parameters: Node | undefined): Buffer {
  const { constructed, value } = required(parameters);
  const quirk = !constructed && typeof value === 'string';
  const [nonce, tagBytes] = childrenOf(quirk ? read(Buffer.from(value, 'latin1')) : parameters);
  const bytes = bytesOf(nonce, quirk ? 4 : Type.OCTETSTRING);
  const isTagWhole = bytesOf(tagBytes, Type.INTEGER).equals(Buffer.of(PKCS7_TAG_BYTES));
  if (bytes.length === PKCS7_NONCE_BYTES && isTagWhole) return bytes;
  throw malformed('its AES-GCM parameters are unusual');
}

function contentBytes(content: Node | undefined): Buffer {
  const { constructed, value } = required(content);
  if (!constructed && typeof value === 'string') return Buffer.from(value, 'latin1');
  return Buffer.concat(childrenOf(content).map((part) => bytesOf(part, Type.OCTETSTRING)));
}

function read(bytes: Uint8Array): Node {
  try {
    return asn1.fromDer(Buffer.from(bytes).toString('latin1'));
  } catch (error) {
    throw malformed('it is not DER', error);
  }
}

function write(tree: Node): Buffer {
  return Buffer.from(asn1.toDer(tree).getBytes(), 'latin1');
}

function childrenOf(parentNode: Node | undefined): readonly Node[] {
  const { value } = required(parentNode);
  if (Array.isArray(value)) return value;
  throw malformed('its structure is not that of EnvelopedData');
}

function bytesOf(leaf: Node | undefined, type: number): Buffer {
  const { value, type: found }: { value: unknown; type: number } = required(leaf);
  if (typeof value === 'string' && found === type) return Buffer.from(value, 'latin1');
  throw malformed('its structure is not that of EnvelopedData');
}

function identifierOf(leaf: Node | undefined): string {
  const bytes = bytesOf(leaf, Type.OID);
  if (bytes.length === 0) throw malformed('an object identifier is empty');
  return asn1.derToOid(bytes.toString('latin1'));
}

function required(found: Node | undefined): Node {
  if (found !== undefined) return found;
  throw malformed('it ends too early');
}

function malformed(why: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `the pkcs7 envelope cannot be read: ${why}`, { cause });
}

function node(tagClass: forge.asn1.Class, type: number, bytes: Uint8Array): Node {
  return asn1.create(tagClass, type, false, Buffer.from(bytes).toString('latin1'));
}

function parent(tagClass: forge.asn1.Class, type: number, children: Node[]): Node {
  return asn1.create(tagClass, type, true, children);
}

function sequence(...children: Node[]): Node {
  return parent(Class.UNIVERSAL, Type.SEQUENCE, children);
}

function objectIdentifier(identifier: string): Node {
  return node(Class.UNIVERSAL, Type.OID, Buffer.from(asn1.oidToDer(identifier).getBytes(), 'latin1'));
}
