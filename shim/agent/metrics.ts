/** The agent's metrics. No label names a license, an image or a container: their number has no bound. */
import { type ErrorCode } from '#src/base/errors.ts';
import { Histogram, LabelledCounter } from '#src/base/metric-values.ts';
import { type MetricFamily, prometheusText } from '#src/base/prometheus-text.ts';

/** From what the snapshotter takes when all is there to a layer of some gigabytes. */
const CALL_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 30];
const LAYER_SECONDS = [0.005, 0.025, 0.1, 0.5, 2, 10, 60];

/** What is asked for when somebody reads the metrics. */
export interface MetricState {
  readonly version: string;
  readonly mode: string;
  /** State -> how many; VALID, EXPIRED or a denial code. */
  readonly leases: ReadonlyMap<string, number>;
  /** Seconds to the end of the valid lease that ends first; undefined = there is none. */
  readonly nextLeaseEndSeconds: number | undefined;
  readonly licenses: ReadonlyMap<string, number>;
  readonly keyServerConnected: boolean;
  /** 0 = never. */
  readonly lastContactMs: number;
  /** 0 = the node is not activated. */
  readonly certificateExpiresAtMs: number;
  readonly plaintextBytes: number;
  readonly plaintextCapacityBytes: number;
  /** Kind and store of snapshots -> how many. */
  readonly snapshots: readonly { readonly kind: string; readonly store: string; readonly count: number }[];
  readonly workers: number;
  readonly workersBusy: number;
}

export class AgentMetrics {
  #startsAllowed = 0;
  readonly #startsRefused = new LabelledCounter('code');
  readonly #layers = new LabelledCounter('result');
  #layerBytes = 0;
  readonly #layerSeconds = new Histogram(LAYER_SECONDS);
  #rederivations = 0;
  readonly #revocations = new LabelledCounter('code');
  #containersStopped = 0;
  readonly #calls = new Map<string, Histogram>();

  startAllowed(): void {
    this.#startsAllowed += 1;
  }

  startRefused(code: ErrorCode): void {
    this.#startsRefused.add(code);
  }

  layer(result: 'decrypted' | 'refused', sizeBytes: number, durationMs: number): void {
    this.#layers.add(result);
    if (result === 'refused') return;
    this.#layerBytes += sizeBytes;
    this.#layerSeconds.observe(durationMs / 1000);
  }

  rederived(): void {
    this.#rederivations += 1;
  }

  licenseRefused(code: ErrorCode): void {
    this.#revocations.add(code);
  }

  containersStopped(count: number): void {
    this.#containersStopped += count;
  }

  /** @param method of the snapshotter service, of which there are ten */
  call(method: string, durationMs: number): void {
    let histogram = this.#calls.get(method);
    if (histogram === undefined) this.#calls.set(method, (histogram = new Histogram(CALL_SECONDS)));
    histogram.observe(durationMs / 1000);
  }

  text(state: MetricState): string {
    return prometheusText([...this.#events(), ...stateFamilies(state)]);
  }

  #events(): MetricFamily[] {
    return [
      counter('starts_allowed_total', 'Starts from gated images that were allowed.', this.#startsAllowed),
      {
        name: 'latchkey_starts_refused_total',
        help: 'Starts and unpackings that were refused, by code.',
        type: 'counter',
        samples: this.#startsRefused.samples(),
      },
      {
        name: 'latchkey_layers_total',
        help: 'Layers that stream processors came with, by result.',
        type: 'counter',
        samples: this.#layers.samples(),
      },
      counter('layers_decrypted_bytes_total', 'Bytes of layers that were decrypted.', this.#layerBytes),
      {
        name: 'latchkey_layer_decryption_seconds',
        help: 'Time from the start of a stream processor to the verified end of its layer.',
        type: 'histogram',
        histograms: [this.#layerSeconds.sample()],
      },
      counter('rederivations_total', 'Layers made again from their blob for a start.', this.#rederivations),
      {
        name: 'latchkey_licenses_refused_total',
        help: 'Times that a license of this node came to be refused, by code.',
        type: 'counter',
        samples: this.#revocations.samples(),
      },
      counter('containers_stopped_total', 'Containers ended for a refused license.', this.#containersStopped),
      {
        name: 'latchkey_snapshotter_call_seconds',
        help: 'Time that calls of containerd took, by method.',
        type: 'histogram',
        histograms: [...this.#calls].map(([method, histogram]) => histogram.sample({ method })),
      },
    ];
  }
}

function stateFamilies(state: MetricState): MetricFamily[] {
  const { snapshots, nextLeaseEndSeconds } = state;
  return [
    {
      name: 'latchkey_build_info',
      help: 'Version and mode of the agent; always 1.',
      type: 'gauge',
      samples: [{ labels: { version: state.version, mode: state.mode }, value: 1 }],
    },
    byState('leases', 'Leases held, by state.', state.leases),
    {
      name: 'latchkey_next_lease_end_seconds',
      help: 'Time until the first valid lease ends, if it is not renewed; absent without one.',
      type: 'gauge',
      samples: nextLeaseEndSeconds === undefined ? [] : [{ value: nextLeaseEndSeconds }],
    },
    byState('licenses', 'Licenses of this node, by state.', state.licenses),
    gauge('key_server_connected', '1 while the key server is heard.', state.keyServerConnected ? 1 : 0),
    gauge(
      'key_server_last_contact_timestamp_seconds',
      'Its last word; 0 = none yet.',
      state.lastContactMs / 1000,
    ),
    gauge(
      'node_certificate_end_timestamp_seconds',
      'End of the node certificate; 0 = not activated.',
      state.certificateExpiresAtMs / 1000,
    ),
    gauge('plaintext_bytes', 'Memory that plaintext takes.', state.plaintextBytes),
    gauge('plaintext_capacity_bytes', 'Memory that plaintext may take.', state.plaintextCapacityBytes),
    {
      name: 'latchkey_snapshots',
      help: 'Snapshots, by kind and where their files are.',
      type: 'gauge',
      samples: snapshots.map(({ kind, store, count }) => ({ labels: { kind, store }, value: count })),
    },
    gauge('workers', 'Threads that decrypt layers.', state.workers),
    gauge('workers_busy', 'Of them, with a layer.', state.workersBusy),
  ];
}

function counter(name: string, help: string, value: number): MetricFamily {
  return { name: `latchkey_${name}`, help, type: 'counter', samples: [{ value }] };
}

function gauge(name: string, help: string, value: number): MetricFamily {
  return { name: `latchkey_${name}`, help, type: 'gauge', samples: [{ value }] };
}

function byState(name: string, help: string, counts: ReadonlyMap<string, number>): MetricFamily {
  const samples = [...counts].map(([state, value]) => ({ labels: { state }, value }));
  return { name: `latchkey_${name}`, help, type: 'gauge', samples };
}
