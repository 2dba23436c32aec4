/**
 * What containerd asks the snapshotter at each step of a start. The gate stands in Prepare, View and Mounts; should a
 * coming containerd start something without one of them, this is what tells.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SnapshotterRecorder } from '../../lab/snapshotter-recorder.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, until } from './gated-site.ts';

/** The others neither give nor make files: Stat, Usage, List, Update, Remove, Cleanup. */
const GIVES_FILES = ['Prepare', 'View', 'Mounts', 'Commit'];

describeOnEachContainerd('the snapshotter is asked', (containerd) => {
  const recorder = new SnapshotterRecorder();
  let gated: GatedSite;
  let sandboxId: string;
  let runningId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({
      containerd,
      snapshotterProxy: (from, to) => recorder.start(from, to),
    });
    await gated.activate();
    await gated.site.cri.pullImage(gated.site.reference('pause'));
  });
  afterAll(async () => {
    await gated.stop();
    recorder.stop();
  });

  async function callsOf(step: () => Promise<unknown>): Promise<string[]> {
    recorder.take();
    await step();
    return recorder
      .take()
      .map(({ method }) => method)
      .filter((method) => GIVES_FILES.includes(method));
  }

  test('at a pull: for each layer that is not there', async () => {
    const layer = ['Prepare', 'Commit'];
    expect(await callsOf(() => gated.site.cri.pullImage(gated.image))).toEqual([...layer, ...layer]);
    expect(await callsOf(() => gated.site.cri.pullImage(gated.image))).toEqual([]);
  });

  test('when a pod sandbox starts', async () => {
    const calls = await callsOf(async () => {
      sandboxId = await gated.site.cri.runPodSandbox('calls');
    });
    expect(calls).toEqual(['Prepare', 'Mounts']);
  });

  test('when a container is created, and once more when it starts', async () => {
    let containerId = '';
    const create = await callsOf(async () => {
      containerId = await gated.site.cri.createContainer(sandboxId, 'calls', gated.image);
    });
    expect(create).toEqual(['Prepare', 'Mounts']);
    expect(await callsOf(() => gated.site.cri.startContainer(containerId))).toEqual(['Mounts']);
    runningId = containerId;
  });

  test('for no files when a container is entered, or when statistics are read', async () => {
    expect(await callsOf(() => gated.site.cri.execSync(runningId, ['/bin/busybox', 'true']))).toEqual([]);
    expect(await callsOf(() => gated.site.cri.readStatistics(runningId))).toEqual([]);
  });

  test('when ctr runs one, and when it starts a stopped one again', async () => {
    await gated.pullWithCtr();
    const run = ['run', '--detach', '--net-host', '--snapshotter', 'latchkey', gated.image, 'calls'];
    const calls = await callsOf(() => gated.ctr(...run));
    expect(calls.slice(0, 1)).toEqual(['Prepare']);
    expect(calls.at(-1)).toBe('Mounts');
    await gated.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'calls');
    await until(async () => (await gated.ctr('tasks', 'delete', 'calls')).status === 0);
    expect(await callsOf(() => gated.ctr('tasks', 'start', '--detach', 'calls'))).toEqual(['Mounts']);
  });

  test('when root looks at snapshots by hand', async () => {
    const snapshots = (...args: string[]) => gated.ctr('snapshots', '--snapshotter', 'latchkey', ...args);
    const committed = (await snapshots('list')).output
      .split('\n')
      .filter((line) => line.includes('Committed'));
    const top = gated.topChainId(committed);
    expect(await callsOf(() => snapshots('view', 'calls-view', top))).toEqual(['View']);
    expect(await callsOf(() => snapshots('prepare', 'calls-prepare', top))).toEqual(['Prepare']);
    expect(await callsOf(() => snapshots('mounts', '/mnt', 'calls-view'))).toEqual(['Mounts']);
    const compared = await callsOf(() => snapshots('diff', top));
    expect(compared).toContain('View');
    expect(await callsOf(() => snapshots('commit', 'calls-commit', 'calls-prepare'))).toEqual(['Commit']);
  });
});
