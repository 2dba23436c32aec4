/** What every operation of the key server works with; made once at start and passed in. */
import type { Clock } from '#src/base/clock.ts';
import type { AuditPublisher } from '../audit/audit-publisher.ts';
import type { AuditExports } from '../audit/export/audit-exports.ts';
import type { OrganizationKeys } from '../custody/organization-keys.ts';
import type { ReleaseThread } from '../custody/release-thread.ts';
import type { RefusalTally } from '../audit/refusal-tally.ts';
import type { Store } from '../db/store.ts';
import type { Drain } from '../drain.ts';
import type { RateLimit } from '../rate-limit.ts';
import type { ChangeFeed } from './change-feed.ts';
import type { Seal } from './seal.ts';

export interface KeyServer {
  readonly organizationId: string;
  readonly store: Store;
  readonly seal: Seal;
  /** Reading it @throws LatchkeyError DENIED_SEALED while the key server is sealed. */
  readonly keys: OrganizationKeys;
  /** Authenticates the cursors of lists; while the key server is sealed, one of this process alone. */
  readonly cursorKey: Uint8Array;
  /** JWK that verifies leases, as nodes get it at activation. */
  readonly leaseVerificationJwk: string;
  /** JWK that verifies release statements. */
  readonly releaseVerificationJwk: string;
  readonly releaseThread: ReleaseThread;
  readonly nodeCertificateLifetimeMs: number;
  /** Webhooks may go to addresses of the own network, and over http. */
  readonly allowsPrivateWebhooks: boolean;
  readonly clock: Clock;
  /** Uniform in [0, 1); spreads renewals. */
  readonly random: () => number;
  readonly changes: ChangeFeed;
  /** Counts what is decided under each license. */
  readonly licenseRate: RateLimit;
  /** Refused strangers, on their way into the audit log. */
  readonly refusals: RefusalTally;
  /** Reading it @throws LatchkeyError DENIED_SEALED while the key server is sealed. */
  readonly auditPublisher: AuditPublisher;
  readonly auditExports: AuditExports;
  readonly drain: Drain;
}

/** The same key server with another store. Not a copy: reading the keys of a sealed one for it would refuse what needs none. */
export function withStore(server: KeyServer, store: Store): KeyServer {
  return Object.create(server, { store: { value: store } }) as KeyServer;
}
