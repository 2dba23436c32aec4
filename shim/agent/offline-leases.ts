/**
 * The bundles that were carried to this node, one for each license. They lie on the disk as they came, with the image keys
 * sealed to the node key; the node's memory says which number was the last and what the key server has said since.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type JWK, calculateJwkThumbprint } from 'jose';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import {
  importRefusal,
  type OfflineBundleClaims,
  type OfflineBundleFile,
  parseOfflineBundleFile,
} from '#src/licensing/offline-bundle.ts';
import type { LicenseChange } from '#src/wire/generated/latchkey/node.ts';
import { openImageKey } from './activation.ts';
import type { HeldLease } from './held-lease.ts';
import type { LeaseSubject } from './lease.ts';
import type { KeyUse } from './node-key.ts';
import type { NodeMemory } from './node-memory.ts';
import { type OpenedBundle, invalidBundle, openBundle } from './offline-bundle.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

const FILE_NAME = /^offline-lic_[0-9A-Za-z-]{1,64}\.json$/;
/** So much of the time that has passed is lost when the machine dies. */
const KEEP_TIME_EVERY_MS = 600_000;

export interface OfflineLeasesParts {
  readonly directory: string;
  readonly memory: NodeMemory;
  readonly clock: Clock;
  readonly key: Pick<KeyUse, 'agree' | 'publicKey'>;
  readonly onFailed: (error: unknown) => void;
}

/** Who the node is; nobody before its first bundle. */
export interface BundleTrust {
  readonly authorityPem: string;
  readonly nodeId: string | undefined;
}

/** A bundle, and how many containers were started with it. */
export interface UsedBundle extends OpenedBundle {
  readonly starts: number;
}

export class OfflineLeases {
  readonly #parts: OfflineLeasesParts;
  readonly #nodeKeyThumbprint: string;
  readonly #bundles = new Map<string, OpenedBundle>();
  #timer: NodeJS.Timeout | undefined;
  /** What was heard is on the disk when it resolves. */
  #settled: Promise<void> = Promise.resolve();

  private constructor(parts: OfflineLeasesParts, nodeKeyThumbprint: string) {
    this.#parts = parts;
    this.#nodeKeyThumbprint = nodeKeyThumbprint;
  }

  /**
   * Takes up what earlier runs have kept; a file that is not good is as good as none.
   * @param trust undefined on a node that was never activated: it has kept nothing
   */
  static async open(parts: OfflineLeasesParts, trust: BundleTrust | undefined): Promise<OfflineLeases> {
    const publicJwk = (await parts.key.publicKey()).export({ format: 'jwk' }) as JWK;
    const leases = new OfflineLeases(parts, await calculateJwkThumbprint(publicJwk));
    if (trust !== undefined) await leases.#load(trust);
    return leases;
  }

