/** A node that never had a line to the key server: what somebody carries to it starts an image on a real containerd. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adminCommand } from '../fakes/admin-command.ts';
import { DAY_MS, NOWHERE } from '../fakes/offline-site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, until } from './gated-site.ts';

const SHIFTED_CLOCK = pathToFileURL(join(import.meta.dirname, '..', '..', 'lab', 'shifted-clock.ts')).href;

describeOnEachContainerd('a node without a line', (containerd) => {
  let directory: string;
  let gated: GatedSite;
  let pods = 0;

  const file = (name: string): string => join(directory, name);
  const setClock = (days: number): Promise<void> => writeFile(file('clock'), String(days * DAY_MS));

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-carried-'));
    await setClock(0);
    const env = {
      ...process.env,
      NODE_OPTIONS: `--import=${SHIFTED_CLOCK}`,
      LATCHKEY_LAB_CLOCK: file('clock'),
    };
    gated = await GatedSite.start({
      containerd,
      agentSettings: { key_server: NOWHERE, enrollment: NOWHERE },
      agentProgram: { env },
    });
  });
  afterAll(async () => {
    await gated.stop();
    await rm(directory, { recursive: true });
  });

  const latchkey = (...args: string[]): Promise<string> => adminCommand(gated.site.keyServer, ...args);
  const onNode = (): string[] => ['--socket', gated.site.agent.paths.agentSocket];

  /** What a new container prints, or why there is none. After a restart of the agent containerd dials only after a while. */
  async function start(): Promise<string> {
    for (;;) {
      const told = await printSecret().catch((error: unknown) => String(error));
      if (!told.includes('Error while dialing')) return told;
    }
  }

  async function printSecret(): Promise<string> {
    pods += 1;
    const pod = await gated.site.cri.runPod(`pod-${pods}`, gated.image);
    const printed = await gated.site.cri.execSync(pod.containerId, ['/bin/busybox', 'cat', '/app/one.txt']);
    await gated.site.cri.removePod(pod.sandboxId);
    return printed.output;
  }

  test('pulls and starts nothing before there is a bundle', async () => {
    expect(await refusalOf(gated.site.cri.pullImage(gated.image))).toContain('DENIED_NODE_NOT_ACTIVATED');
  });

  test('pulls and starts what its bundle is for, with the key server away', async () => {
    const { license } = await gated.license();
    await latchkey('node', 'request', '-o', file('request'), ...onNode());
    const terms = ['--expires', '30d', '--max-starts', '6'];
    const checkOut = ['license', 'check-out', license.id, file('request'), ...terms];
    await latchkey(...checkOut, '-o', file('bundle'));
    await gated.site.keyServer.stop();
    expect(await latchkey('node', 'import', file('bundle'), ...onNode())).toContain(
      '1 image can start without the key server until',
    );
    await gated.site.cri.pullImage(gated.image);
    expect(await start()).toContain(SECRET);
  });

  test('still does ten days and a restart of the agent later', async () => {
    await gated.site.agent.stop();
    await setClock(10);
    await gated.site.agent.start();
    expect(await start()).toContain(SECRET);
  });

  test('starts nothing while its clock is turned back to before that', async () => {
    await setClock(5);
    expect(await start()).toContain('DENIED_CLOCK_ROLLBACK');
    await setClock(10);
    expect(await start()).toContain(SECRET);
  });

  test('starts nothing once its starts are used up, and says so to whoever looks', async () => {
    const status = () => latchkey('node', 'status', ...onNode());
    expect(await status()).toContain('3 of 6');
    expect(await start()).toContain(SECRET);
    await gated.pullWithCtr();
    const run = ['run', '--detach', '--net-host', '--snapshotter', 'latchkey', gated.image, 'by-ctr'];
    expect((await gated.ctr(...run)).output).toBe('');
    await gated.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'by-ctr');
    await until(async () => (await gated.ctr('tasks', 'delete', 'by-ctr')).status === 0);
    expect(await status()).toContain('5 of 6');
    expect((await gated.ctr('tasks', 'start', '--detach', 'by-ctr')).output).toBe('');
    const refusal = await start();
    expect(refusal).toContain('DENIED_OFFLINE_STARTS: the offline bundle is for 6 starts of containers');
    expect(refusal).toContain(CONTACT);
    expect(await status()).toContain('6 of 6');
  });

  test('starts nothing after the end of its bundle, also over a restart', async () => {
    await setClock(31);
    expect(await start()).toContain('DENIED_LEASE_EXPIRED');
    await gated.site.agent.stop();
    await gated.site.agent.start();
    expect(await start()).toContain('DENIED_LEASE_EXPIRED');
  });
});
