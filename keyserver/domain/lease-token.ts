/** Cuts leases: the row, the claims, and the signed token (compact JWS) that a node keeps. */
import type { Insertable } from 'kysely';
import { allowedUntilMs, graceEndsAtMs } from '#src/licensing/expiry.ts';
import {
  LEASE_LIST_TOKEN_TYPE,
  LEASE_TOKEN_TYPE,
  type LeaseClaims,
  type LeaseReceipt,
} from '#src/licensing/lease-claims.ts';
import { type LeaseTimes, connectivityGraceUntilMs, leaseTimes } from '#src/licensing/lease-rules.ts';
import { preparedInsertAll, preparedQuery } from '../db/prepared-query.ts';
import type { Writer } from '../db/store.ts';
import type { LeaseTable } from '../db/tables/lease.ts';
import type { AnsweredLease } from './answered-lease.ts';
import type { KnownNode } from './decision-facts.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import type { GrantableLicense } from './license-facts.ts';

/** Whom a lease is for, and what for. */
export interface LeaseParties {
  readonly node: KnownNode;
  readonly license: GrantableLicense;
  readonly imageDigest: string;
  readonly imageKeyId: string;
  readonly revision: number;
}

export interface LeaseGrant extends LeaseParties {
  /** When the release was published. */
  readonly publishedAtMs: number;
  readonly nowMs: number;
  /** Hex; null for a renewal. */
  readonly nonce: string | null;
  readonly previousLeaseId: string | null;
}

const insertLeaseRows = preparedInsertAll('lease');

/** A lease that is decided on: what it says, and its row. */
export interface CutLease {
  readonly claims: LeaseClaims;
  readonly row: Insertable<LeaseTable>;
}

/** Writes a lease and gives its claims; sign them only after the commit. */
export async function insertLease(
  server: KeyServer,
  writer: Writer,
  grant: LeaseGrant,
): Promise<LeaseClaims> {
  const lease = cutLease(server, grant);
  await insertLeases(writer, [lease]);
  return lease.claims;
}

/** Writes leases. */
export async function insertLeases(writer: Writer, leases: readonly CutLease[]): Promise<void> {
  await insertLeaseRows(
    writer,
    leases.map(({ row }) => row),
  );
}

/** Makes a lease that has yet to be written. */
export function cutLease(server: KeyServer, grant: LeaseGrant): CutLease {
  const { node, license, nowMs } = grant;
  const endMs = allowedUntilMs(license, { publishedAtMs: grant.publishedAtMs });
  const times = leaseTimes({
    nowMs,
    leaseDurationMs: license.leaseDurationMs,
    renewAfterPercent: license.renewAfterPercent,
    allowedUntilMs: endMs,
    random: server.random(),
  });
  const graceUntilMs = connectivityGraceUntilMs(times, license.connectivityGraceMs, endMs);
  const leaseId = newId('lease', nowMs);
  const row: Insertable<LeaseTable> = {
    id: leaseId,
    organization_id: server.organizationId,
    revision: grant.revision,
    created_at_ms: nowMs,
    updated_at_ms: nowMs,
    license_id: license.licenseId,
    epoch: license.epoch,
    node_id: node.nodeId,
    image_digest: grant.imageDigest,
    image_key_id: grant.imageKeyId,
    nonce: grant.nonce,
    previous_lease_id: grant.previousLeaseId,
    issued_at_ms: times.issuedAtMs,
    renew_at_ms: times.renewAtMs,
    expires_at_ms: times.expiresAtMs,
    usable_until_ms: graceUntilMs,
  };
  return { claims: claimsOf(server, grant, { leaseId, ...times, graceUntilMs }), row };
}

/** A lease that is given to a node; its claims are signed only after the commit. */
export interface GivenLease {
  readonly claims: LeaseClaims;
  write(writer: Writer): Promise<void>;
}

/** A lease that has yet to be written. */
export function newLease(server: KeyServer, grant: LeaseGrant): GivenLease {
  const lease = cutLease(server, grant);
  return { claims: lease.claims, write: (writer) => insertLeases(writer, [lease]) };
}

/** A lease that is given once more: the same, but for what was decided anew. That has yet to be noted. */
export function repeatedLease(
  server: KeyServer,
  parties: LeaseParties,
  { answered, nowMs }: { readonly answered: AnsweredLease; readonly nowMs: number },
): GivenLease {
  return {
    claims: claimsOf(server, parties, answered),
    write: async (writer) => {
      await noteRepeat(writer, { leaseId: answered.leaseId, nowMs });
    },
  };
}

const noteRepeat = preparedQuery(
  (writer, { leaseId, nowMs }: { readonly leaseId: string; readonly nowMs: number }) =>
    writer.updateTable('lease').set({ repeated_at_ms: nowMs }).where('id', '=', leaseId),
);

function claimsOf(
  server: KeyServer,
  { node, license, imageDigest, imageKeyId, revision }: LeaseParties,
  lease: LeaseTimes & Pick<AnsweredLease, 'leaseId' | 'graceUntilMs'>,
): LeaseClaims {
  const { leaseId, issuedAtMs, renewAtMs, expiresAtMs, graceUntilMs } = lease;
  return {
    leaseId,
    organizationId: server.organizationId,
    nodeId: node.nodeId,
    nodeKeyThumbprint: node.keyThumbprint,
    licenseId: license.licenseId,
    epoch: license.epoch,
    imageDigest: imageDigest as LeaseClaims['imageDigest'],
    imageKeyId,
    ...{ issuedAtMs, renewAtMs, expiresAtMs },
    ...graceOf(license),
    ...(graceUntilMs === null ? {} : { connectivityGraceUntilMs: graceUntilMs }),
    revision,
    onRevoke: license.onRevoke,
    contact: license.contact,
  };
}

function graceOf(license: GrantableLicense): Pick<LeaseClaims, 'grace'> {
  const { expiresAtMs: fromMs } = license;
  const untilMs = graceEndsAtMs(license);
  return fromMs === null || untilMs === null || untilMs === fromMs ? {} : { grace: { fromMs, untilMs } };
}

/** A lease that is in the audit log. */
export interface RecordedLease {
  readonly claims: LeaseClaims;
  readonly receipt: LeaseReceipt;
}

/** Signs claims with the organization's lease key, and with them which event tells of them. */
export function signLease(server: KeyServer, lease: RecordedLease): Promise<string> {
  return server.releaseThread.sign(LEASE_TOKEN_TYPE, signedClaims(lease), server.keys.leaseKey);
}

/** As `signLease`, with one signature for all of them; see src/crypto/sign-token.ts. */
export function signLeaseList(server: KeyServer, leases: readonly RecordedLease[]): Promise<string> {
  const { releaseThread, keys } = server;
  return releaseThread.signTogether(LEASE_LIST_TOKEN_TYPE, leases.map(signedClaims), keys.leaseKey);
}

function signedClaims({ claims, receipt }: RecordedLease): LeaseClaims {
  return { ...claims, receipt };
}
