/** The key server's metrics. No label names a license, node, customer or address: their number has no bound. */
import { Histogram, LabelledCounter } from '#src/base/metric-values.ts';
import { type MetricFamily, type Sample, prometheusText } from '#src/base/prometheus-text.ts';
import type { DiskState } from '../db/space-reserve.ts';
import type { StoreObserver } from './store-observer.ts';

/** From an index look-up to a database that is about to be given up. */
const STATEMENT_SECONDS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1, 5];
/** An fsync is the least a commit takes. */
const COMMIT_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 5];
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 30];
const GROUP_WRITES = [1, 2, 4, 8, 16, 32, 64];

/** What is asked for when somebody reads the metrics. */
export interface KeyServerState {
  readonly version: string;
  readonly watchers: number;
  /** Events in the audit log. */
  readonly auditEvents: number;
  /** Of them, under the newest signed checkpoint of this process. */
  readonly auditCheckpointEvents: number;
  /** 0 = none yet. */
  readonly auditCheckpointMs: number;
  readonly isSealed: boolean;
  /** One for each image of a node that may be started now; of up to a minute ago. */
  readonly leases: number;
  /** Events that the copy of the audit log that is the furthest behind has not got. */
  readonly auditExportBehindEvents: number;
  /** Copies whose last try has failed. */
  readonly auditExportsFailing: number;
  /** Webhook endpoints whose last try has failed. */
  readonly webhooksFailing: number;
  /** Null where the disk is not ours to look at. */
  readonly disk: DiskGauges | null;
}

/** The disk of a SQLite database. */
export interface DiskGauges {
  readonly freeBytes: number;
  readonly state: DiskState;
}

/** What somebody was told who asked for a lease, its renewal or a place. */
export type DecisionKind = 'acquire' | 'renew' | 'activate' | 'authenticate';

export class KeyServerMetrics implements StoreObserver {
  readonly #calls = new Map<string, LabelledCounter>();
  readonly #callSeconds = new Map<string, Histogram>();
  readonly #requests = new Map<string, LabelledCounter>();
  readonly #requestSeconds = new Histogram(REQUEST_SECONDS);
  readonly #decisions = new Map<DecisionKind, LabelledCounter>();
  #rateLimited = 0;
  #waiting = 0;
  readonly #groupWrites = new Histogram(GROUP_WRITES);
  readonly #commitSeconds = new Histogram(COMMIT_SECONDS);
  readonly #statementSeconds = new Histogram(STATEMENT_SECONDS);

