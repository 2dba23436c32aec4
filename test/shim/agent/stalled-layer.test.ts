/** Layers whose bytes neither come nor go, as behind a containerd that hangs. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type EncryptedImage } from '../../fakes/encrypted-image.ts';
import { makePipe } from '../../fakes/pipe.ts';
import { type ProcessorRun, expectRefused, runProcessor } from '../../fakes/processor-run.ts';
import { ProcessorSite } from '../../fakes/processor-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

/** Longer than a thread takes to start on a busy machine. */
const STALL_TIMEOUT_MS = 5000;
/** More than there may be workers. */
const STALLED = 36;

const directory = temporaryDirectory();
let site: ProcessorSite;

function path(name: string): string {
  return join(directory(), name);
}

beforeEach(async () => {
  site = await ProcessorSite.start(directory(), { stallTimeoutMs: STALL_TIMEOUT_MS });
});
afterEach(() => site.stop());

function pulledImage(plaintexts: readonly Buffer[]): EncryptedImage {
  const image = site.pulledImage(plaintexts);
  for (const index of image.layers.keys()) site.open(image, index);
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
  expect(site.ledger.close('extract 0')).toMatchObject({
    state: 'unverified',
    reason: { code: 'NET_TIMEOUT' },
  });
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
