/** What the lease keeper needs of an activated node. */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { ReleaseStatement } from '#src/image/statement.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { KeyServer } from './key-server.ts';
import type { HeldLease } from './held-lease.ts';
import type { LeaseSubject } from './lease.ts';

/** The line to the key server, and what checks its answers. */
export interface LeaseAuthority {
  readonly keyServer: KeyServer;
  /** Why no container may start now, whatever its lease. */
  refusal(): LatchkeyError | undefined;
  /** Checks a lease's signature and that it is ours. */
  verify(token: string, subject?: LeaseSubject): Promise<LeaseClaims>;
  /** Reads the release statement, which the key server has signed, and checks that it is about the lease's image key. */
  openStatement(envelope: Uint8Array, claims: LeaseClaims): ReleaseStatement;
  /** Opens the sealed image key with the node key. */
  openImageKey(jwe: string): Promise<Buffer>;
}

/** Leases that were carried to the node. */
export interface CarriedLeases {
  /** Why no container may start now, whatever its lease. */
  refusal(): LatchkeyError | undefined;
  /** A good lease of a subject; undefined = none was carried here. */
  open(subject: LeaseSubject): Promise<HeldLease | undefined>;
}
