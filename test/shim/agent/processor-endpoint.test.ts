import { randomBytes } from 'node:crypto';
import { copyFileSync, openSync, writeFileSync, writeSync, closeSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { HELD_BACK_BYTES } from '#src/base/limits.ts';
import type { ProcessorEndpointParts } from '../../../shim/agent/processor-endpoint.ts';
import { imgcryptPayload } from '../../fakes/encrypted-image.ts';
import { makePipe } from '../../fakes/pipe.ts';
import { type ProcessorRun, expectRefused, runProcessor } from '../../fakes/processor-run.ts';
import { NAMESPACE, ProcessorSite } from '../../fakes/processor-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let site: ProcessorSite;
let outcomes: Parameters<ProcessorEndpointParts['onLayer']>[0][];

function path(name: string): string {
  return join(directory(), name);
}

beforeEach(async () => {
  outcomes = [];
  site = await ProcessorSite.start(directory(), { onLayer: (outcome) => outcomes.push(outcome) });
});
afterEach(() => site.stop());

function start(ciphertext: Buffer, options: { payload?: Buffer; program?: string } = {}): ProcessorRun {
  const name = randomBytes(8).toString('hex');
  writeFileSync(path(name), ciphertext);
  if (options.payload !== undefined) writeFileSync(path(`${name}.payload`), options.payload);
  return runProcessor({
    program: options.program ?? path('processor'),
    directory: directory(),
    input: path(name),
    ...(options.payload === undefined ? {} : { payload: path(`${name}.payload`) }),
  });
}

describe('processors', () => {
  test.each([0, 1, 4096, 65_536, 1_000_000])('get a licensed layer of %i bytes through', async (size) => {
    const image = site.pulledImage([randomBytes(size)]);
    const token = site.open(image);
    const [layer] = image.layers;
    const result = await start(layer!.ciphertext).finished;
    expect(result).toMatchObject({ exitCode: 0, messages: '' });
    expect(result.output.equals(layer!.plaintext)).toBe(true);
    expect(site.ledger.close(token)).toMatchObject({
      state: 'verified',
      gate: { imageKeyId: image.imageKeyId },
    });
    expect(outcomes).toMatchObject([{ digest: layer!.digest, sizeBytes: size, hasPayload: false }]);
  });

  test('are told why a layer is refused before their output ends, 50 of 50 times', async () => {
    const image = site.pulledImage([randomBytes(100_000)]);
    site.issuer.refusal = new LatchkeyError('DENIED_LICENSE_REVOKED', 'the license was revoked', {
      licenseId: 'lic-1',
      contact: 'license@acme.example',
    });
    for (let round = 0; round < 10; round += 1) {
      const runs = Array.from({ length: 5 }, (_, index) => {
        site.open(image, 0, `extract ${index}`);
        return start(image.layers[0]!.ciphertext);
      });
      for (const { finished } of runs) {
        const result = await finished;
        expectRefused(result, 'DENIED_LICENSE_REVOKED: the license was revoked; license lic-1; contact: ');
        expect(result.output).toHaveLength(0);
      }
    }
    expect(outcomes).toHaveLength(50);
  });

  test('that nobody unpacks for are refused: another snapshotter, another client', async () => {
    const image = site.pulledImage([randomBytes(5000)]);
    const result = await start(image.layers[0]!.ciphertext).finished;
    expectRefused(result, 'DENIED_FOREIGN_UNPACK');
    expect(result.messages).toContain('contact: license@acme.example');
    expect(result.output).toHaveLength(0);
    expect(site.issuer.acquired).toBe(0);
  });

  test('with a payload are served when it names the layer, refused when it names another', async () => {
    const image = site.pulledImage([randomBytes(5000), randomBytes(6000)]);
    const [first, second] = image.layers;
    site.open(image, 0);
    site.open(image, 1);
    const wrong = await start(first!.ciphertext, { payload: imgcryptPayload(second!.digest) }).finished;
    expectRefused(wrong, 'DENIED_FOREIGN_UNPACK');
    const right = await start(first!.ciphertext, { payload: imgcryptPayload(first!.digest) }).finished;
    expect(right.exitCode).toBe(0);
    expect(right.output.equals(first!.plaintext)).toBe(true);
  });

  test.each([
    ['garbage', randomBytes(3000)],
    ['empty', Buffer.alloc(0)],
    ['too large', Buffer.alloc(2_000_000, 10)],
  ])('with a payload that is %s are known by their bytes', async (_case, bytes) => {
    const image = site.pulledImage([randomBytes(5000)]);
    site.open(image);
    const result = await start(image.layers[0]!.ciphertext, { payload: bytes }).finished;
    expect(result.exitCode).toBe(0);
  });

  test('get one grant per unpacking, also when they ask at the same time', async () => {
    const image = site.pulledImage([randomBytes(200_000)]);
    site.open(image);
    const results = await Promise.all([1, 2, 3].map(() => start(image.layers[0]!.ciphertext).finished));
    expect(results.map(({ exitCode }) => exitCode).sort()).toEqual([0, 1, 1]);
    for (const result of results.filter(({ exitCode }) => exitCode === 1)) {
      expectRefused(result, 'DENIED_FOREIGN_UNPACK');
    }
  });

  test('get a grant each when the same layer is unpacked twice at once', async () => {
    const image = site.pulledImage([randomBytes(200_000)]);
    const tokens = [site.open(image, 0, 'first'), site.open(image, 0, 'second')];
    const results = await Promise.all([1, 2].map(() => start(image.layers[0]!.ciphertext).finished));
    expect(results.map(({ exitCode, messages }) => ({ exitCode, messages }))).toEqual(
      Array(2).fill({ exitCode: 0, messages: '' }),
    );
    for (const token of tokens) expect(site.ledger.close(token).state).toBe('verified');
  });

  test('are not held up by a layer that is still being fetched', async () => {
    const image = site.pulledImage([randomBytes(5000), randomBytes(5000)]);
    site.open(image, 0);
    site.open(image, 1);
    site.store.remove(NAMESPACE, image.layers[0]!.digest);
    const result = await start(image.layers[1]!.ciphertext).finished;
    expect(result).toMatchObject({ exitCode: 0, messages: '' });
  });

  test('work twenty at once', async () => {
    const image = site.pulledImage(Array.from({ length: 20 }, (_, index) => randomBytes(30_000 * index)));
    const runs = image.layers.map(({ ciphertext }, index) => {
      site.open(image, index);
      return start(ciphertext);
    });
    for (const [index, { finished }] of runs.entries()) {
      const result = await finished;
      expect(result).toMatchObject({ exitCode: 0, messages: '' });
      expect(result.output.equals(image.layers[index]!.plaintext)).toBe(true);
    }
    expect(site.issuer.acquired).toBe(1);
  });

  test('go on beside others whose bytes do not come', async () => {
    const image = site.pulledImage(Array.from({ length: 6 }, () => randomBytes(20_000)));
    const stuck = image.layers.slice(0, 5).map(({ ciphertext }, index) => {
      site.open(image, index);
      const pipe = makePipe(path(`slow-${index}`));
      const run = runProcessor({ program: path('processor'), directory: directory(), input: pipe });
      const feeder = openSync(pipe, 'w');
      // Two get no head, the others stand in the middle of the layer.
      if (index > 1) writeSync(feeder, ciphertext.subarray(0, 10_000));
      return { run, feeder, rest: ciphertext.subarray(index > 1 ? 10_000 : 0) };
    });
    site.open(image, 5);
    const quick = await start(image.layers[5]!.ciphertext).finished;
    expect(quick.exitCode).toBe(0);
    for (const { run, feeder, rest } of stuck) {
      expect(run.events).toEqual([]);
      writeSync(feeder, rest);
      closeSync(feeder);
      expect((await run.finished).exitCode).toBe(0);
    }
  });

  test('of a layer that is not authentic get no tail, a message, and the unpacking stays unverified', async () => {
    const image = site.pulledImage([randomBytes(300_000)]);
    const token = site.open(image);
    const damaged = Buffer.from(image.layers[0]!.ciphertext);
    damaged[200_000]! ^= 1;
    const result = await start(damaged).finished;
    expectRefused(result, 'CRYPTO_AUTHENTICATION_FAILED');
    expect(result.output.length).toBeLessThanOrEqual(300_000 - HELD_BACK_BYTES);
    expect(site.ledger.close(token)).toMatchObject({
      state: 'unverified',
      reason: { code: 'CRYPTO_AUTHENTICATION_FAILED' },
    });
  });

  test('that are killed leave the agent and its workers as they were', async () => {
    const image = site.pulledImage(Array.from({ length: 4 }, () => randomBytes(3_000_000)));
    for (const [index, { ciphertext }] of image.layers.slice(0, 3).entries()) {
      site.open(image, index);
      const pipe = makePipe(path(`killed-${index}`));
      const run = runProcessor({ program: path('processor'), directory: directory(), input: pipe });
      const feeder = openSync(pipe, 'w');
      writeSync(feeder, ciphertext.subarray(0, 5000));
      run.child.kill('SIGKILL');
      closeSync(feeder);
      expect((await run.finished).signal).toBe('SIGKILL');
    }
    site.open(image, 3);
    const result = await start(image.layers[3]!.ciphertext).finished;
    expect(result.output.equals(image.layers[3]!.plaintext)).toBe(true);
  });

  test('are only what the agent has installed; a copy of it is another program', async () => {
    const image = site.pulledImage([randomBytes(5000)]);
    site.open(image);
    copyFileSync(path('processor'), path('copy'));
    const result = await start(image.layers[0]!.ciphertext, { program: path('copy') }).finished;
    expect(result).toMatchObject({ exitCode: 1 });
    expect(result.output).toHaveLength(0);
    expect(outcomes[0]?.error).toMatchObject({ code: 'AUTH_FORBIDDEN' });
    expect(site.ledger.unclaimed()).toHaveLength(1);
  });
});

describe('callers that are not a processor', () => {
  async function say(bytes: Buffer): Promise<Buffer> {
    const socket = createConnection(path('processor.sock'));
    if (bytes.length === 0) socket.end();
    else socket.write(bytes);
    const chunks: Buffer[] = [];
    for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  function processId(value: number): Buffer {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    return bytes;
  }

  test.each([
    ['this process', processId(process.pid)],
    ['no process', processId(0)],
    ['process 1', processId(1)],
    ['a negative number', processId(-1)],
    ['a number no process has', processId(2 ** 31 - 1)],
    ['too few bytes', Buffer.alloc(3)],
    ['too many bytes', Buffer.alloc(5000, 1)],
  ])('saying %s are answered with a failure', async (_case, bytes) => {
    expect(await say(bytes)).toEqual(Buffer.of(1));
    expect(outcomes).toMatchObject([{ sizeBytes: 0, error: { code: 'AUTH_FORBIDDEN' } }]);
  });

  test('that connect and leave do no harm', async () => {
    expect(await say(Buffer.alloc(0))).toHaveLength(0);
    expect(outcomes).toEqual([]);
  });
});
