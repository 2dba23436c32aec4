/** Processors that are frozen for good, or killed in the middle: containerd waits for their exit without a limit. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { ExtractionLedger } from '../../../shim/agent/extraction-ledger.ts';
import { serveProcessors } from '../../../shim/agent/processor-endpoint.ts';
import { installProcessor } from '../../../shim/agent/processor-install.ts';
import { findProcessor, isAlive, killProcessor } from '../../../shim/agent/processor-process.ts';
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
import { beside, makePipe } from '../../fakes/pipe.ts';
import { type ProcessorResult, runProcessor } from '../../fakes/processor-run.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const NAMESPACE = 'k8s.io';
const WORKER = new URL('../../../shim/agent/decrypt-worker.ts', import.meta.url);
/** Nothing that is not frozen takes so long. */
const EXIT_TIMEOUT_MS = 3000;
const SIZE = 500_000;
/** More than a layer is known by, and less than a pipe takes. */
const BEGUN_BYTES = 20_000;

const directory = temporaryDirectory();
let store: FakeContentStore;
let issuer: LeaseIssuer;
let ledger: ExtractionLedger;
let pool: WorkerPool;
let server: Server;
let killed: (Digest | undefined)[];

function path(name: string): string {
  return join(directory(), name);
}

beforeEach(async () => {
  store = await FakeContentStore.start(path('containerd.sock'));
  issuer = new LeaseIssuer(manualClock());
  ledger = new ExtractionLedger();
  pool = new WorkerPool((options) => new Worker(WORKER, options));
  killed = [];
  const { executable } = await installProcessor('auto', {
    processorProgram: path('processor'),
    processorSocket: path('processor.sock'),
  });
  server = await serveProcessors(path('processor.sock'), {
    pool,
    grantor: keyGrantor(ledger, store, issuer),
    programPath: executable,
    exitTimeoutMs: EXIT_TIMEOUT_MS,
    onLayer: () => undefined,
    onKilled: (digest) => killed.push(digest),
  });
});
afterEach(async () => {
  server.close();
  await pool.close();
  store.close();
});

function pulledImage(): EncryptedImage {
  const image = encryptedImage([randomBytes(SIZE), randomBytes(SIZE)], { imageKeyId: 'key' });
  issuer.imageKeys.set(image.imageKeyId, image.imageKey);
  issuer.statements.set(image.manifestDigest, encryptedImageStatement(image));
  storeEncryptedImage(store, NAMESPACE, image);
  for (const index of image.layers.keys())
    ledger.open(`extract ${index}`, layerIdentity(image, NAMESPACE, index));
  return image;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

/** Sends the beginning of a layer, freezes or ends its processor, and sends the rest. */
async function interrupted(
  ciphertext: Buffer,
  signal: 'SIGSTOP' | 'SIGKILL',
  begunBytes = 0,
): Promise<ProcessorResult> {
  const pipe = makePipe(path('interrupted'));
  const run = runProcessor({ program: path('processor'), directory: directory(), input: pipe });
  const feeder = openSync(pipe, 'w');
  writeSync(feeder, ciphertext.subarray(0, begunBytes));
  // It has said who it is, and waits for an answer; with a beginning its layer is known, too.
  await until(() => pool.busy > 0 && (begunBytes === 0 || ledger.unclaimed().length === 1));
  run.child.kill(signal);
  if (signal === 'SIGKILL') await once(run.child, 'exit');
  writeFileSync(path('rest'), ciphertext.subarray(begunBytes));
  // The agent is in this thread: it takes nothing while a write waits.
  await beside('cat "$1" > "$2"', path('rest'), pipe);
  closeSync(feeder);
  return run.finished;
}

function expectTold(result: ProcessorResult, text: string): void {
  expect(result.signal).toBe('SIGKILL');
  expect(result.messages).toMatch(/^latchkey: [A-Z_]+: .*$/);
  expect(result.messages).toContain(text);
  expect(result.messagesAtOutputEnd).toBe(result.messages);
  expect(result.events.indexOf('exit')).toBeLessThan(result.events.indexOf('output-end'));
}

async function expectNextPasses({ layers }: EncryptedImage): Promise<void> {
  writeFileSync(path('next'), layers[1]!.ciphertext);
  const run = runProcessor({ program: path('processor'), directory: directory(), input: path('next') });
  expect((await run.finished).output.equals(layers[1]!.plaintext)).toBe(true);
}

describe('a processor', () => {
  test('frozen in a layer that is allowed is killed once it is through, and says why', async () => {
    const image = pulledImage();
    const result = await interrupted(image.layers[0]!.ciphertext, 'SIGSTOP');
    expectTold(result, 'NET_TIMEOUT: the stream processor of a layer did not end and was killed');
    await expectNextPasses(image);
    expect(killed).toEqual([image.layers[0]!.digest]);
  });

  test('frozen in a layer that is refused is killed, and says why the layer was refused', async () => {
    const image = pulledImage();
    issuer.refusal = new LatchkeyError('DENIED_LICENSE_REVOKED', 'the license was revoked');
    const result = await interrupted(image.layers[0]!.ciphertext, 'SIGSTOP');
    expectTold(result, 'DENIED_LICENSE_REVOKED');
    issuer.refusal = undefined;
    await expectNextPasses(image);
    expect(killed).toHaveLength(1);
  });

  test('killed in the middle of a layer fails it, and says why', async () => {
    const image = pulledImage();
    const result = await interrupted(image.layers[0]!.ciphertext, 'SIGKILL', BEGUN_BYTES);
    expect(result.messages).toContain('STATE_PRECONDITION: the stream processor of a layer was ended');
    expect(result.messagesAtOutputEnd).toBe(result.messages);
    expect(ledger.close('extract 0')).toMatchObject({ state: 'unverified' });
    await expectNextPasses(image);
    expect(killed).toEqual([]);
  });
});

describe('the process of a processor', () => {
  const PROGRAM = '/bin/sleep';
  let child: ChildProcess;

  beforeEach(async () => {
    child = spawn(PROGRAM, ['600']);
    await once(child, 'spawn');
  });
  afterEach(() => {
    child.kill('SIGKILL');
  });

  function processId(): number {
    if (child.pid === undefined) throw new TypeError('it was not started');
    return child.pid;
  }

  test('is killed when it is the one that was found', async () => {
    const processor = findProcessor(processId(), PROGRAM);
    expect(isAlive(processor)).toBe(true);
    const exited = once(child, 'exit');
    expect(killProcessor(processor)).toBe(true);
    expect(await exited).toEqual([null, 'SIGKILL']);
    expect(isAlive(processor)).toBe(false);
    expect(killProcessor(processor)).toBe(false);
  });

  test('is left alone when another has its id: one that was started at another time, or runs something else', () => {
    const processor = findProcessor(processId(), PROGRAM);
    expect(killProcessor({ ...processor, startedAt: '1' })).toBe(false);
    expect(killProcessor({ ...processor, programPath: process.execPath })).toBe(false);
    expect(readFileSync(`/proc/${processId()}/cmdline`, 'utf8')).toContain('sleep');
    expect(isAlive(processor)).toBe(true);
    expect(child.signalCode).toBeNull();
  });
});
