/** The lease that a nonce has got before, for requests that come a second time; see src/licensing/replay.ts. */
import type { LeaseTimes } from '#src/licensing/lease-rules.ts';
import type { AnsweredRequest } from '#src/licensing/replay.ts';

export interface AnsweredLease extends AnsweredRequest, LeaseTimes {
  readonly leaseId: string;
  /** Until when a node that reaches nobody may use it; null = until it ends. */
  readonly graceUntilMs: number | null;
}

/** For the join that finds it by its nonce. */
export const ANSWERED_COLUMNS = [
  'lease.id as lease_id',
  'lease.license_id as lease_license_id',
  'lease.epoch as lease_epoch',
  'lease.image_digest as lease_image_digest',
  'lease.image_key_id as lease_image_key_id',
  'lease.issued_at_ms as lease_issued_at_ms',
  'lease.renew_at_ms as lease_renew_at_ms',
  'lease.expires_at_ms as lease_expires_at_ms',
  'lease.usable_until_ms as lease_usable_until_ms',
  'lease.repeated_at_ms as lease_repeated_at_ms',
] as const;

interface AnsweredRow {
  readonly lease_id: string | null;
  readonly lease_license_id: string | null;
  readonly lease_epoch: number | null;
  readonly lease_image_digest: string | null;
  readonly lease_image_key_id: string | null;
  readonly lease_issued_at_ms: number | null;
  readonly lease_renew_at_ms: number | null;
  readonly lease_expires_at_ms: number | null;
  readonly lease_usable_until_ms: number | null;
  readonly lease_repeated_at_ms: number | null;
}

/** Undefined when the join found none. */
export function toAnswered(row: AnsweredRow): AnsweredLease | undefined {
  if (row.lease_id === null) return undefined;
  return {
    leaseId: row.lease_id,
    licenseId: row.lease_license_id ?? '',
    epoch: row.lease_epoch ?? 0,
    imageDigest: row.lease_image_digest ?? '',
    imageKeyId: row.lease_image_key_id ?? '',
    issuedAtMs: row.lease_issued_at_ms ?? 0,
    renewAtMs: row.lease_renew_at_ms ?? 0,
    expiresAtMs: row.lease_expires_at_ms ?? 0,
    graceUntilMs: row.lease_usable_until_ms,
    isRepeated: row.lease_repeated_at_ms !== null,
  };
}
