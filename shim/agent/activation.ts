/** Trading a license key or a join token for a node certificate, and what follows from having one. */
import 'reflect-metadata';
import { type KeyObject, createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { IMAGE_KEY_BYTES } from '#src/keywrap/latchkey-element.ts';
import { isJoinToken } from '#src/licensing/join-token.ts';
import type { ActivateResponse } from '#src/wire/generated/latchkey/node.ts';
import { certificateOf, readCertificate } from './certificate-rotation.ts';
import { type KeyServer, activateAt } from './key-server.ts';
import type { LeaseAuthority } from './lease-keeper.ts';
import { leaseVerificationKey, verifyLease } from './lease.ts';
import type { NodeIdentity } from './node-identity.ts';
import { openLeaseStatement, releaseVerificationKey } from './lease-statement.ts';

const ECDSA_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export interface ActivationRequest {
  readonly enrollmentAddress: string;
  readonly authorityPem: string;
  /** License key or join token. */
  readonly credential: string;
  readonly nodeName: string;
  readonly installation: string;
  readonly privateKeyPem: string;
}

/**
 * Enrols the node under a license. The license key or join token is used here and nowhere else.
 * @throws LatchkeyError DENIED_*, INPUT_LICENSE_KEY_MALFORMED, NET_*
 */
export async function activate(
  request: ActivationRequest,
  before: NodeIdentity | undefined,
  clock: Clock,
): Promise<{ identity: NodeIdentity; response: ActivateResponse }> {
  const response = await activateAt(request.enrollmentAddress, request.authorityPem, {
    ...(isJoinToken(request.credential)
      ? { licenseKey: '', joinToken: request.credential }
      : { licenseKey: request.credential, joinToken: '' }),
    certificateRequestDer: await certificateRequest(request.privateKeyPem, request.nodeName),
    nodeName: request.nodeName,
    installation: request.installation,
    nodeTimeMs: clock.nowMs(),
  });
  const { licenseId, productCode, contact } = response;
  const others = before?.licenses.filter((license) => license.licenseId !== licenseId) ?? [];
  const identity: NodeIdentity = {
    nodeId: response.nodeId,
    ...certificateOf(response),
    authorityPem: readCertificate(response.authorityDer),
    leaseVerificationJwk: response.leaseVerificationJwk,
    releaseVerificationJwk: response.releaseVerificationJwk,
    licenses: [...others, { licenseId, productCode, contact }],
  };
  return { identity, response };
}

/** The lease authority of an activated node. */
export function leaseAuthority(
  keyServer: KeyServer,
  identity: NodeIdentity,
  privateKeyPem: string,
  refusal: () => LatchkeyError | undefined,
): LeaseAuthority {
  const verificationKey = leaseVerificationKey(identity.leaseVerificationJwk);
  const releaseKey = releaseVerificationKey(identity.releaseVerificationJwk);
  const nodeKey = createPrivateKey(privateKeyPem);
  return {
    keyServer,
    refusal,
    verify: (token, subject) =>
      verifyLease(token, verificationKey, {
        nodeId: identity.nodeId,
        ...(subject === undefined ? {} : { subject }),
      }),
    openStatement: (envelope, claims) => openLeaseStatement(envelope, releaseKey, claims),
    openImageKey: (jwe) => openImageKey(jwe, nodeKey),
  };
}

async function openImageKey(jwe: string, nodeKey: KeyObject): Promise<Buffer> {
  try {
    const key = await openEnvelope(jwe, nodeKey, 'latchkey-image-key-lease');
    if (key.length !== IMAGE_KEY_BYTES) throw new Error(`the key has ${key.length} bytes`);
    return Buffer.from(key);
  } catch (error) {
    throw new LatchkeyError(
      'DENIED_LEASE_INVALID',
      'the image key of the lease does not open with the node key',
      { cause: error },
    );
  }
}

/** PKCS#10 (RFC 2986): the node's public key and name, signed with its private key. */
export async function certificateRequest(privateKeyPem: string, nodeName: string): Promise<Buffer> {
  const privateKey = createPrivateKey(privateKeyPem);
  const publicKey = createPublicKey(privateKey);
  const keys = {
    privateKey: await webcrypto.subtle.importKey(
      'pkcs8',
      privateKey.export({ type: 'pkcs8', format: 'der' }),
      ECDSA_P256,
      false,
      ['sign'],
    ),
    publicKey: await webcrypto.subtle.importKey(
      'spki',
      publicKey.export({ type: 'spki', format: 'der' }),
      ECDSA_P256,
      true,
      ['verify'],
    ),
  };
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [nodeName] }],
    keys,
    signingAlgorithm: ECDSA_P256,
  });
  return Buffer.from(request.rawData);
}
