/**
 * Brings what runs and what lies in memory in line with what the licenses say, again and again until there is nothing
 * left to do: containers that have to end are ended, also those that were about to start when the refusal came;
 * plaintext that nobody may use goes.
 */
import type { Clock } from '#src/base/clock.ts';
import { type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { signalWorkload } from '../containerd/workloads.ts';
import { ContainerStopper, type Stoppable, workloadName } from './container-stopper.ts';
import { type GatedWorkload, gatesOf } from './gated-workloads.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { type LeaseSubject, subjectKey } from './lease.ts';
import type { LicensedImages } from './licensed-images.ts';
import { STARTING_MS } from './plaintext.ts';
import type { GatedChain, PlaintextHolder } from './plaintext-holder.ts';
import type { PlaintextReport, PlaintextReporter } from './plaintext-reporter.ts';
import type { RefusedLicense, RefusedLicenses } from './refused-licenses.ts';
import type { Refusal, Standings } from './standing.ts';

/** Between two looks while containers are being ended. */
const STOPPING_MS = 250;
/** ... while one may come that was allowed just before the refusal ... */
const SETTLING_MS = 1000;
/** ... while plaintext of a refused license is left ... */
const LEFTOVER_MS = 5000;
/** ... and when all is well: plaintext becomes idle, leases end. */
const QUIET_MS = 30_000;
/** Of an image that runs and was denied for a reason of its own: each question is an entry in the audit log. */
const ASK_DENIED_AGAIN_MS = 600_000;

/** What is left of the images of a refused license. */
export interface Leftovers {
  readonly containers: number;
  /** Snapshots with files in memory, what containers have written included. */
  readonly layers: number;
}

export interface EnforcementEvents {
  readonly onContainersStopped: (license: RefusedLicense, containers: readonly string[]) => void;
  readonly onPlaintextGone: (license: RefusedLicense) => void;
  readonly onFailed: (error: LatchkeyError) => void;
}

export interface EnforcementParts {
  readonly containerd: ContainerdConnection;
  readonly leases: LeaseKeeper;
  readonly images: LicensedImages;
  readonly refused: RefusedLicenses;
  readonly standings: Standings;
  readonly plaintext: PlaintextHolder;
  /** See `SharedLayers`. */
  readonly passOnLayers: () => Promise<boolean>;
  readonly reporter: PlaintextReporter;
  readonly clock: Clock;
  readonly stopGraceMs: number;
  /** The licenses of this node. */
  readonly licenses: () => readonly { readonly licenseId: string; readonly productCode: string }[];
  readonly events: EnforcementEvents;
}

export class Enforcement {
  readonly #parts: EnforcementParts;
  readonly #stopper: ContainerStopper;
  readonly #askedAtMs = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isWanted = false;
  #isStopped = false;

  constructor(parts: EnforcementParts) {
    this.#parts = parts;
    const { clock, containerd, stopGraceMs } = parts;
    this.#stopper = new ContainerStopper({
      clock,
      stopGraceMs,
      signal: (workload, signal) => signalWorkload(containerd, workload, signal),
    });
  }

  /** Something has changed: look now. */
  trigger(): void {
    clearTimeout(this.#timer);
    if (this.#isStopped) return;
    this.#isWanted = true;
    if (!this.#isRunning) void this.#run();
  }

  /** The image has a lease; when that ends, somebody asks anew, however short the time since it was refused before. */
  granted(subject: LeaseSubject): void {
    this.#askedAtMs.delete(subjectKey(subject));
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    let nextMs = QUIET_MS;
    while (this.#isWanted && !this.#isStopped) {
      this.#isWanted = false;
      try {
        nextMs = await this.#pass();
      } catch (error) {
        nextMs = LEFTOVER_MS;
        this.#parts.events.onFailed(toLatchkeyError(error));
      }
    }
    this.#isRunning = false;
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.trigger();
    }, nextMs);
  }

  /** @returns when to look again */
  async #pass(): Promise<number> {
    const { plaintext, refused, passOnLayers } = this.#parts;
    let running = await plaintext.running();
    await this.#askWhereUnclear(running);
    if (await passOnLayers()) running = await plaintext.running();
    const stoppable = running.flatMap((gated) => this.#stoppable(gated));
    await this.#stopper.step(stoppable);
    await plaintext.sweep(running);
    await this.#forgetUnneededImages();
    const reports: PlaintextReport[] = [];
    for (const license of refused.all()) reports.push(await this.#look(license, running));
    this.#parts.reporter.note(reports);
    if (stoppable.length > 0) return STOPPING_MS;
    if (refused.all().some((license) => this.#maySettle(license))) return SETTLING_MS;
    return reports.some(({ plaintextGoneAtMs }) => plaintextGoneAtMs === 0) ? LEFTOVER_MS : QUIET_MS;
  }

  #stoppable({ workload, chain }: GatedWorkload): Stoppable[] {
    const refusals = gatesOf(chain)
      .map((gate) => this.#parts.standings.refusalOf(gate))
      .filter((refusal) => refusal !== undefined && refusal.onRevoke !== 'deny-start');
    if (refusals.length === 0) return [];
    for (const refusal of refusals) {
      this.#parts.refused.get(refusal?.licenseId ?? '')?.stopped.add(workloadName(workload));
    }
    return [{ workload, how: refusals.some((refusal) => refusal?.onRevoke === 'kill') ? 'kill' : 'stop' }];
  }

  /**
   * What runs, and what containers have written, should have a lease: an agent that was restarted has none, and one whose
   * time is up does not say whether the license has ended too. And a refusal may not be the last word for a node that
   * has another license for the product.
   */
  async #askWhereUnclear(running: readonly GatedWorkload[]): Promise<void> {
    const { plaintext, clock, leases } = this.#parts;
    const written = (await plaintext.chains()).filter(({ isWritten }) => isWritten);
    const chains = [
      ...running.map(({ chain }) => chain),
      // What is being unpacked has asked already.
      ...written.map(({ chain }) => chain.slice(1)),
    ];
    const subjects = new Map(chains.flatMap(gatesOf).map((gate) => [subjectKey(gate), gate]));
    const nowMs = clock.monotonicMs();
    const unclear = [...subjects].filter(([key, gate]) => {
      if (leases.findGood(gate) !== undefined) this.#askedAtMs.delete(key);
      const againAfterMs = this.#askAgainAfterMs(gate);
      return againAfterMs !== undefined && nowMs >= (this.#askedAtMs.get(key) ?? -Infinity) + againAfterMs;
    });
    for (const key of this.#askedAtMs.keys()) if (!subjects.has(key)) this.#askedAtMs.delete(key);
    for (const [key] of unclear) this.#askedAtMs.set(key, nowMs);
    // What is refused is remembered by the keeper.
    await Promise.allSettled(
      unclear.map(([, { imageDigest, imageKeyId, contact }]) =>
        leases.require({ imageDigest, imageKeyId }, contact),
      ),
    );
  }

  /** @returns undefined when there is nothing to ask */
  #askAgainAfterMs(subject: LeaseSubject): number | undefined {
    const standing = this.#parts.standings.ofSubject(subject);
    if (standing === 'licensed') return undefined;
    if (standing === 'no-lease') return QUIET_MS;
    const refusal = this.#parts.standings.refusalOf(subject);
    return refusal === undefined || this.#hasOtherLicense(refusal) ? ASK_DENIED_AGAIN_MS : undefined;
  }

  #hasOtherLicense({ licenseId }: Refusal): boolean {
    const licenses = this.#parts.licenses();
    const product = licenses.find((license) => license.licenseId === licenseId)?.productCode;
    return licenses.some(
      (license) =>
        license.productCode === product && this.#parts.refused.denialOf(license.licenseId) === undefined,
    );
  }

  async #forgetUnneededImages(): Promise<void> {
    const { plaintext, leases, images } = this.#parts;
    const held = await plaintext.chains();
    const needed = new Set(held.flatMap(({ chain }) => gatesOf(chain)).map((gate) => subjectKey(gate)));
    images.retain((image) => needed.has(subjectKey(image)) || leases.find(image) !== undefined);
  }

  async #look(license: RefusedLicense, running: readonly GatedWorkload[]): Promise<PlaintextReport> {
    const { clock, events } = this.#parts;
    const left = await this.#leftoversOf(license.licenseId, running);
    if (left.containers === 0 && license.stopped.size > 0) {
      events.onContainersStopped(license, [...license.stopped]);
      license.stopped.clear();
    }
    const isGone = left.containers === 0 && left.layers === 0;
    if (isGone && license.plaintextGoneAtMs === 0) {
      license.plaintextGoneAtMs = clock.nowMs();
      events.onPlaintextGone(license);
    } else if (!isGone) license.plaintextGoneAtMs = 0;
    return {
      licenseId: license.licenseId,
      epoch: license.epoch,
      denialCode: license.denial.code,
      startsRefusedAtMs: license.sinceMs,
      runningContainers: left.containers,
      plaintextLayers: left.layers,
      plaintextGoneAtMs: license.plaintextGoneAtMs,
    };
  }

  async #leftoversOf(licenseId: string, running: readonly GatedWorkload[]): Promise<Leftovers> {
    const { plaintext, images } = this.#parts;
    const subjects = new Set(images.ofLicense(licenseId).map((image) => subjectKey(image)));
    const isOfLicense = (chain: GatedChain): boolean =>
      gatesOf(chain).some((gate) => subjects.has(subjectKey(gate)));
    const held = (await plaintext.chains()).filter(({ chain }) => isOfLicense(chain));
    return {
      containers: running.filter(({ chain }) => isOfLicense(chain)).length,
      layers: held.filter(({ isPresent }) => isPresent()).length,
    };
  }

  /** True while a container may appear that was allowed just before its license was refused. */
  #maySettle({ licenseId, sinceMonotonicMs }: RefusedLicense): boolean {
    const { clock, images } = this.#parts;
    return (
      clock.monotonicMs() - sinceMonotonicMs < STARTING_MS &&
      images.ofLicense(licenseId).some(({ onRevoke }) => onRevoke !== 'deny-start')
    );
  }
}
