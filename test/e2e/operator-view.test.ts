/** What the operator of a node sees: status, metrics and the log, over a whole life, and that none of it holds a secret. */
import { once } from 'node:events';
import { type IncomingMessage, get } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { metricValue } from '../fakes/prometheus-text.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, refusalOf, until } from './gated-site.ts';

describeOnEachContainerd('the operator', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;
  let licenseKey: string;
  let sandboxId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd, agentSettings: { log_level: 'debug' } });
    const created = await gated.activate({ onRevoke: 'kill' });
    ({ licenseKey } = created);
    licenseId = created.license.id;
    await gated.site.cri.pullImage(gated.image);
    ({ sandboxId } = await gated.site.cri.runPod('watched', gated.image));
  });
  afterAll(async () => {
    await gated.stop();
  });

  async function metrics(): Promise<string> {
    const { metricsSocket } = gated.site.agent.paths;
    const [answer] = (await once(get({ socketPath: metricsSocket, path: '/metrics' }), 'response')) as [
      IncomingMessage,
    ];
    return text(answer);
  }

  async function logged(message: string): Promise<Record<string, unknown>[]> {
    const lines = (await gated.site.agent.log()).split('\n').filter((line) => line.startsWith('{'));
    const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    return events.filter(({ msg }) => msg === message);
  }

  test('sees the license, the lease, the image, the container and the memory', async () => {
    const status = await gated.agent.status();
    expect(status.licenses).toMatchObject([{ licenseId, state: 'ACTIVE', plaintextGoneAtMs: 0 }]);
    expect(status.leases).toMatchObject([{ licenseId, state: 'VALID' }]);
    expect(status.images).toMatchObject([{ licenseId, state: 'licensed', layers: 2, decryptedLayers: 2 }]);
    expect(status.images[0]?.decryptedBytes).toBeGreaterThan(0);
    expect(status.containers).toMatchObject([{ namespace: 'k8s.io', image: gated.image, state: 'running' }]);
    expect(status.plaintextBytes).toBeGreaterThan(0);
    expect(status.lastContactMs).toBeGreaterThan(0);
  });

  test('reads the same from the metrics', async () => {
    const text = await metrics();
    expect(metricValue(text, 'latchkey_starts_allowed_total')).toBe(1);
    expect(metricValue(text, 'latchkey_layers_total{result="decrypted"}')).toBe(2);
    expect(metricValue(text, 'latchkey_leases{state="VALID"}')).toBe(1);
    expect(metricValue(text, 'latchkey_key_server_connected')).toBe(1);
    expect(metricValue(text, 'latchkey_plaintext_bytes')).toBeGreaterThan(0);
    expect(text).not.toContain(licenseId);
  });

  test('finds each start in the log with its lease and its place in the audit log', async () => {
    const [start] = await logged('start allowed');
    expect(start).toMatchObject({ namespace: 'k8s.io', leases: [{ licenseId }] });
    expect((start?.['leases'] as { auditSequence: number }[])[0]?.auditSequence).toBeGreaterThan(0);
  });

  test('follows a revocation from its arrival to the end of the plaintext', async () => {
    await gated.site.api.changeLicense(licenseId, 'revoke');
    await until(async () => (await logged('plaintext gone')).length > 0);
    for (const message of ['starts refused', 'containers stopped', 'plaintext gone']) {
      expect(await logged(message)).toMatchObject([{ licenseId }]);
    }
    const after = (message: string) => logged(message).then(([event]) => Number(event?.['afterMs']));
    expect(await after('containers stopped')).toBeLessThanOrEqual(await after('plaintext gone'));
    const [license] = (await gated.agent.status()).licenses;
    expect(license?.plaintextGoneAtMs).toBeGreaterThan(0);
  });

  test('sees a denial that repeats once, and how often it came in the metrics', async () => {
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      const restart = gated.site.cri.createContainer(sandboxId, 'watched', gated.image, [], attempt);
      expect(await refusalOf(restart)).toContain(licenseId);
    }
    const denials = (await logged('start refused')).filter(({ code }) => code === 'DENIED_LICENSE_REVOKED');
    expect(denials).toMatchObject([{ licenseId, namespace: 'k8s.io', count: 1 }]);
    expect(metricValue(await metrics(), 'latchkey_starts_refused_total{code="DENIED_LICENSE_REVOKED"}')).toBe(
      5,
    );
    const { denials: shown } = await gated.agent.status();
    expect(shown).toMatchObject([{ code: 'DENIED_LICENSE_REVOKED', licenseId }]);
  });

  test('finds no key in any of it', async () => {
    const all = [
      await gated.site.agent.log(),
      JSON.stringify(await gated.agent.status()),
      await metrics(),
    ].join('\n');
    expect(all).toContain(licenseId);
    expect(all).not.toContain(licenseKey);
    expect(all).not.toContain(licenseKey.replaceAll('-', ''));
    expect(all).not.toMatch(/-----BEGIN|"(?:imageKey|symmetricKey|privateKey|licenseKey|element)"/);
    // Image and layer keys are 32 random bytes, which nothing else in a log is but digests: hex with their algorithm.
    const encoded = all.match(/(?<![\w+/=-])(?:[A-Za-z0-9+/_-]{43}=?|[0-9a-f]{64})(?![\w+/=-])/g) ?? [];
    expect(encoded.filter((text) => !all.includes(`sha256:${text}`) && !/^[0-9a-f]{64}$/.test(text))).toEqual(
      [],
    );
  });
});
