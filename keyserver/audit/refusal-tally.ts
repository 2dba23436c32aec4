/**
 * Refusals of strangers in the audit log: counted, and written together, or whoever knocks fast enough would fill the log.
 */
import type { Clock } from '#src/base/clock.ts';
import { MAX_TALLIED_ADDRESSES, REFUSAL_AUDIT_INTERVAL_MS } from '../limits.ts';
import { addressGroup } from '../rate-limit.ts';
import type { AuditEntry } from './append-event.ts';

export const REFUSAL_KINDS = {
  /** A request to the admin API without a valid token. */
  'api-token': 'AUTH_REQUIRED',
  /** A connection to the node port that did not come about: no certificate of ours, an old protocol. */
  'node-handshake': 'DENIED_NODE_NOT_ACTIVATED',
  /** A call of a node whose certificate has ended since it connected. */
  'node-certificate': 'DENIED_NODE_NOT_ACTIVATED',
} as const;

export type RefusalKind = keyof typeof REFUSAL_KINDS;

interface Tally {
  readonly sinceMs: number;
  count: number;
  /** How often it came from where. */
  readonly byClass: Record<AddressClass, number>;
  readonly addresses: Set<string>;
}

type AddressClass = 'loopback' | 'private' | 'public';

export interface RefusalTallyParts {
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly record: (entry: AuditEntry) => Promise<unknown>;
  /** The log could not be written; what was counted is lost. */
  readonly onFailure: (error: unknown) => void;
}

export class RefusalTally {
  readonly #parts: RefusalTallyParts;
  readonly #tallies = new Map<RefusalKind, Tally>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(parts: RefusalTallyParts) {
    this.#parts = parts;
  }

  /** Counts a refusal; the first one is in the log within a minute, with all that follow until then. */
  count(kind: RefusalKind, address: string): void {
    const tally = this.#tallies.get(kind) ?? {
      ...{ sinceMs: this.#parts.clock.nowMs(), count: 0 },
      ...{ byClass: { loopback: 0, private: 0, public: 0 }, addresses: new Set<string>() },
    };
    this.#tallies.set(kind, tally);
    tally.count += 1;
    tally.byClass[addressClass(address)] += 1;
    if (tally.addresses.size < MAX_TALLIED_ADDRESSES) tally.addresses.add(addressGroup(address));
    this.#timer ??= setTimeout(() => {
      void this.flush();
    }, REFUSAL_AUDIT_INTERVAL_MS).unref();
  }

  /** Writes what was counted, one event for each kind. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const tallies = [...this.#tallies];
    this.#tallies.clear();
    this.#writing = this.#writing.then(async () => {
      for (const [kind, tally] of tallies) {
        await this.#parts.record(toEntry(kind, tally)).catch(this.#parts.onFailure);
      }
    });
    return this.#writing;
  }
}

function toEntry(kind: RefusalKind, { sinceMs, count, byClass, addresses }: Tally): AuditEntry {
  return {
    actor: 'system',
    action: 'access.refuse',
    target: kind,
    outcome: 'denied',
    code: REFUSAL_KINDS[kind],
    // Counts alone: whose addresses they were is nothing for a log that is kept for ever.
    detail: { count, addresses: addresses.size, ...byClass, sinceMs },
  };
}

/** RFC 1918, 6598, 3927, 4193 and 4291. */
function addressClass(address: string): AddressClass {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').toLowerCase();
  if (/^127\.|^::1$/.test(plain)) return 'loopback';
  return PRIVATE_ADDRESS.test(plain) ? 'private' : 'public';
}

const PRIVATE_ADDRESS =
  /^(?:10\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:)/;
