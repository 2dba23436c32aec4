/**
 * Check-out: leases that are carried to nodes without a line, instead of asked for by them. Every image of every node is
 * decided as a start is, in one transaction with its audit events; only then are image keys opened and sealed.
 *
 * An answer is not kept for repeats: a repeat makes the next bundle, which takes the place of the lost one, and nothing
 * gives out keys again after a revocation.
 */
import { createPublicKey } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_OFFLINE_LEASES, MAX_OFFLINE_MS } from '#src/base/limits.ts';
import { certificateRenewAtMs } from '#src/licensing/certificate-rules.ts';
import { allowedUntilMs } from '#src/licensing/expiry.ts';
import type { LeaseClaims, LeaseReceipt } from '#src/licensing/lease-claims.ts';
import { licenseStateAt } from '#src/licensing/license-state.ts';
import {
  OFFLINE_BUNDLE_TOKEN_TYPE,
  type OfflineBundleClaims,
  type OfflineBundleFile,
} from '#src/licensing/offline-bundle.ts';
import { offlineLifeMs } from '#src/licensing/offline-life.ts';
import type { OfflineRequestClaims } from '#src/licensing/offline-request.ts';
import { isOverdrawn } from '#src/licensing/seats.ts';
import type { CheckOutInput, CheckedOut, OfflineBundle } from '#src/wire/admin/offline-bundle.ts';
import type { Actor } from '../audit/append-event.ts';
import { issueLeaseSignerCertificate } from '../custody/certificate-authority.ts';
import { type Applicant, readApplicant } from './activate.ts';
import { type Change, runChange } from './change.ts';
import { type CarriedImage, type CarrierNode, imagesToCarry } from './check-out-images.ts';
import { admitCarrier } from './check-out-node.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { insertLease, signLease } from './lease-token.ts';
import { beginTermAtLease } from './license-term.ts';
import { getLicense } from './licenses.ts';
import { parseOfflineRequest } from './offline-request.ts';

/**
 * Makes a bundle for each node that asks. All of them or none.
 * @throws LatchkeyError STATE_NOT_FOUND, INPUT_MALFORMED, LIMIT_EXCEEDED, USAGE_INVALID for a node that asks twice or a life
 *   that the license does not allow, STATE_PRECONDITION when there is nothing to carry, or never is; DENIED_*
 */
export async function checkOut(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  { requests, lifeMs: askedMs, maxStarts }: CheckOutInput,
): Promise<CheckedOut> {
  await getLicense(server, licenseId);
  const carried = await Promise.all(
    requests.map(async (token) => {
      const claims = await parseOfflineRequest(token);
      const certificateRequest = Buffer.from(claims.certificateRequest, 'base64');
      return { claims, applicant: await readApplicant(server, { ...claims, certificateRequest }) };
    }),
  );
  refuseRepeated(carried.map(({ applicant }) => applicant));
  const prepared = await runChange(server, actor, async (change) => {
    let left = MAX_OFFLINE_LEASES;
    const bundles: PreparedBundle[] = [];
    for (const { claims, applicant } of carried) {
      const bundle = await prepareBundle(server, change, {
        ...{ licenseId, claims, applicant, askedMs, left },
        maxStarts: maxStarts ?? null,
      });
      left -= bundle.leases.length;
      bundles.push(bundle);
    }
    return bundles;
  });
  server.changes.publish(prepared.map(({ row }) => row.nodeId));
  return { bundles: prepared.map(({ row }) => row), file: await toFile(server, prepared) };
}

function refuseRepeated(applicants: readonly Applicant[]): void {
  const keys = new Set(applicants.map(({ candidate }) => candidate.keyThumbprint));
  if (keys.size === applicants.length) return;
  throw new LatchkeyError('USAGE_INVALID', 'a node asks twice', { hint: 'give one request of each node' });
}

interface Order {
  readonly licenseId: string;
  readonly claims: OfflineRequestClaims;
  readonly applicant: Applicant;
  /** The life that was asked for. */
  readonly askedMs: number | undefined;
  /** Containers that each node can start; null = any number. */
  readonly maxStarts: number | null;
  /** Leases that may still be made in this check-out. */
  readonly left: number;
}

interface PreparedBundle {
  readonly row: OfflineBundle;
  readonly node: CarrierNode;
  readonly contact: string;
  readonly productCode: string;
  /** Of the node, by its request. */
  readonly memoryId: string | undefined;
  readonly leases: readonly { readonly claims: LeaseClaims; readonly image: CarriedImage }[];
  /** The event of the check-out, which all its leases name. */
  readonly receipt: LeaseReceipt;
}

