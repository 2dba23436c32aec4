/** Somebody unmounts the plaintext store under the agent: the same path is on the disk then. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, until } from './gated-site.ts';

const run = promisify(execFile);

describeOnEachContainerd('an unmounted store', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.activate();
  });
  afterAll(async () => {
    await gated.stop();
  });

  /** The agent may still be removing what a container has left. */
  async function unmountStore(): Promise<void> {
    const { memoryDirectory } = gated.site.agent.paths;
    await until(() =>
      run('umount', [memoryDirectory]).then(
        () => true,
        () => false,
      ),
    );
  }

  test('gets no plaintext, before a pull and after it, until the agent has mounted it again', async () => {
    await unmountStore();
    expect((await gated.pullWithCtr()).output).toContain('no longer mounted');
    // Not what the disk below holds.
    expect(await gated.agent.status()).toMatchObject({ plaintextBytes: 0, plaintextCapacityBytes: 0 });
    await gated.site.agent.stop();
    await gated.site.agent.start();
    await until(async () => (await gated.pullWithCtr()).status === 0);
    expect((await gated.runWithCtr('mounted')).output).toContain(SECRET);
    await unmountStore();
    expect((await gated.runWithCtr('unmounted')).output).toContain('no longer mounted');
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
  });
});
