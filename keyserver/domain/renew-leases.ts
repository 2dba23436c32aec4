/** Renewal: prolongs leases without handing out keys again, each decided on its own. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LEASES_PER_RENEWAL } from '#src/base/limits.ts';
import { decide } from '#src/licensing/decide.ts';
import type { LeaseClaims, LeaseReceipt } from '#src/licensing/lease-claims.ts';
import type { ChainPosition } from '#src/licensing/node-chain.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import { preparedQuery } from '../db/prepared-query.ts';
import type { Writer } from '../db/store.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import {
  type KnownImage,
  type KnownNode,
  type OrganizationFacts,
  loadNode,
  loadOrganization,
  loadStart,
} from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { insertLease, signLease } from './lease-token.ts';
import { takePosition } from './node-sessions.ts';
import { loadSession } from './session-row.ts';
import { type GrantableLicense, loadNodeLicenses } from './license-facts.ts';

const MAX_LEASE_ID = 128;
/** Renewals repeat freely: they hand out no key. */
const NO_NONCE = '';

/** A signed lease that follows the old one, or why there is none. */
export type Renewal =
  | { readonly leaseId: string; readonly lease: string }
  | { readonly leaseId: string; readonly denial: LatchkeyError };

export interface RenewalTerms {
  readonly nodeTimeMs: number;
  /** Undefined from a node that is too old to have one. */
  readonly position?: ChainPosition | undefined;
}

export interface Renewals {
  readonly renewals: readonly Renewal[];
  readonly revision: number;
}

/**
 * Renews leases of a node.
 * @throws LatchkeyError LIMIT_EXCEEDED, RATE_LIMITED, INPUT_MALFORMED, STATE_SESSION_STALE; DENIED_NODE_* when no lease of this node can be renewed
 */
export async function renewLeases(
  server: KeyServer,
  identity: NodeIdentity,
  leaseIds: readonly string[],
  { nodeTimeMs, position }: RenewalTerms,
): Promise<Renewals> {
  if (leaseIds.length > MAX_LEASES_PER_RENEWAL) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `more than ${MAX_LEASES_PER_RENEWAL} leases in one renewal`);
  }
  if (leaseIds.some((leaseId) => leaseId === '' || leaseId.length > MAX_LEASE_ID)) {
    throw new LatchkeyError('INPUT_MALFORMED', 'a lease id is malformed');
  }
  const { outcomes, revision } = await server.store.write(async (writer) => {
    const organization = await loadOrganization(writer, server.organizationId);
    const node = await loadNode(writer, server.organizationId, identity);
    const nowMs = server.clock.nowMs();
    const licenses =
      node === null ? [] : await loadNodeLicenses(writer, node.nodeId, organization.contact, nowMs);
    if (node?.state === 'ACTIVE') {
      const session = await loadSession(writer, node.nodeId);
      const stale = await takePosition(writer, node.nodeId, session, position);
      if (stale !== undefined) throw stale;
    }
    const renewal: RenewalContext = {
      server,
      writer,
      organization,
      node,
      licenses,
      images: new Map(),
      identity,
      nodeTimeMs,
      countedLicenses: new Set(),
    };
    const decided: { leaseId: string; outcome: Renewed | LatchkeyError }[] = [];
    for (const leaseId of leaseIds) decided.push({ leaseId, outcome: await renewOne(renewal, leaseId) });
    return { outcomes: decided, revision: organization.revision };
  });
  const renewals = await Promise.all(
    outcomes.map(async ({ leaseId, outcome }): Promise<Renewal> =>
      outcome instanceof LatchkeyError
        ? { leaseId, denial: outcome }
        : { leaseId, lease: await signLease(server, outcome.claims, outcome.receipt) },
    ),
  );
  return { renewals, revision };
}

interface RenewalContext {
  readonly server: KeyServer;
  readonly writer: Writer;
  readonly organization: OrganizationFacts;
  readonly node: KnownNode | null;
  readonly licenses: readonly GrantableLicense[];
  /** By digest and key: many leases of a node are for the same image. */
  readonly images: Map<string, KnownImage>;
  readonly identity: NodeIdentity;
  readonly nodeTimeMs: number;
  /** The licenses that this call has been counted under. */
  readonly countedLicenses: Set<string>;
}

