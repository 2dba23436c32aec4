/** Layers whose bytes neither come nor go, as behind a containerd that hangs. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ExtractionLedger } from '../../../shim/agent/extraction-ledger.ts';
import { serveProcessors } from '../../../shim/agent/processor-endpoint.ts';
import { installProcessor } from '../../../shim/agent/processor-install.ts';
import { WorkerPool } from '../../../shim/agent/worker-pool.ts';
import { FakeContentStore } from '../../fakes/content-store.ts';
import {
  type EncryptedImage,
  encryptedImage,
  encryptedImageStatement,
  layerIdentity,
  storeEncryptedImage,
} from '../../fakes/encrypted-image.ts';
import { keyGrantor } from '../../fakes/key-grantor.ts';
import { LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { makePipe } from '../../fakes/pipe.ts';
import { type ProcessorRun, expectRefused, runProcessor } from '../../fakes/processor-run.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const NAMESPACE = 'k8s.io';
const WORKER = new URL('../../../shim/agent/decrypt-worker.ts', import.meta.url);
/** Longer than a thread takes to start on a busy machine. */
const STALL_TIMEOUT_MS = 5000;
/** More than there may be workers. */
const STALLED = 36;

const directory = temporaryDirectory();
let store: FakeContentStore;
let issuer: LeaseIssuer;
let ledger: ExtractionLedger;
let pool: WorkerPool;
let server: Server;

function path(name: string): string {
  return join(directory(), name);
}

beforeEach(async () => {
  store = await FakeContentStore.start(path('containerd.sock'));
  issuer = new LeaseIssuer(manualClock());
  ledger = new ExtractionLedger();
  pool = new WorkerPool((options) => new Worker(WORKER, options));
  const { executable } = await installProcessor('auto', {
    processorProgram: path('processor'),
    processorSocket: path('processor.sock'),
  });
  server = await serveProcessors(path('processor.sock'), {
    pool,
    grantor: keyGrantor(ledger, store, issuer),
    programPath: executable,
    stallTimeoutMs: STALL_TIMEOUT_MS,
    onLayer: () => undefined,
  });
});
afterEach(async () => {
  server.close();
  await pool.close();
  store.close();
});

function pulledImage(plaintexts: readonly Buffer[]): EncryptedImage {
  const image = encryptedImage(plaintexts, { imageKeyId: 'key' });
  issuer.imageKeys.set(image.imageKeyId, image.imageKey);
  issuer.statements.set(image.manifestDigest, encryptedImageStatement(image));
  storeEncryptedImage(store, NAMESPACE, image);
  for (let index = 0; index < plaintexts.length; index += 1)
    ledger.open(`extract ${index}`, layerIdentity(image, NAMESPACE, index));
  return image;
}

async function passes(ciphertext: Buffer): Promise<boolean> {
  writeFileSync(path('whole'), ciphertext);
  const run = runProcessor({ program: path('processor'), directory: directory(), input: path('whole') });
  return (await run.finished).exitCode === 0;
}

async function hasExited({ child }: ProcessorRun): Promise<void> {
  if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
}

test('more layers without bytes than there are workers are given up, and the next one passes', async () => {
  const image = pulledImage(Array.from({ length: STALLED + 1 }, () => randomBytes(20_000)));
  const stalled = image.layers.slice(0, STALLED).map(({ ciphertext }, index) => {
    const pipe = makePipe(path(`slow-${index}`));
    const run = runProcessor({ program: path('processor'), directory: directory(), input: pipe });
    const feeder = openSync(pipe, 'w');
    if (index % 2 === 1) writeSync(feeder, ciphertext.subarray(0, 10_000));
    return { run, feeder };
  });
  // Before the others have been given up there is no worker for it.
  const last = passes(image.layers[STALLED]!.ciphertext);
  for (const { run, feeder } of stalled) {
    await hasExited(run);
    closeSync(feeder);
    expectRefused(await run.finished, 'NET_TIMEOUT');
  }
  expect(await last).toBe(true);
});

test('a layer that nobody takes is given up, and the next one passes', async () => {
  const image = pulledImage([randomBytes(1_000_000), randomBytes(5000)]);
  writeFileSync(path('large'), image.layers[0]!.ciphertext);
  const run = runProcessor({ program: path('processor'), directory: directory(), input: path('large') });
  run.stopReading();
  await hasExited(run);
  expect(run.child.exitCode).toBe(1);
  expect(ledger.close('extract 0')).toMatchObject({ state: 'unverified', reason: { code: 'NET_TIMEOUT' } });
  expect(await passes(image.layers[1]!.ciphertext)).toBe(true);
  run.stopReading(false);
  const { output, messages } = await run.finished;
  expect(messages).toContain('NET_TIMEOUT');
  expect(output.length).toBeLessThan(1_000_000);
});

test('a layer that moves slowly is not given up', async () => {
  const image = pulledImage([randomBytes(20_000)]);
  const { ciphertext } = image.layers[0]!;
  const pipe = makePipe(path('slow'));
  const run = runProcessor({ program: path('processor'), directory: directory(), input: pipe });
  const feeder = openSync(pipe, 'w');
  for (let offset = 0; offset < ciphertext.length; offset += 2000) {
    writeSync(feeder, ciphertext.subarray(offset, offset + 2000));
    await new Promise((resolve) => setTimeout(resolve, STALL_TIMEOUT_MS / 5));
  }
  closeSync(feeder);
  expect((await run.finished).exitCode).toBe(0);
});
