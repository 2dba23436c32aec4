/** Fifty starts at once, a thousand snapshots, hundreds of rounds: nothing is made twice, nothing is left open. */
import { readFile, readdir } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openLayout } from '#src/store/layout.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { ContainerdConnection } from '../../shim/containerd/connection.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, releaseSecretImage, secretLayer, until } from './gated-site.ts';

const STARTS = 50;
const SNAPSHOTS = 1000;
const ROUNDS = 100;
const AT_ONCE = 10;
const SNAPSHOTTER = 'latchkey';
/** V8 collects late on a machine with much memory: some 300 MiB after thousands of calls, and no more. A leak would go on. */
const MAX_RESIDENT_BYTES = 448 * 1024 * 1024;
/**
 * Descriptors that come and go on their own: workers, of which a busy machine keeps more, a log, connections that are being
 * renewed. What leaves one open each time is at ROUNDS.
 */
const FILE_MARGIN = ROUNDS / 2;
/** A call or a file that is still open then stays open. */
const SETTLED_MS = 60_000;
const NO_DEADLINE = { deadline: Infinity };

describeOnEachContainerd('many at once', (containerd) => {
  let gated: GatedSite;
  let connection: ContainerdConnection;
  const tops: string[] = [];

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.activate();
    await releaseSecretImage(gated.site, 'second', [secretLayer('second'), secretLayer('third')]);
    for (const name of ['acme', 'second']) {
      const before = (await gated.agent.status()).gatedLayers.length;
      expect((await gated.pullWithCtr(SNAPSHOTTER, gated.site.reference(name))).status).toBe(0);
      tops.push((await gated.agent.status()).gatedLayers.slice(before).at(-1)?.chainId ?? '');
    }
    connection = new ContainerdConnection(gated.site.containerd.address);
  });
  afterAll(async () => {
    connection.close();
    await gated.stop();
  });

  /** What containerd does for a start, up to the mounts. Many wait for one slow disk: none has a deadline. */
  async function begin(key: string, parent: string): Promise<void> {
    const { snapshots } = connection.clients;
    // Nothing else holds on to it, as a container would.
    const labels = { 'containerd.io/gc.root': 'test' };
    const request = { snapshotter: SNAPSHOTTER, key, parent, labels };
    await connection.call(snapshots.prepare.bind(snapshots), request, 'default', NO_DEADLINE);
    const mounts = { snapshotter: SNAPSHOTTER, key };
    await connection.call(snapshots.mounts.bind(snapshots), mounts, 'default', NO_DEADLINE);
  }

  async function remove(key: string): Promise<void> {
    const { snapshots } = connection.clients;
    const request = { snapshotter: SNAPSHOTTER, key };
    await connection.call(snapshots.remove.bind(snapshots), request, 'default', NO_DEADLINE);
  }

  async function inTurns(count: number, task: (index: number) => Promise<void>): Promise<void> {
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let index = next++; index < count; index = next++) await task(index);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
  }

  async function decrypted(): Promise<number> {
    return (await gated.site.agent.log()).split('layer decrypted').length - 1;
  }

  async function openFiles(): Promise<number> {
    return (await readdir(`/proc/${gated.site.agent.processId}/fd`)).length;
  }

  async function residentBytes(): Promise<number> {
    const status = await readFile(`/proc/${gated.site.agent.processId}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/mu.exec(status)?.[1]) * 1024;
  }

  async function settledSnapshots(count: number): Promise<void> {
    await until(async () => {
      await gated.site.containerd.collectGarbage();
      const names = await readdir(gated.site.agent.paths.memoryDirectory);
      return names.length <= count;
    });
  }

  test(`${STARTS} starts of dropped images restore each layer once`, async () => {
    await gated.agent.dropPlaintext();
    const before = await decrypted();
    await Promise.all(
      Array.from({ length: STARTS }, (_, index) => begin(`start-${index}`, tops[index % tops.length] ?? '')),
    );
    const layers = (await gated.agent.status()).gatedLayers;
    expect(layers.every(({ plaintextPresent }) => plaintextPresent)).toBe(true);
    expect((await decrypted()) - before).toBe(layers.length);
    await inTurns(STARTS, (index) => remove(`start-${index}`));
    await settledSnapshots(layers.length);
  });

  test(`${STARTS} containers of a dropped image start at once`, async () => {
    await gated.agent.dropPlaintext();
    const results = await Promise.all(
      Array.from({ length: STARTS }, (_, index) => gated.runWithCtr(`together-${index}`)),
    );
    expect(results.map(({ status, output }) => ({ status, output }))).toEqual(
      results.map(() => ({ status: 0, output: expect.stringContaining('one') as string })),
    );
  });

  test(`${SNAPSHOTS} snapshots are listed, stay small, and go`, async () => {
    await inTurns(SNAPSHOTS, (index) => begin(`many-${index}`, tops[0] ?? ''));
    const listed = await gated.ctr('snapshots', '--snapshotter', SNAPSHOTTER, 'list');
    expect(listed.output.split('\n').filter((line) => line.startsWith('many-'))).toHaveLength(SNAPSHOTS);
    const resident = await residentBytes();
    process.stdout.write(
      `agent with ${SNAPSHOTS} snapshots on containerd ${containerd}: ${Math.round(resident / 1024 / 1024)} MiB resident\n`,
    );
    expect(resident).toBeLessThan(MAX_RESIDENT_BYTES);
    await inTurns(SNAPSHOTS, (index) => remove(`many-${index}`));
    await settledSnapshots((await gated.agent.status()).gatedLayers.length);
  });

  test(`${ROUNDS} starts and removals leave no file open`, async () => {
    await begin('warm-up', tops[0] ?? '');
    await remove('warm-up');
    const before = await openFiles();
    for (let round = 0; round < ROUNDS; round += 1) {
      await begin(`round-${round}`, tops[round % tops.length] ?? '');
      await remove(`round-${round}`);
    }
    expect(await openFiles()).toBeLessThanOrEqual(before + FILE_MARGIN);
  });

  test(`${ROUNDS} refused unpackings leave no file open`, async () => {
    const { bytes } = await openLayout(gated.site.layout('acme')).readManifest('1');
    const { layers } = JSON.parse(Buffer.from(bytes).toString()) as { layers: Descriptor[] };
    const [, secret] = layers;
    if (secret === undefined) throw new TypeError('the image has no secret layer');
    const { diff } = connection.clients;
    const { mediaType, digest, size } = secret;
    const refuse = async (): Promise<void> => {
      const request = { diff: { mediaType, digest, size, annotations: {} }, mounts: [], payloads: {} };
      const deadline = Date.now() + SETTLED_MS;
      const call = connection.call(diff.apply.bind(diff), request, 'default', { deadline });
      await expect(call).rejects.toThrow(/key-gated|DENIED_FOREIGN_UNPACK/u);
    };
    await inTurns(AT_ONCE, refuse);
    const before = await openFiles();
    await inTurns(ROUNDS, refuse);
    // A refused processor's output is kept open for a moment.
    await expect.poll(openFiles, { timeout: SETTLED_MS }).toBeLessThanOrEqual(before + FILE_MARGIN);
  });
});