interface Renewed {
  readonly claims: LeaseClaims;
  readonly receipt: LeaseReceipt;
}

async function renewOne(context: RenewalContext, leaseId: string): Promise<Renewed | LatchkeyError> {
  const { server, writer } = context;
  const nowMs = server.clock.nowMs();
  const outcome = await decideRenewal(context, leaseId, nowMs);
  const refused = outcome instanceof LatchkeyError;
  const receipt = await appendAuditEvent(writer, server.organizationId, nowMs, {
    actor: `node:${context.identity.nodeId}`,
    action: 'lease.renew',
    target: leaseId,
    outcome: refused ? 'denied' : 'allowed',
    code: refused ? outcome.code : undefined,
    detail: refused ? {} : { leaseId: outcome.leaseId, licenseId: outcome.licenseId },
  });
  return refused ? outcome : { claims: outcome, receipt };
}

async function decideRenewal(
  context: RenewalContext,
  leaseId: string,
  nowMs: number,
): Promise<LeaseClaims | LatchkeyError> {
  const { server, writer, organization, node, licenses, identity } = context;
  const [lease] = await leaseRow(writer, { leaseId, nodeId: identity.nodeId });
  if (lease !== undefined) countUnder(context, lease.license_id);
  const image = lease && (await imageOf(context, lease.image_digest, lease.image_key_id));
  const decision = decide({
    // A sealed key server answers no call; a refusal of the one lease would end it at the node.
    sealed: false,
    node,
    // A renewal prolongs the license it was cut from and never moves to another one.
    licenses: licenses.filter((license) => license.licenseId === lease?.license_id),
    image,
    nowMs,
    nodeTimeMs: context.nodeTimeMs,
    defaultContact: organization.contact,
  });
  if (node === null || lease === undefined || !decision.allowed) {
    if (node?.state === 'ACTIVE' && lease === undefined) return leaseInvalid(leaseId, organization.contact);
    if (decision.allowed) throw new TypeError('a renewal was allowed without a node or a lease');
    return denialError(decision);
  }
  const { license } = decision;
  // A lease out of a bundle stays as it is, for when the line is away again.
  const isCarried = lease.offline_bundle_id !== null;
  if (license.epoch !== lease.epoch || lease.expires_at_ms <= nowMs || isCarried) {
    return leaseInvalid(leaseId, license.contact, license.licenseId);
  }
  return insertLease(server, writer, {
    node,
    license,
    imageDigest: lease.image_digest,
    imageKeyId: lease.image_key_id,
    publishedAtMs: image?.release?.publishedAtMs ?? nowMs,
    revision: organization.revision,
    nowMs,
    nonce: null,
    previousLeaseId: leaseId,
  });
}

async function imageOf(
  context: RenewalContext,
  imageDigest: string,
  imageKeyId: string,
): Promise<KnownImage> {
  const { server, writer, images, identity } = context;
  const name = `${imageDigest} ${imageKeyId}`;
  const known = images.get(name);
  if (known !== undefined) return known;
  const { nodeId, keyThumbprint } = identity;
  const question = { nodeId, keyThumbprint, imageDigest, imageKeyId, nonce: NO_NONCE };
  const { image } = await loadStart(writer, server.organizationId, question);
  images.set(name, image);
  return image;
}

/** @throws LatchkeyError RATE_LIMITED, for the whole call: a lease must not end because of it */
function countUnder({ server, countedLicenses }: RenewalContext, licenseId: string): void {
  if (countedLicenses.has(licenseId)) return;
  countedLicenses.add(licenseId);
  server.licenseRate.spend(licenseId, 'calls under this license');
}

const leaseRow = preparedQuery((writer, lease: { readonly leaseId: string; readonly nodeId: string }) =>
  writer
    .selectFrom('lease')
    .select(['license_id', 'epoch', 'image_digest', 'image_key_id', 'expires_at_ms', 'offline_bundle_id'])
    .where('id', '=', lease.leaseId)
    .where('node_id', '=', lease.nodeId),
);

function leaseInvalid(leaseId: string, contact: string, licenseId?: string): LatchkeyError {
  return new LatchkeyError('DENIED_LEASE_INVALID', `lease ${leaseId} is not valid any more`, {
    hint: 'the next start asks for a new one',
    licenseId,
    contact: contact === '' ? undefined : contact,
  });
}
