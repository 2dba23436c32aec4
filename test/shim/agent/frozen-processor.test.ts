/** Processors that are frozen for good, or killed in the middle: containerd waits for their exit without a limit. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { findProcessor, isAlive, killProcessor } from '../../../shim/agent/processor-process.ts';
import { type EncryptedImage } from '../../fakes/encrypted-image.ts';
import { beside, makePipe } from '../../fakes/pipe.ts';
import { type ProcessorResult, runProcessor } from '../../fakes/processor-run.ts';
import { ProcessorSite } from '../../fakes/processor-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

/** Nothing that is not frozen takes so long. */
const EXIT_TIMEOUT_MS = 3000;
const SIZE = 500_000;
/** More than a layer is known by, and less than a pipe takes. */
const BEGUN_BYTES = 20_000;

const directory = temporaryDirectory();
let site: ProcessorSite;
let killed: (Digest | undefined)[];

function path(name: string): string {
  return join(directory(), name);
}

beforeEach(async () => {
  killed = [];
  site = await ProcessorSite.start(directory(), {
    exitTimeoutMs: EXIT_TIMEOUT_MS,
    onKilled: (digest) => killed.push(digest),
  });
});
afterEach(() => site.stop());

function pulledImage(): EncryptedImage {
  const image = site.pulledImage([randomBytes(SIZE), randomBytes(SIZE)]);
  for (const index of image.layers.keys()) site.open(image, index);
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
  await until(() => site.pool.busy > 0 && (begunBytes === 0 || site.ledger.unclaimed().length === 1));
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
    site.issuer.refusal = new LatchkeyError('DENIED_LICENSE_REVOKED', 'the license was revoked');
    const result = await interrupted(image.layers[0]!.ciphertext, 'SIGSTOP');
    expectTold(result, 'DENIED_LICENSE_REVOKED');
    site.issuer.refusal = undefined;
    await expectNextPasses(image);
    expect(killed).toHaveLength(1);
  });

  test('killed in the middle of a layer fails it, and says why', async () => {
    const image = pulledImage();
    const result = await interrupted(image.layers[0]!.ciphertext, 'SIGKILL', BEGUN_BYTES);
    expect(result.messages).toContain('STATE_PRECONDITION: the stream processor of a layer was ended');
    expect(result.messagesAtOutputEnd).toBe(result.messages);
    expect(site.ledger.close('extract 0')).toMatchObject({ state: 'unverified' });
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
