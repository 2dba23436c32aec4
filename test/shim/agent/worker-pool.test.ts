import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { newProgress } from '../../../shim/agent/layer-progress.ts';
import { WorkerPool } from '../../../shim/agent/worker-pool.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let pool: WorkerPool | undefined;
/** Of each worker that was started: resolves when it has ended. */
let ended: Promise<unknown>[];
afterEach(() => pool?.close());

/** A worker that fails when it is told to, on input descriptor -1 with an error and on -2 silently. */
const SCRIPT = `
import { parentPort, threadId } from 'node:worker_threads';
parentPort.on('message', ({ input }) => {
  if (input === -1) throw new Error('broken');
  if (input === -2) process.exit(3);
  parentPort.postMessage({ kind: 'head', head: Buffer.from([threadId]) });
  if (input === -3) setTimeout(() => process.exit(3));
});
`;

async function open(idleMs?: number): Promise<WorkerPool> {
  const path = join(directory(), 'worker.mjs');
  await writeFile(path, SCRIPT);
  ended = [];
  return (pool = new WorkerPool((options) => {
    const worker = new Worker(path, options);
    ended.push(new Promise((resolve) => worker.once('exit', resolve)));
    return worker;
  }, idleMs));
}

function ask(workers: WorkerPool, input: number): Promise<number> {
  return workers.lend(async (run) => {
    const result = await run({ kind: 'head', input, progress: newProgress() });
    return result.kind === 'head' ? result.head[0]! : -1;
  });
}

test('workers are used again', async () => {
  const workers = await open();
  const first = await ask(workers, 0);
  expect(await ask(workers, 0)).toBe(first);
});

test('each of many at once has a worker of its own', async () => {
  const workers = await open();
  const borrowed = await Promise.all(Array.from({ length: 10 }, () => ask(workers, 0)));
  expect(new Set(borrowed).size).toBe(10);
});

test('more than there may be wait their turn', async () => {
  const workers = await open();
  const borrowed = await Promise.all(Array.from({ length: 100 }, () => ask(workers, 0)));
  expect(borrowed).toHaveLength(100);
  expect(new Set(borrowed).size).toBeLessThanOrEqual(32);
});

test.each([-1, -2])('one that dies at its work (%i) fails that work and is replaced', async (input) => {
  const workers = await open();
  for (let round = 0; round < 5; round += 1) {
    await expect(ask(workers, input)).rejects.toMatchObject({ code: 'BUG_UNEXPECTED' });
  }
  expect(await ask(workers, 0)).toBeGreaterThan(0);
});

test('one that dies while nobody uses it is never lent again', async () => {
  const workers = await open();
  const dying = await Promise.all([ask(workers, -3), ask(workers, -3)]);
  await Promise.all(ended);
  expect(dying).not.toContain(await ask(workers, 0));
});

test('those that nobody needs any more end, and others come when they are needed', async () => {
  const workers = await open(1);
  const before = await Promise.all(Array.from({ length: 10 }, () => ask(workers, 0)));
  await expect.poll(() => workers.size).toBe(0);
  expect(workers.busy).toBe(0);
  expect(before).not.toContain(await ask(workers, 0));
});

test('one that was foreseen is there for the layer, and one only', async () => {
  const workers = await open();
  workers.foresee();
  workers.foresee();
  expect(workers).toMatchObject({ size: 1, busy: 0 });
  await ask(workers, 0);
  expect(workers.size).toBe(1);
});

test('a script that is not there fails the work, not the process', async () => {
  pool = new WorkerPool((options) => new Worker(join(directory(), 'nothing.mjs'), options));
  await expect(ask(pool, 0)).rejects.toMatchObject({ code: 'BUG_UNEXPECTED' });
});
