/** Renewal: prolongs leases without handing out keys again, each decided on its own. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LEASES_PER_RENEWAL } from '#src/base/limits.ts';
import { decide } from '#src/licensing/decide.ts';
import { type ChainedLease, isLeaseCloned } from '#src/licensing/lease-chain.ts';
import type { ChainPosition } from '#src/licensing/node-chain.ts';
import { type AuditEntry, appendAuditEvents } from '../audit/append-event.ts';
import { together } from '../db/open-transaction.ts';
import { preparedSetQuery } from '../db/prepared-query.ts';
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
import { loadRenewedRelatives } from './lease-chains.ts';
import { type CutLease, cutLease, insertLeases } from './lease-token.ts';
import { takePosition } from './node-sessions.ts';
import { loadSession } from './session-row.ts';
import { type DecidedRenewal, type SignedRenewals, signAsList, signEach } from './signed-renewals.ts';
import { suspectNode } from './suspect-node.ts';
import { type GrantableLicense, loadNodeLicenses } from './license-facts.ts';

const MAX_LEASE_ID = 128;
/** Renewals repeat freely: they hand out no key. */
const NO_NONCE = '';

export interface RenewalTerms {
  readonly nodeTimeMs: number;
  /** Undefined from a node that is too old to have one. */
  readonly position?: ChainPosition | undefined;
  /** False from a node that is too old for leases that share a signature. */
  readonly acceptsLeaseList?: boolean;
}

export interface Renewals extends SignedRenewals {
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
  { nodeTimeMs, position, acceptsLeaseList = false }: RenewalTerms,
): Promise<Renewals> {
  if (leaseIds.length > MAX_LEASES_PER_RENEWAL) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `more than ${MAX_LEASES_PER_RENEWAL} leases in one renewal`);
  }
  if (leaseIds.some((leaseId) => leaseId === '' || leaseId.length > MAX_LEASE_ID)) {
    throw new LatchkeyError('INPUT_MALFORMED', 'a lease id is malformed');
  }
  const { outcomes, revision, isNodeCloned } = await server.store.write(async (writer) => {
    const context = await loadRenewal(server, writer, identity, leaseIds, nodeTimeMs);
    const { node, organization } = context;
    const stale =
      node?.state === 'ACTIVE'
        ? await takePosition(writer, node.nodeId, await loadSession(writer, node.nodeId), position)
        : undefined;
    // Where the session finds out what a node is, it knows more than a lease does.
    if (stale !== undefined && position !== undefined) throw stale;
    const { decided, isNodeCloned } = await decideAll(context, leaseIds);
    if (stale !== undefined && !isNodeCloned) throw stale;
    const recorded = await record(context, decided);
    return { outcomes: recorded, revision: organization.revision, isNodeCloned };
  });
  if (isNodeCloned) server.changes.publish([identity.nodeId]);
  const sign = acceptsLeaseList ? signAsList : signEach;
  return { ...(await sign(server, outcomes)), revision };
}

/** What the leases of a call are decided on: loaded once, as many of them are for the same image. */
interface RenewalContext {
  readonly server: KeyServer;
  readonly writer: Writer;
  readonly organization: OrganizationFacts;
  readonly node: KnownNode | null;
  readonly licenses: readonly GrantableLicense[];
  /** Those of this node, by id. */
  readonly leases: ReadonlyMap<string, LeaseRow>;
  /** Those of their chains that were renewed. */
  readonly renewed: readonly ChainedLease[];
  /** By digest and key. */
  readonly images: ReadonlyMap<string, KnownImage>;
  readonly identity: NodeIdentity;
  readonly nodeTimeMs: number;
  readonly nowMs: number;
}

interface Decided {
  readonly leaseId: string;
  readonly outcome: CutLease | LatchkeyError;
}

/** @throws LatchkeyError RATE_LIMITED, for the whole call: a lease must not end because of it */
async function loadRenewal(
  server: KeyServer,
  writer: Writer,
  identity: NodeIdentity,
  leaseIds: readonly string[],
  nodeTimeMs: number,
): Promise<RenewalContext> {
  const { organizationId } = server;
  const nowMs = server.clock.nowMs();
  const [organization, node, nodeLicenses, rows] = await together(
    loadOrganization(writer, organizationId),
    loadNode(writer, organizationId, identity),
    loadNodeLicenses(writer, identity.nodeId, nowMs),
    leaseIds.length === 0 ? Promise.resolve([]) : leaseRows(writer, leaseIds),
  );
  const licenses = node === null ? [] : nodeLicenses;
  const leases = new Map<string, LeaseRow>();
  for (const row of rows) if (row.node_id === identity.nodeId) leases.set(row.id, row);
  const licenseIds = new Set([...leases.values()].map((lease) => lease.license_id));
  for (const licenseId of licenseIds) server.licenseRate.spend(licenseId, 'calls under this license');
  const images = new Map<string, KnownImage>();
  for (const lease of leases.values()) {
    const name = imageName(lease);
    if (images.has(name)) continue;
    const { nodeId, keyThumbprint } = identity;
    const { image_digest: imageDigest, image_key_id: imageKeyId } = lease;
    const question = { nodeId, keyThumbprint, imageDigest, imageKeyId, nonce: NO_NONCE };
    images.set(name, (await loadStart(writer, organizationId, question)).image);
  }
  const renewed = await loadRenewedRelatives(writer, [...leases.values()].map(toChained));
  return {
    ...{ server, writer, organization, node, licenses, leases, renewed, images, identity },
    ...{ nodeTimeMs, nowMs },
  };
}

