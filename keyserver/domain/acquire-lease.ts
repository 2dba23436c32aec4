/**
 * The decision that everything hangs on. One transaction: load, decide, lease, audit, commit; only then is
 * the image key opened and sealed to the node. So whoever holds a key is in the log, and whoever asks once a
 * revocation is acknowledged gets none.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import type { LeaseClaims, LeaseReceipt } from '#src/licensing/lease-claims.ts';
import type { ChainPosition } from '#src/licensing/node-chain.ts';
import { licenseStateAt } from '#src/licensing/license-state.ts';
import { isOverdrawn } from '#src/licensing/seats.ts';
import { isDigest } from '#src/oci/digest.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import { together } from '../db/open-transaction.ts';
import type { Writer } from '../db/store.ts';
import { type KnownImage, type KnownNode, loadImageOfKey } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { nodesOfLicense } from './license-nodes.ts';
import { beginTermAtLease } from './license-term.ts';
import { newLease, repeatedLease, signLease } from './lease-token.ts';
import { takePosition } from './node-sessions.ts';
import { decideStart } from './start-decision.ts';

/** Who a certificate says is calling; checked against the database by every operation. */
export interface NodeIdentity {
  readonly nodeId: string;
  /** RFC 7638, of the node key. */
  readonly keyThumbprint: string;
}

export interface LeaseRequest {
  /** Empty where only the key is known (a key provider call): the release of this key, whichever of its images. */
  readonly imageDigest: string;
  readonly imageKeyId: string;
  readonly nonce: Uint8Array;
  readonly nodeTimeMs: number;
  /** Undefined from a node that is too old to have one. */
  readonly position?: ChainPosition | undefined;
}

export interface LeaseAnswer {
  readonly lease: string;
  readonly imageKeyJwe: string;
  readonly revision: number;
  readonly auditSequence: number;
  /** Signed envelope that says what the release is. */
  readonly statement: Buffer;
}

const NONCE_BYTES = 16;
const MAX_IMAGE_KEY_ID = 128;

/**
 * Decides a start and gives a lease with the sealed image key. A node that has lost the answer gets the same lease once
 * more for the same nonce, if it would get one now.
 * @throws LatchkeyError DENIED_*, also for a nonce that was used before; INPUT_MALFORMED, STATE_SESSION_STALE, RATE_LIMITED
 */
export async function acquireLease(
  server: KeyServer,
  identity: NodeIdentity,
  request: LeaseRequest,
): Promise<LeaseAnswer> {
  checkRequest(request);
  const verdict = await server.store.write((writer) => decideAndRecord(server, writer, identity, request));
  if (!verdict.granted) throw verdict.error;
  const { node, image, claims, receipt, toldNodes } = verdict;
  if (toldNodes.length > 0) server.changes.publish(toldNodes);
  const [lease, imageKeyJwe] = await Promise.all([
    signLease(server, { claims, receipt }),
    // One JWE to the node key, whatever the number of layers.
    server.releaseThread.seal(node.publicJwk, openImageKey(server, image), 'latchkey-image-key-lease'),
  ]);
  return {
    lease,
    imageKeyJwe,
    revision: claims.revision,
    auditSequence: receipt.sequence,
    statement: Buffer.from(image.statement ?? ''),
  };
}

function checkRequest(request: LeaseRequest): void {
  if (!isDigest(request.imageDigest) && request.imageDigest !== '')
    throw new LatchkeyError('INPUT_MALFORMED', 'the image digest is malformed');
  if (request.imageKeyId === '' || request.imageKeyId.length > MAX_IMAGE_KEY_ID) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the image key id is malformed');
  }
  if (request.nonce.length !== NONCE_BYTES) {
    throw new LatchkeyError('INPUT_MALFORMED', `the nonce is not ${NONCE_BYTES} bytes`);
  }
}