  async #load(trust: BundleTrust): Promise<void> {
    const { directory, memory, onFailed } = this.#parts;
    const nodeKeyThumbprint = this.#nodeKeyThumbprint;
    const names = await readdir(directory).catch((error: unknown) => {
      if (systemErrorCode(error) === 'ENOENT') return [];
      throw error;
    });
    for (const name of names.filter((found) => FILE_NAME.test(found))) {
      try {
        const text = (await readPrivateFile(directory, name)) ?? '';
        const file = parseOfflineBundleFile(Buffer.from(text), name);
        const bundle = await openBundle(file, trust.authorityPem, nodeKeyThumbprint);
        const { claims } = bundle;
        if (claims.nodeId !== trust.nodeId || name !== fileNameOf(claims.licenseId)) continue;
        if (!this.#isRemembered(claims) || memory.isVoid(claims)) {
          onFailed(invalidBundle(`number ${claims.sequence} is not what this node knows of`));
          continue;
        }
        const { licenseId, sequence } = claims;
        if (sequence > memory.lastSequence(licenseId)) await memory.keepSequence(licenseId, sequence);
        this.#use(bundle);
      } catch (error) {
        onFailed(error);
      }
    }
  }

  /** A bundle with a limit is none where its starts are not counted; an import that was cut short has begun no count. */
  #isRemembered({ licenseId, sequence, maxStarts, memoryId }: OfflineBundleClaims): boolean {
    const { memory } = this.#parts;
    return (
      sequence >= memory.lastSequence(licenseId) && (maxStarts === undefined || memoryId === memory.memoryId)
    );
  }

  /** The bundles that are kept. */
  all(): UsedBundle[] {
    const { memory } = this.#parts;
    return [...this.#bundles.values()].map((bundle) => ({
      ...bundle,
      starts: memory.startsOf(bundle.claims.licenseId),
    }));
  }

  /** What a request says of where this node stands: the highest number of a bundle that it has seen, and its memory. */
  async place(): Promise<{ lastSequence: number; memoryId: string }> {
    const { memory } = this.#parts;
    return { lastSequence: memory.lastSequence(), memoryId: await memory.claimMemoryId() };
  }

  /**
   * Checks a bundle that somebody gives this node. Nothing is kept yet.
   * @throws LatchkeyError DENIED_LEASE_INVALID, DENIED_STATEMENT_INVALID, DENIED_REPLAY, DENIED_LEASE_EXPIRED,
   *   DENIED_CLOCK_ROLLBACK
   */
  async examine(file: OfflineBundleFile, { authorityPem, nodeId }: BundleTrust): Promise<OpenedBundle> {
    const { memory } = this.#parts;
    const nodeKeyThumbprint = this.#nodeKeyThumbprint;
    const bundle = await openBundle(file, authorityPem, nodeKeyThumbprint);
    const { claims } = bundle;
    const { licenseId, contact } = claims;
    const refusal = importRefusal(claims, {
      ...{ nodeKeyThumbprint, nodeId, nowMs: memory.nowMs() },
      lastSequence: memory.lastSequence(licenseId),
    });
    if (refusal !== null) {
      throw new LatchkeyError(refusal.code, `the offline bundle is refused: ${refusal.reason}`, {
        hint: 'ask the vendor for a new one, with a request of this node',
        licenseId,
        contact,
      });
    }
    if (claims.maxStarts !== undefined && claims.memoryId !== memory.memoryId) {
      throw invalidBundle('this node has lost its memory since the request, and with it the count of starts');
    }
    if (memory.isVoid(claims)) throw invalidBundle('the license or this node was changed since it was made');
    // The key server has said this time, if not to this node.
    memory.heardOffline(claims.issuedAtMs, claims.revision);
    const turnedBack = memory.clockRefusal();
    if (turnedBack !== undefined) throw turnedBack;
    return bundle;
  }

  /** Keeps a bundle that was examined, in place of the one before; on the disk when this resolves. */
  async keep(bundle: OpenedBundle): Promise<void> {
    const { directory, memory } = this.#parts;
    const { licenseId, sequence } = bundle.claims;
    await writePrivateFile(directory, fileNameOf(licenseId), JSON.stringify(bundle.file));
    const before = this.#bundles.get(licenseId);
    // At once with the number, so that starts meanwhile are counted under the bundle that they are of.
    this.#use(bundle);
    try {
      await memory.keepSequence(licenseId, sequence);
    } catch (error) {
      if (before === undefined) this.#bundles.delete(licenseId);
      else this.#use(before);
      throw error;
    }
  }

  /** Why no container may start now, whatever its lease. */
  refusal(): LatchkeyError | undefined {
    return this.#parts.memory.clockRefusal();
  }

  /** A good lease of a subject; undefined = none was carried here, or its time is up. */
  async open(subject: LeaseSubject): Promise<HeldLease | undefined> {
    const { memory, clock, key } = this.#parts;
    for (const bundle of this.#bundles.values()) {
      const carried = bundle.find(subject);
      const nowMs = memory.nowMs();
      if (carried === undefined || nowMs >= carried.claims.expiresAtMs) continue;
      // Once for each image and run, so it may cost a write: later the clock must not show less.
      memory.passed();
      await memory.keep().catch(this.#parts.onFailed);
      const { token, claims, statement, imageKeyJwe } = carried;
      const imageKey = await openImageKey(imageKeyJwe, key);
      // It may have become void meanwhile.
      if (this.#bundles.get(claims.licenseId) !== bundle) continue;
      return {
        ...{ subject, token, claims, statement },
        anchor: { serverTimeMs: nowMs, monotonicMs: clock.monotonicMs() },
        imageKey,
        auditSequence: 0,
        denial: undefined,
        carried: {
          startRefusal: () => this.#startRefusal(subject, claims.licenseId),
          countStart: () => this.#countStart(subject, claims.licenseId),
        },
      };
    }
    return undefined;
  }

  /** What a start is counted under: the lease's own bundle or, when that is used up, another one with the image. */
  #countedUnder(subject: LeaseSubject, licenseId: string): OfflineBundleClaims | undefined {
    const { memory } = this.#parts;
    const own = this.#bundles.get(licenseId)?.claims;
    const all = [...this.#bundles.values()]
      .filter(({ claims }) => memory.nowMs() < claims.expiresAtMs)
      .flatMap((bundle) => (bundle.find(subject) === undefined ? [] : [bundle.claims]));
    const hasStarts = (claims: OfflineBundleClaims): boolean =>
      memory.startsOf(claims.licenseId) < (claims.maxStarts ?? Infinity);
    return own !== undefined && hasStarts(own) ? own : (all.find(hasStarts) ?? own);
  }

  #startRefusal(subject: LeaseSubject, ofLicense: string): LatchkeyError | undefined {
    const claims = this.#countedUnder(subject, ofLicense);
    if (claims === undefined) return invalidBundle('it was removed since');
    const { licenseId, maxStarts, contact } = claims;
    if (maxStarts === undefined || this.#parts.memory.startsOf(licenseId) < maxStarts) return undefined;
    return new LatchkeyError(
      'DENIED_OFFLINE_STARTS',
      `the offline bundle is for ${maxStarts} starts of containers, and all were used`,
      { hint: 'ask the vendor for a new one, with a request of this node', licenseId, contact },
    );
  }

  /** Where there is a limit, it is on the disk before the container starts: a machine that dies gives no start back. */
  async #countStart(subject: LeaseSubject, ofLicense: string): Promise<void> {
    const refusal = this.#startRefusal(subject, ofLicense);
    if (refusal !== undefined) throw refusal;
    const claims = this.#countedUnder(subject, ofLicense);
    if (claims !== undefined)
      await this.#parts.memory.countStart(claims.licenseId, claims.maxStarts !== undefined);
  }

  /** The key server has said what a license is now: bundles of before are void, also those that come later. */
  licenseChanged({ licenseId, epoch, denial }: LicenseChange, revision: number): void {
    const { memory } = this.#parts;
    const isNews = memory.noteLicense(licenseId, {
      epoch,
      deniedRevision: denial === undefined ? 0 : revision,
    });
    if (isNews) this.#settle(memory.keep());
    const bundle = this.#bundles.get(licenseId);
    if (bundle !== undefined && memory.isVoid(bundle.claims)) this.#drop(bundle);
  }

  /** The key server will have nothing to do with this node: no bundle of before is of use any more. */
  nodeRefused(): void {
    const { memory } = this.#parts;
    for (const bundle of this.#bundles.values()) {
      const { licenseId, epoch, revision } = bundle.claims;
      memory.noteLicense(licenseId, { epoch, deniedRevision: revision });
      this.#settle(memory.keep());
      this.#drop(bundle);
    }
  }

  /** Resolves when what was heard is on the disk, and never when it could not be written. */
  settled(): Promise<void> {
    return this.#settled;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #use(bundle: OpenedBundle): void {
    const { memory, onFailed } = this.#parts;
    this.#bundles.set(bundle.claims.licenseId, bundle);
    memory.heardOffline(bundle.claims.issuedAtMs, bundle.claims.revision);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      memory.passed();
      memory.keep().catch(onFailed);
    }, KEEP_TIME_EVERY_MS).unref();
  }

  #drop({ claims: { licenseId } }: OpenedBundle): void {
    this.#bundles.delete(licenseId);
    this.#settle(rm(join(this.#parts.directory, fileNameOf(licenseId)), { force: true }));
  }

  #settle(work: Promise<unknown>): void {
    this.#settled = Promise.all([this.#settled, work]).then(
      () => undefined,
      (error: unknown) => {
        this.#parts.onFailed(error);
        return new Promise<void>(() => undefined);
      },
    );
  }
}

function fileNameOf(licenseId: string): string {
  return `offline-${licenseId}.json`;
}
