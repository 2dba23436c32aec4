import { request } from 'node:http';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { AgentMetrics, type MetricState } from '../../../shim/agent/metrics.ts';
import { serveMetrics } from '#src/base/metrics-endpoint.ts';
import { prometheusText } from '#src/base/prometheus-text.ts';
import { metricValue, parsePrometheusText } from '../../fakes/prometheus-text.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const state: MetricState = {
  version: '1.2.3',
  mode: 'snapshotter',
  leases: new Map([['VALID', 2]]),
  nextLeaseEndSeconds: 60,
  licenses: new Map([['DENIED_LICENSE_REVOKED', 1]]),
  keyServerConnected: true,
  lastContactMs: 5000,
  certificateExpiresAtMs: 9000,
  plaintextBytes: 10,
  plaintextCapacityBytes: 100,
  snapshots: [{ kind: 'committed', store: 'memory', count: 3 }],
  workers: 2,
  workersBusy: 1,
};

describe('the text', () => {
  test('is what Prometheus reads, before anything has happened and after', () => {
    const metrics = new AgentMetrics();
    parsePrometheusText(metrics.text({ ...state, nextLeaseEndSeconds: undefined, leases: new Map() }));
    metrics.startAllowed();
    metrics.startRefused('DENIED_LICENSE_REVOKED');
    metrics.startRefused('DENIED_LICENSE_REVOKED');
    metrics.layer('decrypted', 1000, 20);
    metrics.layer('refused', 0, 3);
    metrics.rederived();
    metrics.licenseRefused('DENIED_LICENSE_REVOKED');
    metrics.containersStopped(4);
    metrics.call('Mounts', 0.4);
    metrics.call('Mounts', 70_000);
    const text = metrics.text(state);
    const value = (sample: string): number | undefined => metricValue(text, sample);
    expect(value('latchkey_starts_allowed_total')).toBe(1);
    expect(value('latchkey_starts_refused_total{code="DENIED_LICENSE_REVOKED"}')).toBe(2);
    expect(value('latchkey_layers_decrypted_bytes_total')).toBe(1000);
    expect(value('latchkey_layer_decryption_seconds_bucket{le="0.025"}')).toBe(1);
    expect(value('latchkey_snapshotter_call_seconds_bucket{method="Mounts",le="0.001"}')).toBe(1);
    expect(value('latchkey_snapshotter_call_seconds_bucket{method="Mounts",le="+Inf"}')).toBe(2);
    expect(value('latchkey_snapshotter_call_seconds_count{method="Mounts"}')).toBe(2);
    expect(value('latchkey_containers_stopped_total')).toBe(4);
    expect(value('latchkey_leases{state="VALID"}')).toBe(2);
    expect(value('latchkey_key_server_last_contact_timestamp_seconds')).toBe(5);
    expect(value('latchkey_build_info{version="1.2.3",mode="snapshotter"}')).toBe(1);
  });

  test('escapes what labels and help may hold', () => {
    const text = prometheusText([
      {
        name: 'odd',
        help: 'a \\ and\na line',
        type: 'gauge',
        samples: [{ labels: { name: 'quote " back \\ line\n' }, value: -1.5 }],
      },
    ]);
    expect(text).toBe(
      '# HELP odd a \\\\ and\\na line\n# TYPE odd gauge\nodd{name="quote \\" back \\\\ line\\n"} -1.5\n',
    );
    parsePrometheusText(text);
  });
});

describe('the endpoint', () => {
  let server: Server | undefined;
  afterEach(() => server?.close());

  async function ask(path: string, method = 'GET'): Promise<{ status: number; type: string; body: string }> {
    const socketPath = join(directory(), 'metrics.sock');
    return new Promise((resolve, reject) => {
      const call = request({ socketPath, path, method, agent: false }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body });
        });
      });
      call.on('error', reject);
      call.end();
    });
  }

  test('gives metrics and health, and nothing else', async () => {
    server = await serveMetrics(join(directory(), 'metrics.sock'), 'metrics_listen', () =>
      Promise.resolve('a 1\n'),
    );
    expect(await ask('/metrics')).toEqual({
      status: 200,
      type: 'text/plain; version=0.0.4; charset=utf-8',
      body: 'a 1\n',
    });
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
    expect((await ask('/')).status).toBe(404);
    expect((await ask('/metrics/..')).status).toBe(404);
    expect((await ask('/metrics', 'POST')).status).toBe(405);
    expect((await ask('/metrics', 'DELETE')).status).toBe(405);
  });

  test('says in words that it cannot read them', async () => {
    server = await serveMetrics(join(directory(), 'metrics.sock'), 'metrics_listen', () =>
      Promise.reject(new Error('secret')),
    );
    expect(await ask('/metrics')).toMatchObject({ status: 500, body: 'the metrics cannot be read now\n' });
  });

  test('listens on an address of this machine', async () => {
    server = await serveMetrics('127.0.0.1:0', 'metrics_listen', () => Promise.resolve('a 1\n'));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    expect(await (await fetch(`http://127.0.0.1:${port ?? 0}/metrics`)).text()).toBe('a 1\n');
    await expect(
      serveMetrics(`127.0.0.1:${port ?? 0}`, 'metrics_listen', () => Promise.resolve('')),
    ).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });
});