function toChained(lease: LeaseRow): ChainedLease {
  return { leaseId: lease.id, previousLeaseId: lease.previous_lease_id };
}

function imageName(lease: LeaseRow): string {
  return `${lease.image_digest} ${lease.image_key_id}`;
}

/** Writes the leases that follow, and an audit event for each that was asked for. */
async function record(
  { server, writer, identity, nowMs }: RenewalContext,
  decided: readonly Decided[],
): Promise<DecidedRenewal[]> {
  const cut = decided.flatMap(({ outcome }) => (outcome instanceof LatchkeyError ? [] : [outcome]));
  const events = decided.map(({ leaseId, outcome }): AuditEntry => {
    const event = { actor: `node:${identity.nodeId}`, action: 'lease.renew', target: leaseId } as const;
    if (outcome instanceof LatchkeyError) return { ...event, outcome: 'denied', code: outcome.code };
    const { leaseId: newLeaseId, licenseId } = outcome.claims;
    return { ...event, outcome: 'allowed', detail: { leaseId: newLeaseId, licenseId } };
  });
  const [receipts] = await together(
    appendAuditEvents(writer, server.organizationId, nowMs, events),
    insertLeases(writer, cut),
  );
  return decided.map(({ leaseId, outcome }, index) => {
    const receipt = receipts[index];
    if (receipt === undefined) throw new TypeError('a renewal is not in the audit log');
    const isRefused = outcome instanceof LatchkeyError;
    return { leaseId, outcome: isRefused ? outcome : { claims: outcome.claims, receipt } };
  });
}

/** One lease that exposes a copied node is enough: nothing is renewed then, until somebody has looked at the node. */
async function decideAll(
  context: RenewalContext,
  leaseIds: readonly string[],
): Promise<{ readonly decided: Decided[]; readonly isNodeCloned: boolean }> {
  const decided = leaseIds.map((leaseId) => ({ leaseId, outcome: decideRenewal(context, leaseId) }));
  const isExposing = ({ outcome }: Decided) =>
    outcome instanceof LatchkeyError && outcome.code === 'DENIED_LEASE_CLONED';
  const { server, writer, node, organization } = context;
  if (node === null || !decided.some(isExposing)) return { decided, isNodeCloned: false };
  const refusal = await suspectNode(server, writer, node, 'CLONED', organization.contact);
  const refused = decided.map((one) =>
    one.outcome instanceof LatchkeyError ? one : { ...one, outcome: refusal },
  );
  return { decided: refused, isNodeCloned: true };
}

function decideRenewal(context: RenewalContext, leaseId: string): CutLease | LatchkeyError {
  const { server, organization, node, licenses, nowMs } = context;
  const lease = context.leases.get(leaseId);
  const image = lease && context.images.get(imageName(lease));
  const isCloned = lease !== undefined && isLeaseCloned(toChained(lease), context.renewed);
  // A node that was looked at and readmitted begins anew.
  const isOfBefore = lease !== undefined && node !== null && lease.revision < node.revision;
  const decision = decide({
    // A sealed key server answers no call; a refusal of the one lease would end it at the node.
    sealed: false,
    node,
    // A renewal prolongs the license it was cut from and never moves to another one.
    licenses: licenses.filter((license) => license.licenseId === lease?.license_id),
    image,
    nowMs,
    nodeTimeMs: context.nodeTimeMs,
    isLeaseCloned: isCloned && !isOfBefore,
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
  if (license.epoch !== lease.epoch || lease.expires_at_ms <= nowMs || isCarried || isCloned) {
    return leaseInvalid(leaseId, license.contact, license.licenseId);
  }
  return cutLease(server, {
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

interface LeaseRow {
  readonly id: string;
  readonly node_id: string;
  readonly license_id: string;
  readonly previous_lease_id: string | null;
  /** Of the organization when it was cut. */
  readonly revision: number;
  readonly epoch: number;
  readonly image_digest: string;
  readonly image_key_id: string;
  readonly expires_at_ms: number;
  readonly offline_bundle_id: string | null;
}

/** By their ids alone: asked for the node too, SQLite reads all that the node ever had. */
const leaseRows = preparedSetQuery((writer, leaseIds) =>
  writer
    .selectFrom('lease')
    .select(['id', 'node_id', 'license_id', 'epoch', 'image_digest', 'image_key_id', 'expires_at_ms'])
    .select(['previous_lease_id', 'revision', 'offline_bundle_id'])
    .where('id', 'in', leaseIds),
);

function leaseInvalid(leaseId: string, contact: string, licenseId?: string): LatchkeyError {
  return new LatchkeyError('DENIED_LEASE_INVALID', `lease ${leaseId} is not valid any more`, {
    hint: 'the next start asks for a new one',
    licenseId,
    contact: contact === '' ? undefined : contact,
  });
}
