/** A node that never had a line to the key server: what somebody carries to it starts an image on a real containerd. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { INSTALLED_CONTAINERD } from '../../lab/containerd-versions.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { DAY_MS, NOWHERE } from '../fakes/offline-site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf } from './gated-site.ts';

const SHIFTED_CLOCK = pathToFileURL(join(import.meta.dirname, '..', '..', 'lab', 'shifted-clock.ts')).href;

// What containerd has to do with it is the same as with a line, which the other tests have on all versions.
describeOnEachContainerd(
  'a node without a line',
  (containerd) => {
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
      const checkOut = ['license', 'check-out', license.id, file('request'), '--expires', '30d'];
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

    test('starts nothing after the end of its bundle, also over a restart', async () => {
      await setClock(31);
      expect(await start()).toContain('DENIED_LEASE_EXPIRED');
      await gated.site.agent.stop();
      await gated.site.agent.start();
      expect(await start()).toContain('DENIED_LEASE_EXPIRED');
    });
  },
  [INSTALLED_CONTAINERD],
);