async function prepareBundle(server: KeyServer, change: Change, order: Order): Promise<PreparedBundle> {
  const { writer, organizationId, nowMs } = change;
  const { claims, licenseId, maxStarts } = order;
  const { node, license: admitted } = await admitCarrier(server, change, licenseId, order.applicant);
  const lifeMs = offlineLifeMs(admitted, order.askedMs);
  if (maxStarts !== null && claims.memoryId === undefined) {
    throw new LatchkeyError('STATE_PRECONDITION', 'the node that asks is too old to count starts', {
      hint: 'leave --max-starts out, or give a request of an agent of this version',
    });
  }
  const images = await imagesToCarry(server, writer, {
    node,
    license: admitted,
    wanted: claims.images,
    nowMs,
  });
  if (images.length > order.left) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `more than ${MAX_OFFLINE_LEASES} leases in one check-out`, {
      hint: 'check nodes out one by one, or have them ask for the images that they need',
    });
  }
  const begun = await beginTermAtLease(writer, organizationId, admitted, nowMs);
  const license = begun?.license ?? admitted;
  const revision = await change.nextRevision();
  const before = await writer
    .selectFrom('offline_bundle')
    .select((select) => select.fn.max('sequence').as('sequence'))
    .where('node_id', '=', node.nodeId)
    .executeTakeFirst();
  // The node can know of more than we do: then we were restored from a backup.
  const sequence = Math.max(before?.sequence ?? 0, claims.lastSequence) + 1;
  const bundleId = newId('bundle', nowMs);
  const expiresAtMs = Math.min(nowMs + lifeMs, allowedUntilMs(license, 'any-start') ?? Infinity);
  const row: OfflineBundle = {
    ...{ id: bundleId, revision, createdAtMs: nowMs, updatedAtMs: nowMs, licenseId, epoch: license.epoch },
    ...{ nodeId: node.nodeId, nodeName: order.applicant.candidate.name, sequence, expiresAtMs },
    ...{ leases: images.length, maxStarts, state: 'ISSUED' },
  };
  await writer
    .insertInto('offline_bundle')
    .values({
      ...{ id: bundleId, organization_id: organizationId, revision, created_at_ms: nowMs },
      ...{ updated_at_ms: nowMs, license_id: licenseId, epoch: license.epoch, node_id: node.nodeId },
      ...{ sequence, leases: images.length, expires_at_ms: expiresAtMs, max_starts: maxStarts },
    })
    .execute();
  const leases: { claims: LeaseClaims; image: CarriedImage }[] = [];
  for (const image of images) {
    const { imageDigest, imageKeyId, publishedAtMs } = image;
    const lease = await insertLease(server, writer, {
      node,
      license: { ...license, leaseDurationMs: lifeMs, connectivityGraceMs: 0 },
      ...{ imageDigest, imageKeyId, publishedAtMs, revision, nowMs, nonce: null, previousLeaseId: null },
    });
    await writer
      .updateTable('lease')
      .set({ offline_bundle_id: bundleId })
      .where('id', '=', lease.leaseId)
      .execute();
    leases.push({ claims: lease, image });
  }
  const receipt = await change.audit({
    action: 'license.check-out',
    target: licenseId,
    detail: {
      ...{ bundleId, nodeId: node.nodeId, sequence, expiresAtMs, leases: leases.length },
      ...(maxStarts === null ? {} : { maxStarts }),
      ...(isOverdrawn(license.seats) ? { isOverdrawn: true } : {}),
      ...(licenseStateAt(license, nowMs) === 'GRACE' ? { isInGrace: true } : {}),
    },
  });
  const { contact, productCode } = license;
  return { row, node, leases, receipt, contact, productCode, memoryId: claims.memoryId };
}

async function toFile(server: KeyServer, prepared: readonly PreparedBundle[]): Promise<OfflineBundleFile> {
  const nowMs = server.clock.nowMs();
  const term = { nowMs, lifetimeMs: MAX_OFFLINE_MS };
  const publicKey = createPublicKey(server.keys.leaseKey);
  const signer = await issueLeaseSignerCertificate(server.keys, publicKey, term);
  const statements: Record<string, string> = {};
  for (const { image } of prepared.flatMap(({ leases }) => leases)) {
    statements[image.imageKeyId] ??= Buffer.from(image.statement).toString('base64');
  }
  return {
    kind: 'latchkey-offline-bundle',
    version: 1,
    signerCertificate: Buffer.from(signer).toString('base64'),
    statements,
    bundles: await Promise.all(
      prepared.map(async (bundle) => ({
        nodeKeyThumbprint: bundle.node.keyThumbprint,
        token: await server.releaseThread.sign(
          OFFLINE_BUNDLE_TOKEN_TYPE,
          await toClaims(server, bundle),
          server.keys.leaseKey,
        ),
      })),
    ),
  };
}

async function toClaims(server: KeyServer, bundle: PreparedBundle): Promise<OfflineBundleClaims> {
  const { row, node, leases, contact, productCode, memoryId } = bundle;
  const { certificate } = node;
  return {
    bundleId: row.id,
    organizationId: server.organizationId,
    nodeId: node.nodeId,
    nodeKeyThumbprint: node.keyThumbprint,
    ...{ licenseId: row.licenseId, productCode, contact, epoch: row.epoch, sequence: row.sequence },
    ...{ revision: row.revision, issuedAtMs: row.createdAtMs, expiresAtMs: row.expiresAtMs },
    ...(row.maxStarts === null ? {} : { maxStarts: row.maxStarts, memoryId }),
    releaseVerificationJwk: JSON.stringify(createPublicKey(server.keys.releaseKey).export({ format: 'jwk' })),
    certificate:
      certificate === null
        ? null
        : {
            der: Buffer.from(certificate.der).toString('base64'),
            expiresAtMs: certificate.expiresAtMs,
            renewAtMs: certificateRenewAtMs({
              issuedAtMs: row.createdAtMs,
              expiresAtMs: certificate.expiresAtMs,
              random: server.random(),
            }),
          },
    releases: await Promise.all(
      [...Map.groupBy(leases, ({ image }) => image.imageKeyId)].map(async ([imageKeyId, own]) => ({
        imageKeyId,
        imageKeyJwe: await sealImageKey(server, node, own[0]?.image),
        leases: await Promise.all(
          own.map(({ claims }) => signLease(server, { claims, receipt: bundle.receipt })),
        ),
      })),
    ),
  };
}

function sealImageKey(
  server: KeyServer,
  node: CarrierNode,
  image: CarriedImage | undefined,
): Promise<string> {
  if (image === undefined) throw new TypeError('a release without an image was grouped');
  const key = server.keys.unwrapImageKey(image.imageKeyId, image.wrappedKey);
  return server.releaseThread.seal(node.publicJwk, key, 'latchkey-image-key-lease');
}