  /** @param method of the node services; @param code OK or an error code */
  call(method: string, code: string, durationMs: number): void {
    entryOf(this.#calls, method, () => new LabelledCounter('code')).add(code);
    entryOf(this.#callSeconds, method, () => new Histogram(REQUEST_SECONDS)).observe(durationMs / 1000);
    if (code === 'RATE_LIMITED') this.#rateLimited += 1;
  }

  /** @param route of the admin API with its method, as it is registered */
  request(route: string, status: number, durationMs: number): void {
    entryOf(this.#requests, route, () => new LabelledCounter('status')).add(String(status));
    this.#requestSeconds.observe(durationMs / 1000);
    if (status === RATE_LIMITED_STATUS) this.#rateLimited += 1;
  }

  /** @param code ALLOWED or a denial */
  decision(kind: DecisionKind, code: string): void {
    entryOf(this.#decisions, kind, () => new LabelledCounter('code')).add(code);
  }

  waiting(count: number): void {
    this.#waiting = count;
  }

  committed(writes: number, durationMs: number): void {
    this.#groupWrites.observe(writes);
    this.#commitSeconds.observe(durationMs / 1000);
  }

  answered(durationMs: number): void {
    this.#statementSeconds.observe(durationMs / 1000);
  }

  text(state: KeyServerState): string {
    return prometheusText([...this.#events(), ...this.#database(), ...stateFamilies(state)]);
  }

  #events(): MetricFamily[] {
    return [
      {
        name: 'latchkey_server_calls_total',
        help: 'Calls of nodes, by method and by OK or the error code.',
        type: 'counter',
        samples: labelled('method', this.#calls),
      },
      {
        name: 'latchkey_server_call_seconds',
        help: 'Time that calls of nodes took, by method; a stream counts when it ends.',
        type: 'histogram',
        histograms: [...this.#callSeconds].map(([method, seconds]) => seconds.sample({ method })),
      },
      {
        name: 'latchkey_server_decisions_total',
        help: 'Decisions, by what was asked for and by ALLOWED or the denial.',
        type: 'counter',
        samples: labelled('kind', this.#decisions),
      },
      {
        name: 'latchkey_server_admin_requests_total',
        help: 'Requests to the admin API, by route and HTTP status.',
        type: 'counter',
        samples: labelled('route', this.#requests),
      },
      histogram('admin_request_seconds', 'Time that requests to the admin API took.', this.#requestSeconds),
      {
        name: 'latchkey_server_rate_limited_total',
        help: 'Calls and requests that were refused because too many came.',
        type: 'counter',
        samples: [{ value: this.#rateLimited }],
      },
    ];
  }

  #database(): MetricFamily[] {
    return [
      gauge('writes_waiting', 'Writes that wait for their commit.', this.#waiting),
      histogram('commit_writes', 'Writes that were committed together.', this.#groupWrites),
      histogram('commit_seconds', 'Time of a commit, from its first statement.', this.#commitSeconds),
      histogram('database_seconds', 'Time until the database answered a statement.', this.#statementSeconds),
    ];
  }
}

const RATE_LIMITED_STATUS = 429;

function stateFamilies(state: KeyServerState): MetricFamily[] {
  return [
    {
      name: 'latchkey_server_build_info',
      help: 'Version of the key server; always 1.',
      type: 'gauge',
      samples: [{ labels: { version: state.version }, value: 1 }],
    },
    gauge('watchers', 'Nodes that are connected and hear of revocations at once.', state.watchers),
    gauge(
      'leases',
      'Leases that count now, one for each image of a node; counted once a minute.',
      state.leases,
    ),
    gauge('sealed', '1 while the key server opens no keys.', state.isSealed ? 1 : 0),
    gauge('audit_events', 'Events in the audit log.', state.auditEvents),
    gauge(
      'audit_checkpoint_events',
      'Of them, under the newest signed checkpoint of this key server.',
      state.auditCheckpointEvents,
    ),
    gauge(
      'audit_checkpoint_timestamp_seconds',
      'When that was signed; 0 = none yet.',
      state.auditCheckpointMs / 1000,
    ),
    gauge(
      'audit_export_behind_events',
      'Events that the copy of the audit log that is the furthest behind has not got.',
      state.auditExportBehindEvents,
    ),
    gauge(
      'audit_exports_failing',
      'Copies of the audit log whose last try has failed.',
      state.auditExportsFailing,
    ),
    gauge('webhooks_failing', 'Webhook endpoints whose last try has failed.', state.webhooksFailing),
    ...(state.disk === null ? [] : diskFamilies(state.disk)),
  ];
}

function diskFamilies({ freeBytes, state }: DiskGauges): MetricFamily[] {
  return [
    gauge(
      'disk_free_bytes',
      'Free on the disk of the database, beside what is kept for revocations.',
      freeBytes,
    ),
    gauge('disk_low', '1 while it is time to make room.', state === 'OK' ? 0 : 1),
    gauge('disk_full', '1 while only what takes rights away is written.', state === 'FULL' ? 1 : 0),
  ];
}

function entryOf<Key, Value>(values: Map<Key, Value>, key: Key, create: () => Value): Value {
  let value = values.get(key);
  if (value === undefined) values.set(key, (value = create()));
  return value;
}

function labelled(label: string, counters: ReadonlyMap<string, LabelledCounter>): Sample[] {
  return [...counters].flatMap(([value, counter]) =>
    counter.samples().map((sample) => ({ ...sample, labels: { [label]: value, ...sample.labels } })),
  );
}

function gauge(name: string, help: string, value: number): MetricFamily {
  return { name: `latchkey_server_${name}`, help, type: 'gauge', samples: [{ value }] };
}

function histogram(name: string, help: string, values: Histogram): MetricFamily {
  return { name: `latchkey_server_${name}`, help, type: 'histogram', histograms: [values.sample()] };
}
