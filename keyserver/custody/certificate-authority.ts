/**
 * The organization's certificate authority (X.509, P-256): one certificate for this server, one for each
 * node. Node certificates name the node in a URI, as SPIFFE does (node-uri.ts).
 */
import 'reflect-metadata';
import { type KeyObject, createPublicKey, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import { LEASE_SIGNER_URI } from '#src/licensing/offline-bundle.ts';
import { AUTHORITY_LIFETIME_MS, SERVER_CERTIFICATE_LIFETIME_MS } from '../limits.ts';
import { nodeUri } from './node-uri.ts';

const SIGNING = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** 16 random bytes, as the CA/Browser Forum asks for at least 64 bits. */
const SERIAL_BYTES = 16;

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** The authority: its certificate (DER) and its private key. */
export interface Authority {
  readonly authorityCertificate: Uint8Array;
  readonly authorityKey: KeyObject;
}

/** Makes the self-signed certificate (DER) of a new authority. */
export async function createAuthority(name: string, pair: KeyPair, nowMs: number): Promise<Uint8Array> {
  const keys = {
    publicKey: await toCryptoKey(pair.publicKey),
    privateKey: await toCryptoKey(pair.privateKey),
  };
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ O: [name], CN: ['Latchkey authority'] }],
    ...validity(nowMs, AUTHORITY_LIFETIME_MS),
    signingAlgorithm: SIGNING,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return new Uint8Array(certificate.rawData);
}

/** Makes a certificate (DER) for this server under the given host names and IP addresses. */
export async function issueServerCertificate(
  authority: Authority,
  publicKey: KeyObject,
  hostnames: readonly string[],
  nowMs: number,
): Promise<Uint8Array> {
  const alternatives = hostnames.map((name) => ({
    type: isIP(name) === 0 ? ('dns' as const) : ('ip' as const),
    value: name,
  }));
  const certificate = await issue(authority, {
    publicKey: await toCryptoKey(publicKey),
    commonName: 'Latchkey key server',
    usage: ExtendedKeyUsage.serverAuth,
    alternatives: new SubjectAlternativeNameExtension(alternatives),
    nowMs,
    lifetimeMs: SERVER_CERTIFICATE_LIFETIME_MS,
  });
  return new Uint8Array(certificate.rawData);
}

export interface NodeCertificate {
  readonly der: Uint8Array;
  readonly serial: string;
  readonly expiresAtMs: number;
}

export interface CertificateTerm {
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

/** Makes the certificate of a node, for its node key. */
export function issueNodeCertificate(
  authority: Authority,
  request: NodeRequest,
  nodeId: string,
  term: CertificateTerm,
): Promise<NodeCertificate> {
  return issueToNode(authority, request, { nodeId, uri: nodeUri({ nodeId }) }, term);
}

/**
 * Makes a certificate for a key with which a node does TLS in place of its node key.
 * @param keyThumbprint of the node key, to which alone image keys are sealed
 */
export function issueTlsCertificate(
  authority: Authority,
  request: NodeRequest,
  node: { readonly nodeId: string; readonly keyThumbprint: string },
  term: CertificateTerm,
): Promise<NodeCertificate> {
  return issueToNode(authority, request, { nodeId: node.nodeId, uri: nodeUri(node) }, term);
}

async function issueToNode(
  authority: Authority,
  request: NodeRequest,
  { nodeId, uri }: { readonly nodeId: string; readonly uri: string },
  term: CertificateTerm,
): Promise<NodeCertificate> {
  const certificate = await issue(authority, {
    publicKey: await toCryptoKey(request.publicKey),
    commonName: nodeId,
    usage: ExtendedKeyUsage.clientAuth,
    alternatives: new SubjectAlternativeNameExtension([{ type: 'url', value: uri }]),
    ...term,
  });
  return {
    der: new Uint8Array(certificate.rawData),
    serial: certificate.serialNumber,
    expiresAtMs: certificate.notAfter.getTime(),
  };
}

/** Makes the certificate (DER) of the Ed25519 key that signs leases: for nodes that see nothing but a file. */
export async function issueLeaseSignerCertificate(
  authority: Authority,
  publicKey: KeyObject,
  term: CertificateTerm,
): Promise<Uint8Array> {
  const spki = Buffer.from(publicKey.export({ format: 'der', type: 'spki' }));
  const certificate = await issue(authority, {
    publicKey: await webcrypto.subtle.importKey('spki', spki, 'Ed25519', true, ['verify']),
    commonName: 'Latchkey lease signer',
    // What nodes run; and it does no TLS.
    usage: ExtendedKeyUsage.codeSigning,
    alternatives: new SubjectAlternativeNameExtension([{ type: 'url', value: LEASE_SIGNER_URI }]),
    ...term,
  });
  return new Uint8Array(certificate.rawData);
}

/** A certificate request whose sender has proved to hold the key. */
export interface NodeRequest {
  readonly publicKey: KeyObject;
}

/**
 * Reads a node's certificate request (PKCS#10, RFC 2986) and checks that its sender holds the key.
 * @throws LatchkeyError INPUT_MALFORMED, also for keys other than P-256
 */
export async function parseNodeRequest(der: Uint8Array): Promise<NodeRequest> {
  const refuse = (reason: string, cause?: unknown) =>
    new LatchkeyError('INPUT_MALFORMED', `the certificate request ${reason}`, { cause });
  let request: Pkcs10CertificateRequest;
  let publicKey: KeyObject;
  try {
    request = new Pkcs10CertificateRequest(Buffer.from(der));
    publicKey = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' });
  } catch (error) {
    throw refuse('is not PKCS#10', error);
  }
  if (publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw refuse('is not for a P-256 key');
  const proven = await request.verify().catch(() => false);
  if (!proven) throw refuse('is not signed by its own key');
  return { publicKey };
}

interface Issue {
  readonly publicKey: webcrypto.CryptoKey;
  readonly commonName: string;
  readonly usage: ExtendedKeyUsage;
  readonly alternatives: Extension;
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

async function issue(authority: Authority, request: Issue): Promise<X509Certificate> {
  const issuer = new X509Certificate(Buffer.from(authority.authorityCertificate));
  return X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: [{ CN: [request.commonName] }],
    issuer: issuer.subjectName,
    ...validity(request.nowMs, request.lifetimeMs),
    signingAlgorithm: SIGNING,
    publicKey: request.publicKey,
    signingKey: await toCryptoKey(authority.authorityKey),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([request.usage]),
      request.alternatives,
      await AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
}

/** Begins a little earlier, so that a node whose clock is behind accepts it. */
function validity(nowMs: number, lifetimeMs: number): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(nowMs - MAX_CLOCK_SKEW_MS), notAfter: new Date(nowMs + lifetimeMs) };
}

/** Positive (RFC 5280, 4.1.2.2), hence the cleared top bit. */
function newSerial(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function toCryptoKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const isPublic = key.type === 'public';
  const der = key.export({ format: 'der', type: isPublic ? 'spki' : 'pkcs8' } as {
    format: 'der';
    type: 'spki';
  });
  return webcrypto.subtle.importKey(isPublic ? 'spki' : 'pkcs8', Buffer.from(der), SIGNING, true, [
    isPublic ? 'verify' : 'sign',
  ]);
}