type Verdict =
  | { readonly granted: false; readonly error: LatchkeyError }
  | {
      readonly granted: true;
      readonly node: KnownNode;
      readonly image: KnownImage;
      readonly claims: LeaseClaims;
      readonly receipt: LeaseReceipt;
      /** Nodes of a license whose term has begun with this. */
      readonly toldNodes: readonly string[];
    };

async function decideAndRecord(
  server: KeyServer,
  writer: Writer,
  identity: NodeIdentity,
  request: LeaseRequest,
): Promise<Verdict> {
  const { organizationId } = server;
  const nowMs = server.clock.nowMs();
  const nonce = Buffer.from(request.nonce).toString('hex');
  const isByKeyProvider = request.imageDigest === '';
  const imageDigest = isByKeyProvider
    ? await loadImageOfKey(writer, organizationId, request.imageKeyId)
    : request.imageDigest;
  const { organization, node, image, answered, session, decision } = await decideStart(
    server,
    writer,
    {
      nodeId: identity.nodeId,
      keyThumbprint: identity.keyThumbprint,
      imageDigest,
      imageKeyId: request.imageKeyId,
      nonce,
      nodeTimeMs: request.nodeTimeMs,
    },
    nowMs,
  );
  // What a key provider opens leaves the gate: the auditor must be able to tell.
  const by = isByKeyProvider ? { by: 'key-provider' } : {};
  const refuse = async (error: LatchkeyError, licenseId: string | null): Promise<Verdict> => {
    await appendAuditEvent(writer, organizationId, nowMs, {
      actor: `node:${identity.nodeId}`,
      action: 'lease.acquire',
      target: imageDigest,
      outcome: 'denied',
      code: error.code,
      detail: { licenseId, imageKeyId: request.imageKeyId, ...by },
    });
    return { granted: false, error };
  };
  const decidedLicenseId = decision.allowed ? decision.license.licenseId : decision.licenseId;
  if (decidedLicenseId !== null) server.licenseRate.spend(decidedLicenseId, 'calls under this license');
  if (!decision.allowed) return refuse(denialError(decision), decision.licenseId);
  if (node === null) throw new TypeError('a start was allowed without a node');
  const stale = await takePosition(writer, node.nodeId, session, request.position);
  if (stale !== undefined) return { granted: false, error: stale };
  const begun = await beginTermAtLease(writer, organizationId, decision.license, nowMs);
  const { license, revision } = begun ?? { license: decision.license, revision: organization.revision };
  const parties = { node, license, imageDigest, imageKeyId: request.imageKeyId, revision };
  const given =
    answered === undefined
      ? newLease(server, {
          ...{ ...parties, nowMs, nonce, previousLeaseId: null },
          publishedAtMs: image.release?.publishedAtMs ?? nowMs,
        })
      : repeatedLease(server, parties, { answered, nowMs });
  const { claims } = given;
  const appended = appendAuditEvent(writer, organizationId, nowMs, {
    actor: `node:${identity.nodeId}`,
    action: 'lease.acquire',
    target: imageDigest,
    outcome: 'allowed',
    detail: {
      ...{ leaseId: claims.leaseId, licenseId: license.licenseId, imageKeyId: request.imageKeyId, ...by },
      ...(answered === undefined ? {} : { isRepeat: true }),
      ...(isOverdrawn(license.seats) ? { isOverdrawn: true } : {}),
      ...(licenseStateAt(license, nowMs) === 'GRACE' ? { isInGrace: true } : {}),
      ...(begun === undefined ? {} : { licenseExpiresAtMs: license.expiresAtMs }),
    },
  });
  const [receipt] = await together(appended, given.write(writer));
  const toldNodes = begun === undefined ? [] : await nodesOfLicense(writer, license.licenseId);
  return { granted: true, node, image, claims, receipt, toldNodes };
}

function openImageKey(server: KeyServer, image: KnownImage): Uint8Array {
  if (image.wrappedKey === undefined) throw new TypeError('a lease was granted without an image key');
  return server.keys.unwrapImageKey(image.imageKeyId, image.wrappedKey);
}
