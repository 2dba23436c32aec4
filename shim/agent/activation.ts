/** Trading a license key or a join token for a node certificate, and what follows from having one. */
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { openByAgreement } from '#src/crypto/open-agreed.ts';
import { IMAGE_KEY_BYTES } from '#src/keywrap/latchkey-element.ts';
import { isJoinToken } from '#src/licensing/join-token.ts';
import type { ActivateResponse } from '#src/wire/generated/latchkey/node.ts';
import { certificateRequest } from './certificate-request.ts';
import { certificateOf, readCertificate } from './certificate-rotation.ts';
import { type KeyServer, activateAt } from './key-server.ts';
import type { LeaseAuthority } from './lease-authority.ts';
import { leaseVerificationKey, verifyLease } from './lease.ts';
import type { NodeIdentity } from './node-identity.ts';
import type { KeyUse, NodeKey } from './node-key.ts';
import { openLeaseStatement, releaseVerificationKey } from './lease-statement.ts';

export interface ActivationRequest {
  readonly enrollmentAddress: string;
  readonly authorityPem: string;
  /** License key or join token. */
  readonly credential: string;
  readonly nodeName: string;
  readonly installation: string;
  readonly key: NodeKey;
}

export interface Activated {
  readonly identity: NodeIdentity;
  readonly licenseId: string;
  readonly productCode: string;
}

export interface Activation {
  readonly identity: NodeIdentity;
  readonly response: ActivateResponse;
  /** The node was another organization's before. */
  readonly isElsewhere: boolean;
}

/**
 * Enrols the node under a license. The license key or join token is used here and nowhere else.
 * @throws LatchkeyError DENIED_*, INPUT_LICENSE_KEY_MALFORMED, NET_*
 */
export async function activate(
  request: ActivationRequest,
  before: NodeIdentity | undefined,
  clock: Clock,
): Promise<Activation> {
  const response = await activateAt(request.enrollmentAddress, request.authorityPem, {
    ...(isJoinToken(request.credential)
      ? { licenseKey: '', joinToken: request.credential }
      : { licenseKey: request.credential, joinToken: '' }),
    certificateRequestDer: await certificateRequest(request.key, request.nodeName),
    nodeName: request.nodeName,
    installation: request.installation,
    nodeTimeMs: clock.nowMs(),
  });
  const { licenseId, productCode, contact } = response;
  const authorityPem = readCertificate(response.authorityDer);
  // Written alike: that of an offline bundle is as the operator's file has it.
  const isElsewhere =
    before !== undefined && readCertificate(Buffer.from(before.authorityPem)) !== authorityPem;
  const known = isElsewhere ? [] : (before?.licenses ?? []);
  const others = known.filter((license) => license.licenseId !== licenseId);
  const identity: NodeIdentity = {
    nodeId: response.nodeId,
    ...certificateOf(response),
    authorityPem,
    leaseVerificationJwk: response.leaseVerificationJwk,
    releaseVerificationJwk: response.releaseVerificationJwk,
    licenses: [...others, { licenseId, productCode, contact }],
  };
  return { identity, response, isElsewhere };
}

/** The lease authority of an activated node. */
export function leaseAuthority(
  keyServer: KeyServer,
  identity: NodeIdentity,
  nodeKey: Pick<KeyUse, 'agree'>,
  refusal: () => LatchkeyError | undefined,
): LeaseAuthority {
  const verificationKey = leaseVerificationKey(identity.leaseVerificationJwk);
  const releaseKey = releaseVerificationKey(identity.releaseVerificationJwk);
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

/**
 * Opens a sealed image key with the node key. What a token has to say stays as it is: a token that is away is no denial.
 * @throws LatchkeyError DENIED_LEASE_INVALID, KEY_*
 */
export async function openImageKey(jwe: string, nodeKey: Pick<KeyUse, 'agree'>): Promise<Buffer> {
  try {
    const key = await openByAgreement(
      jwe,
      (publicKey) => nodeKey.agree(publicKey),
      'latchkey-image-key-lease',
    );
    if (key.length === IMAGE_KEY_BYTES) return key;
    throw new LatchkeyError('INPUT_MALFORMED', `the image key has ${key.length} bytes`);
  } catch (error) {
    if (toLatchkeyError(error).code.startsWith('KEY_')) throw error;
    throw new LatchkeyError(
      'DENIED_LEASE_INVALID',
      'the image key of the lease does not open with the node key',
      { cause: error },
    );
  }
}
