/** The program that serves the encrypted volume ends under the agent, as when memory was short: its key is gone for good. */
import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { hasDeviceMapper, storeSkipReason } from '../fakes/store-skip-reason.ts';
import { GatedSite, SECRET, siteSkipReason, until } from './gated-site.ts';

const run = promisify(execFile);
const skipReason =
  siteSkipReason() ??
  storeSkipReason('encrypted-volume') ??
  (hasDeviceMapper() ? 'the kernel serves the volume here' : undefined);

describe.skipIf(skipReason !== undefined)(skipReason ?? 'a store that does not answer', () => {
  let gated: GatedSite;
  let licenseId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({
      agentSettings: { plaintext_store: 'encrypted-volume', volume_capacity: '64m' },
    });
    licenseId = (await gated.activate()).license.id;
    await gated.pullWithCtr('latchkey', gated.site.reference('plain'));
    await gated.pullWithCtr();
    expect((await gated.runWithCtr('before')).output).toContain(SECRET);
    await endServer(gated.site.agent.paths.memoryDirectory);
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('is told by the status, and the metrics can be read', async () => {
    const status = await gated.agent.status();
    expect(status).toMatchObject({ plaintextBytes: 0, plaintextCapacityBytes: 0 });
    expect(status.images).toMatchObject([{ layers: 2, decryptedLayers: 0 }]);
    const curl = ['--silent', '--unix-socket', gated.site.agent.paths.metricsSocket, 'http://agent/metrics'];
    expect((await run('curl', curl)).stdout).toContain('latchkey_plaintext_capacity_bytes 0');
  });

  test('refuses starts of encrypted images in words that help', async () => {
    const { output } = await gated.runWithCtr('dead');
    expect(output).toContain('STATE_DAMAGED: the plaintext store does not answer');
    expect(output).toContain('restart the agent');
  });

  test('leaves plain containers alone, from their start to their removal', async () => {
    const image = gated.site.reference('plain');
    const echo = ['/bin/busybox', 'true'];
    const options = ['--rm', '--net-host', '--snapshotter', 'latchkey'];
    expect((await gated.ctr('run', ...options, image, 'plain', ...echo)).status).toBe(0);
    await gated.site.containerd.collectGarbage();
    const status = await gated.agent.status();
    // The base, and the two layers above it.
    expect(status.snapshotCount).toBe(3);
  });

  test('keeps a revocation from nobody, and is made anew with the agent', async () => {
    await gated.site.api.changeLicense(licenseId, 'revoke');
    const report = async () => (await gated.site.api.licenseNodes(licenseId))[0]?.report;
    await until(async () => (await report())?.plaintextGoneAtMs != null);
    await gated.site.agent.stop();
    await gated.site.agent.start();
    await gated.activate();
    await until(async () => (await gated.runWithCtr('anew')).output.includes(SECRET));
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
  });
});

/** Kills the gocryptfs of one directory. */
async function endServer(directory: string): Promise<void> {
  for (const entry of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    const [program = '', ...args] = line.split('\0');
    if (program.endsWith('gocryptfs') && args.includes(directory)) process.kill(Number(entry), 'SIGKILL');
  }
  await until(() =>
    readdir(directory).then(
      () => false,
      () => true,
    ),
  );
}
