/** Each kind of stream processor against the agent's real endpoint: the kind that Node runs has to serve where native code does not. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { startWorker } from '#src/base/installation.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { LayerEncryptor, generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { digestOf } from '#src/oci/digest.ts';
import { type InstalledProcessor, installProcessor } from '../../../shim/agent/processor-install.ts';
import { serveProcessors } from '../../../shim/agent/processor-endpoint.ts';
import { WorkerPool } from '../../../shim/agent/worker-pool.ts';
import { imgcryptPayload } from '../../fakes/encrypted-image.ts';
import { expectRefused, runProcessor } from '../../fakes/processor-run.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let pool: WorkerPool | undefined;
let server: Server | undefined;
afterEach(async () => {
  server?.close();
  await pool?.close();
});

function path(name: string): string {
  return join(directory(), name);
}

function install(kind: 'auto' | 'node', architecture?: string): Promise<InstalledProcessor> {
  const paths = { processorProgram: path('processor'), processorSocket: path('processor.sock') };
  return installProcessor(kind, paths, architecture);
}

describe.each(['auto', 'node'] as const)('a processor of kind %s', (kind) => {
  const plaintext = randomBytes(300_000);
  const hints: (string | undefined)[] = [];

  async function serve(refusal?: LatchkeyError): Promise<string> {
    const key = generateLayerKey();
    const encryptor = new LayerEncryptor(key);
    writeFileSync(path('layer'), encryptor.update(Buffer.from(plaintext)));
    const mac = encryptor.finish();
    pool = new WorkerPool((options) => startWorker('shim/agent/decrypt-worker.ts', options));
    const { executable } = await install(kind);
    server = await serveProcessors(path('processor.sock'), {
      pool,
      grantor: {
        grant: async (_head, hint) => {
          hints.push(hint);
          if (refusal !== undefined) throw refusal;
          const nothing = () => undefined;
          return { layerDigest: digestOf('layer'), key, mac, verified: nothing, failed: nothing };
        },
      },
      programPath: executable,
      onLayer: nothingMore,
    });
    return path('processor');
  }

  function start(program: string, payload?: string) {
    const files = { input: path('layer'), ...(payload === undefined ? {} : { payload }) };
    return runProcessor({ program, directory: directory(), ...files }).finished;
  }

  test('gets a layer through, without a payload and with one', async () => {
    const program = await serve();
    writeFileSync(path('payload'), imgcryptPayload(digestOf('named')));
    for (const payload of [undefined, path('payload')]) {
      const result = await start(program, payload);
      expect(result).toMatchObject({ exitCode: 0, messages: '' });
      expect(result.output.equals(plaintext)).toBe(true);
    }
    expect(hints.splice(0)).toEqual([undefined, digestOf('named')]);
  });

  test('has the reason of a refusal out before its output ends', async () => {
    const program = await serve(new LatchkeyError('DENIED_LICENSE_REVOKED', 'the license was revoked'));
    for (const result of await Promise.all([1, 2, 3].map(() => start(program)))) {
      expectRefused(result, 'DENIED_LICENSE_REVOKED: the license was revoked');
      expect(result.output).toHaveLength(0);
    }
  });
});

test('native code is taken where there is some, and Node elsewhere or when it is asked for', async () => {
  const isNative = () => readFileSync(path('processor')).subarray(1, 4).toString() === 'ELF';
  expect(await install('auto', 'arm64')).toEqual({ kind: 'native', executable: path('processor') });
  expect(isNative()).toBe(true);
  expect(await install('auto', 'riscv64')).toEqual({ kind: 'node', executable: process.execPath });
  expect(isNative()).toBe(false);
  expect((await install('node', 'x64')).kind).toBe('node');
});

function nothingMore(): void {
  // What becomes of a layer is seen at the processor.
}
