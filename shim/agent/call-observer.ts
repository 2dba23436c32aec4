/** What the calls of containerd and the stream processors' layers mean for the log, the metrics and the record of starts. */
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import { type LatchkeyError, isDeniedCode } from '#src/base/errors.ts';
import { isGated } from '../snapshotter/chain.ts';
import type { SnapshotCall } from '../snapshotter/service.ts';
import { type Snapshot, parseKey } from '../snapshotter/snapshot.ts';
import type { Snapshotter } from '../snapshotter/snapshotter.ts';
import { gatesOf } from './gated-workloads.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import type { AgentMetrics } from './metrics.ts';
import type { LayerOutcome } from './processor-endpoint.ts';
import { StartRecord } from './start-record.ts';

export interface CallObserverParts {
  readonly snapshotter: Snapshotter;
  readonly leases: LeaseKeeper;
  readonly metrics: AgentMetrics;
  readonly clock: Clock;
  readonly log: Logger;
}

export class CallObserver {
  readonly record: StartRecord;
  readonly #parts: CallObserverParts;

  constructor(parts: CallObserverParts) {
    const { log, clock } = parts;
    this.#parts = parts;
    this.record = new StartRecord(clock, {
      onAllowed: ({ namespace, key }) => {
        log.info({ namespace, key, leases: this.#leasesBehind(key) }, 'start allowed');
        parts.metrics.startAllowed();
      },
      onDenied: ({ error, image, namespace, key }, count) => {
        const { code, licenseId, contact } = error;
        log.warn(
          { code, licenseId, image, namespace, key, contact, reason: error.line, count },
          'start refused',
        );
      },
    });
  }

  snapshotCall({ method, key, parent, durationMs, error }: SnapshotCall): void {
    const { metrics, log } = this.#parts;
    metrics.call(method, durationMs);
    if (error === undefined) {
      if (method === 'Mounts' && this.#isStart(key)) this.record.allowed(parseKey(key).namespace, key);
    } else if (isDeniedCode(error.code)) {
      const [gate] = gatesOf(this.#chainOf(key, parent));
      this.#denied(error, gate?.imageDigest ?? '', key);
    } else if (error.code === 'BUG_UNEXPECTED') {
      log.error({ method, key, error: error.line, cause: causeText(error) }, 'call failed');
    } else log.debug({ method, key, error: error.line }, 'call refused');
  }

  layer({ digest, sizeBytes, hasPayload, durationMs, error }: LayerOutcome): void {
    const { metrics, log } = this.#parts;
    metrics.layer(error === undefined ? 'decrypted' : 'refused', sizeBytes, durationMs);
    if (error === undefined) log.info({ digest, sizeBytes, hasPayload, durationMs }, 'layer decrypted');
    else if (isDeniedCode(error.code)) this.#denied(error, '', digest ?? 'layer');
    else log.warn({ digest, error: error.line }, 'layer refused');
  }

  #denied(error: LatchkeyError, image: string, key: string): void {
    this.#parts.metrics.startRefused(error.code);
    const { namespace, name } = parseKey(key);
    this.record.denied({ error, image, namespace, key: name });
  }

  /** True for the root filesystem of a container from a gated image; a layer being unpacked is none. */
  #isStart(key: string): boolean {
    const chain = this.#chainOf(key, '');
    return chain[0]?.kind === 'active' && chain[0].layer === null && isGated(chain);
  }

  #chainOf(key: string, parent: string): readonly Snapshot[] {
    const { snapshotter } = this.#parts;
    try {
      if (parent !== '') return snapshotter.parentChain(parent);
      const snapshot = snapshotter.stat(key);
      return [snapshot, ...snapshotter.parentChain(snapshot.parent ?? '')];
    } catch {
      // It was removed meanwhile, or was never there.
      return [];
    }
  }

  #leasesBehind(key: string): object[] {
    const leases = gatesOf(this.#chainOf(key, '')).map((gate) => this.#parts.leases.findGood(gate));
    return [...new Set(leases)].flatMap((lease) =>
      lease === undefined
        ? []
        : [
            {
              leaseId: lease.claims.leaseId,
              licenseId: lease.claims.licenseId,
              image: lease.claims.imageDigest,
              auditSequence: lease.auditSequence,
            },
          ],
    );
  }
}

/** Where a failure came from, for the log. */
export function causeText(error: LatchkeyError): string | undefined {
  return error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : undefined;
}
