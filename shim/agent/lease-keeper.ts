/**
 * The leases of this node, in memory only. A start asks here; a good lease answers at once, otherwise the key
 * server is asked, once however many starts wait. A revocation voids a lease the moment it arrives, and the
 * image key is wiped with it.
 */
import { BoundedMap } from '#src/base/bounded-map.ts';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_REMEMBERED_LICENSES } from '#src/base/limits.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { LicenseChange, PreflightResponse } from '#src/wire/generated/latchkey/node.ts';
import type { HeldLease } from './held-lease.ts';
import type { LeaseKeeperEvents } from './lease-events.ts';
import type { CarriedLeases, LeaseAuthority } from './lease-authority.ts';
import { explainRefusal, expired, fromDenial, isAway } from './lease-denial.ts';
import { LeaseRequests } from './lease-requests.ts';
import { type LeaseSubject, leaseEndMs, leaseTimeMs, subjectKey } from './lease.ts';

/** Anybody can make images that are refused; the newest denials are enough. */
const MAX_REMEMBERED_DENIALS = 1000;

export class LeaseKeeper {
  readonly #clock: Clock;
  readonly #events: LeaseKeeperEvents;
  readonly #isCutOff: () => boolean;
  readonly #leases = new Map<string, HeldLease>();
  readonly #asking = new Map<string, Promise<HeldLease>>();
  readonly #requests = new LeaseRequests(() => this.#clock.nowMs());
  /** The newest change per license and what was known when it came; a lease on its way may be older. */
  readonly #changes = new BoundedMap<string, { readonly change: LicenseChange; readonly revision: number }>(
    MAX_REMEMBERED_LICENSES,
  );
  /** The key server's newest no, where a start was refused that held no lease. */
  readonly #denials = new BoundedMap<string, LatchkeyError>(MAX_REMEMBERED_DENIALS);
  #authority: LeaseAuthority | undefined;
  #carried: CarriedLeases | undefined;
  #withoutAuthority: LatchkeyError = new LatchkeyError(
    'DENIED_NODE_NOT_ACTIVATED',
    'no license: this node is not activated for this image',
    { hint: "run 'latchkey node activate <license key>' on this node" },
  );

  /** @param isCutOff true while nothing is heard from the key server */
  constructor(clock: Clock, events: LeaseKeeperEvents, isCutOff: () => boolean = () => false) {
    [this.#clock, this.#events, this.#isCutOff] = [clock, events, isCutOff];
  }

  /** Leases are asked for with this from now on; denials of before are forgotten. */
  setAuthority(authority: LeaseAuthority): void {
    this.#authority = authority;
    this.#startAnew();
  }

  /** Carried leases come first from now on while nothing is heard from the key server; denials are forgotten. */
  setCarried(leases: CarriedLeases): void {
    this.#carried = leases;
    this.#startAnew();
  }

  #startAnew(): void {
    this.#denials.clear();
    for (const [key, lease] of this.#leases) {
      if (lease.denial !== undefined) this.#leases.delete(key);
    }
  }

  #refusal(): LatchkeyError | undefined {
    return this.#authority?.refusal() ?? this.#carried?.refusal();
  }

  /** Why there is no authority, while there is none. */
  setUnavailable(reason: LatchkeyError): void {
    this.#withoutAuthority = reason;
  }

  /**
   * Whether an image could be started now, by the key server's word; takes no lease.
   * @throws LatchkeyError DENIED_* as the start would be told; NET_*
   */
  async preflight(imageDigest: string): Promise<PreflightResponse> {
    const keyServer = this.keyServer();
    const refusal = this.#authority?.refusal();
    if (refusal !== undefined) throw refusal;
    return keyServer.preflight({ imageDigest, imageKeyId: '', nodeTimeMs: this.#clock.nowMs() });
  }

  /** The line that leases are asked for on. @throws LatchkeyError why there is none */
  keyServer(): LeaseAuthority['keyServer'] {
    if (this.#authority === undefined) throw this.#withoutAuthority;
    return this.#authority.keyServer;
  }

  all(): HeldLease[] {
    return [...this.#leases.values()];
  }

  /** The lease of a subject, whether it is good or not. */
  find(subject: LeaseSubject): HeldLease | undefined {
    return this.#leases.get(subjectKey(subject));
  }

  /** What the key server has said against a subject last; undefined when it has a good lease or nothing is known. */
  denialOf(subject: LeaseSubject): LatchkeyError | undefined {
    return this.#denials.get(subjectKey(subject)) ?? this.find(subject)?.denial;
  }

  /** True while the lease lets containers start. */
  isGood({ anchor, claims, denial }: HeldLease): boolean {
    return denial === undefined && leaseTimeMs(anchor, this.#clock) < leaseEndMs(claims, this.#isCutOff());
  }

  /** GRACE: the license is past its end, and starts are allowed a while longer. */
  stateOf(lease: HeldLease): 'VALID' | 'GRACE' | 'EXPIRED' {
    if (!this.isGood(lease)) return 'EXPIRED';
    const { grace } = lease.claims;
    return grace !== undefined && leaseTimeMs(lease.anchor, this.#clock) >= grace.fromMs ? 'GRACE' : 'VALID';
  }

  /** The good lease of a subject, for which the key server need not be asked. */
  findGood(subject: LeaseSubject): HeldLease | undefined {
    if (this.#refusal() !== undefined) return undefined;
    const held = this.#leases.get(subjectKey(subject));
    return held !== undefined && this.isGood(held) ? held : undefined;
  }

  /**
   * A good lease for the subject.
   * @param contact whom to ask, for a node without any license
   * @throws LatchkeyError DENIED_*
   */
  async require(subject: LeaseSubject, contact: string | undefined): Promise<HeldLease> {
    const good = this.findGood(subject);
    if (good !== undefined) return good;
    const held = this.#leases.get(subjectKey(subject));
    const refusal = this.#refusal();
    if (refusal !== undefined) throw explainRefusal(refusal, held?.claims, contact);
    return this.#askOnce(subject, held, contact);
  }

  /**
   * The key server has said that a license changed; leases of an older epoch are void from now on. A refusal also
   * voids those of the same epoch: a ban of this node does not change the license.
   * @param revision the key server's when it sent the change
   */
  async applyChange(change: LicenseChange, revision: number): Promise<void> {
    const newest = this.#changes.get(change.licenseId);
    if (newest === undefined || newest.change.epoch <= change.epoch) {
      this.#changes.set(change.licenseId, { change, revision });
    }
    const voidUpTo = change.denial === undefined ? change.epoch - 1 : change.epoch;
    const affected = this.all().filter(
      ({ claims }) => claims.licenseId === change.licenseId && claims.epoch <= voidUpTo,
    );
    for (const lease of affected) {
      if (change.denial !== undefined) this.end(lease, fromDenial(change.denial));
      else {
        this.#leases.delete(subjectKey(lease.subject));
        lease.imageKey.fill(0);
      }
    }
    if (change.denial === undefined) {
      this.#forgetDenials(change.licenseId);
      // Ask again at once, so that the next start does not wait and renewed terms are known.
      await Promise.allSettled(affected.map(({ subject }) => this.require(subject, undefined)));
    }
  }

  /** The key server answers: what was carried here gives way to what it gives. Where it gives nothing, that stays. */
  async replaceCarried(): Promise<void> {
    const authority = this.#authority;
    if (authority === undefined) return;
    for (const lease of this.all().filter(({ carried }) => carried !== undefined)) {
      const online = await this.#acquire(authority, lease.subject).catch(() => undefined);
      if (online === undefined || lease.denial !== undefined || this.find(lease.subject) !== lease) continue;
      this.#take(online);
      lease.imageKey.fill(0);
    }
  }

  #rememberDenial(subject: LeaseSubject, denial: LatchkeyError): void {
    this.#denials.set(subjectKey(subject), denial);
  }

  /** Those of another license stay; those without one are about the node, whose licenses have just been confirmed. */
  #forgetDenials(licenseId: string): void {
    for (const [key, denial] of this.#denials) {
      if (denial.licenseId === undefined || denial.licenseId === licenseId) this.#denials.delete(key);
    }
  }

  /** The key server does not know this node any more, or will not: every lease is void. */
  endAll(reason: LatchkeyError): void {
    for (const lease of this.all()) this.end(lease, reason);
  }

  /** Voids a lease and wipes its key; the next start is told the reason. */
  end(lease: HeldLease, reason: LatchkeyError): void {
    const wasGood = lease.denial === undefined;
    lease.denial = reason;
    lease.imageKey.fill(0);
    if (wasGood) this.#events.onEnded(lease, reason);
  }

  /** Takes the prolonged lease in place of the one that is held. */
  async renewed(lease: HeldLease, token: string, serverTimeMs: number): Promise<void> {
    if (this.#authority === undefined || lease.denial !== undefined) return;
    lease.claims = await this.#authority.verify(token, lease.subject);
    lease.token = token;
    lease.anchor = { serverTimeMs, monotonicMs: this.#clock.monotonicMs() };
  }

  /** Ends the leases whose time is up. A start after that asks the key server again. */
  sweepExpired(): void {
    for (const lease of this.all()) {
      if (lease.denial !== undefined || this.isGood(lease)) continue;
      this.#leases.delete(subjectKey(lease.subject));
      lease.imageKey.fill(0);
      this.#events.onEnded(lease, expired(lease.claims));
      this.#expired.set(subjectKey(lease.subject), lease.claims);
    }
  }

  /** Ended leases, so that a start that cannot reach the key server is told which one it was. */
  readonly #expired = new BoundedMap<string, LeaseClaims>(MAX_REMEMBERED_LICENSES);

  async #askOnce(
    subject: LeaseSubject,
    held: HeldLease | undefined,
    contact: string | undefined,
  ): Promise<HeldLease> {
    const key = subjectKey(subject);
    const running = this.#asking.get(key);
    if (running !== undefined) return running;
    const asking = this.#ask(subject, held, contact);
    this.#asking.set(key, asking);
    try {
      return await asking;
    } finally {
      this.#asking.delete(key);
    }
  }

  async #ask(
    subject: LeaseSubject,
    held: HeldLease | undefined,
    contact: string | undefined,
  ): Promise<HeldLease> {
    const [authority, carried] = [this.#authority, this.#carried];
    const own = authority === undefined || this.#isCutOff() ? await carried?.open(subject) : undefined;
    if (own !== undefined) return this.#take(own);
    if (authority === undefined) throw explainRefusal(this.#withoutAuthority, undefined, contact);
    const before = held?.claims ?? this.#expired.get(subjectKey(subject));
    try {
      return this.#take(await this.#acquire(authority, subject));
    } catch (error) {
      const known = toLatchkeyError(error);
      const fallback = isAway(known) ? await carried?.open(subject) : undefined;
      if (fallback !== undefined) return this.#take(fallback);
      // A license that was revoked stays so while the key server is away; otherwise its newest word counts.
      const refusal = explainRefusal(known, before, contact);
      if (refusal.code !== 'DENIED_LEASE_EXPIRED') {
        this.#rememberDenial(subject, refusal);
        this.#events.onDenied?.(refusal);
      }
      throw refusal.code === 'DENIED_LEASE_EXPIRED' && held?.denial !== undefined ? held.denial : refusal;
    }
  }

  async #acquire(authority: LeaseAuthority, subject: LeaseSubject): Promise<HeldLease> {
    const answer = await this.#requests.ask(authority.keyServer, subject);
    const claims = await authority.verify(answer.lease, subject);
    return {
      ...{ subject, token: answer.lease, claims },
      statement: authority.openStatement(answer.statement, claims),
      anchor: { serverTimeMs: answer.serverTimeMs, monotonicMs: this.#clock.monotonicMs() },
      imageKey: await authority.openImageKey(answer.imageKeyJwe),
      ...{ auditSequence: answer.auditSequence, denial: undefined },
    };
  }

  #take(lease: HeldLease): HeldLease {
    const key = subjectKey(lease.subject);
    this.#leases.set(key, lease);
    this.#expired.delete(key);
    this.#denials.delete(key);
    this.#refuseOutdated(lease);
    this.#events.onGranted?.(lease);
    return lease;
  }

  /** A lease cut before a change that has arrived already is void like those that were held then. */
  #refuseOutdated(lease: HeldLease): void {
    const newest = this.#changes.get(lease.claims.licenseId);
    if (newest?.change.denial === undefined || lease.claims.revision > newest.revision) return;
    const denial = fromDenial(newest.change.denial);
    this.end(lease, denial);
    throw denial;
  }
}
