/**
 * What the snapshotter costs a node that uses it for everything: memory of the agent with 1,000 snapshots, and how long
 * its calls take while a large layer is being decrypted and unpacked again.
 *
 *   node bench/node-snapshots.ts [MiB of the large layer]     (as root)
 */
import { Metadata, credentials } from '@grpc/grpc-js';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { SnapshotsClient } from '#src/wire/generated/containerd/snapshots.ts';
import { callUnary } from '#src/wire/unary.ts';
import { randomLayer } from './built-layers.ts';
import { NodeSite, startOnce } from './node-site.ts';
import { timeMs } from './statistics.ts';

const MEBIBYTE = 1024 * 1024;
const SNAPSHOTS = 1000;
const KIBIBYTES_PER_MEBIBYTE = 1024;
/** What the agent holds at rest is asked: threads end after five idle seconds, and V8 cleans up once it has been idle for eight. */
const REST_MS = 25_000;

const node = await NodeSite.start();
const { site } = node;
const client = new SnapshotsClient(
  `unix://${site.agent.paths.snapshotterSocket}`,
  credentials.createInsecure(),
  { 'grpc.default_authority': 'localhost' },
);
try {
  await node.publish('large', [await randomLayer(Number(process.argv[2] ?? 512) * MEBIBYTE)]);
  await site.cri.pullImage(site.reference('large'));
  await site.cri.pullImage(site.reference('pause'));
  const [plain, gated] = await parents();
  for (const [name, parent] of [
    ['plain', plain],
    ['gated', gated],
  ] as const) {
    for (let index = 0; index < SNAPSHOTS; index += 1)
      await prepare(`bench/${index}/${name}-${index}`, parent);
    await sleep(REST_MS);
    const memory = await residentMebibytes();
    process.stdout.write(`agent with ${SNAPSHOTS} ${name} snapshots: ${memory} (goal under 120)\n`);
    for (let index = 0; index < SNAPSHOTS; index += 1) await remove(`bench/${index}/${name}-${index}`);
  }
  report('calls on an idle node', await measureCalls(plain, 'idle', () => Promise.resolve()));
  const sandbox = await site.cri.runPodSandbox('bench');
  const agent = site.agent.connect();
  await agent.dropPlaintext();
  agent.close();
  const busy = await measureCalls(plain, 'busy', async () => {
    await startOnce(site.cri, sandbox, site.reference('large'));
  });
  report('calls while a layer is unpacked again', busy);
  process.stdout.write('  goal: p99 under 5 ms\n');
} finally {
  client.close();
  await node.stop();
}

/** The topmost snapshots of the plain and of the gated image, as containerd names them to its snapshotter. */
async function parents(): Promise<[string, string]> {
  const COMMITTED = 3;
  const infos: { name: string; parent: string; kind: number }[] = [];
  const stream = client.list({ filters: [], snapshotter: '' }) as AsyncIterable<{ info: typeof infos }>;
  for await (const { info } of stream) infos.push(...info.filter(({ kind }) => kind === COMMITTED));
  const gated = infos.find(({ parent }) => parent !== '');
  if (gated === undefined) throw new Error('nothing was unpacked');
  return [gated.parent, gated.name];
}

function prepare(key: string, parent: string): Promise<unknown> {
  const request = { snapshotter: '', key, parent, labels: {} };
  return callUnary(client.prepare.bind(client), request, new Metadata(), {});
}

function remove(key: string): Promise<unknown> {
  return callUnary(client.remove.bind(client), { snapshotter: '', key }, new Metadata(), {});
}

/** What a start and an end of a container on a plain image ask, over and over for as long as a task takes. */
async function measureCalls(parent: string, name: string, task: () => Promise<void>): Promise<number[]> {
  const MINIMUM_ROUNDS = 200;
  const timesMs: number[] = [];
  const state = { isRunning: true };
  const running = task().finally(() => (state.isRunning = false));
  for (let round = 0; state.isRunning || round < MINIMUM_ROUNDS; round += 1) {
    const key = `bench/${SNAPSHOTS + round}/${name}-${round}`;
    const request = { snapshotter: '', key };
    timesMs.push(
      await timeMs(() => prepare(key, parent)),
      await timeMs(() => callUnary(client.mounts.bind(client), request, new Metadata(), {})),
      await timeMs(() => callUnary(client.stat.bind(client), request, new Metadata(), {})),
      await timeMs(() => remove(key)),
    );
  }
  await running;
  return timesMs;
}

function report(title: string, timesMs: readonly number[]): void {
  const sorted = [...timesMs].sort((left, right) => left - right);
  const at = (share: number): string => (sorted[Math.floor(sorted.length * share)] ?? Number.NaN).toFixed(2);
  process.stdout.write(`${title}: ${sorted.length} calls, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms\n`);
}

/** What is resident of the agent, and which part of it is its own and not of files that are mapped. */
async function residentMebibytes(): Promise<string> {
  const status = await readFile(`/proc/${site.agent.processId}/status`, 'utf8');
  const [all, own] = ['VmRSS', 'RssAnon'].map((field) => {
    const kibibytes = Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
    return (kibibytes / KIBIBYTES_PER_MEBIBYTE).toFixed(0);
  });
  return `${all ?? ''} MiB resident, ${own ?? ''} of them its own`;
}
