/**
 * Decryption from pipe to pipe, as containerd drives it: the real processor, its endpoint and a worker thread,
 * against the machine's own SHA-256 rate in the same run.
 *
 *   node bench/decrypt-pipe.ts [MiB]
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { startWorker } from '#src/base/installation.ts';
import { LayerEncryptor, generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { installProcessor } from '../shim/agent/processor-install.ts';
import { serveProcessors } from '../shim/agent/processor-endpoint.ts';
import { WorkerPool } from '../shim/agent/worker-pool.ts';
import { interleave, median } from './statistics.ts';

const ROUNDS = 5;
const CHUNK_BYTES = 1024 * 1024;
/** What containerd reads and writes at once (archive and io.Copy buffers). */
const CONTAINERD_CHUNK_BYTES = 32 * 1024;

interface Job {
  readonly directory: string;
  readonly mebibytes: number;
}

if (process.argv[2] === 'agent') await serveAgent(JSON.parse(process.argv[3] ?? '') as Job);
else await main(Number(process.argv[2] ?? 1024));

async function main(mebibytes: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'lk-bench-'));
  const agent = fork(import.meta.filename, ['agent', JSON.stringify({ directory, mebibytes })], {
    env: { ...process.env, MALLOC_ARENA_MAX: '1' },
  });
  try {
    await once(agent, 'message');
    const contest = await interleave(
      ROUNDS,
      () => decryptOnce(directory, mebibytes),
      async () => sha256Once(mebibytes),
    );
    const rate = (milliseconds: number): string => ((mebibytes / milliseconds) * 1000).toFixed(0);
    const [ours, yardstick] = [median(contest.ours), median(contest.yardstick)];
    process.stdout.write(
      `decrypt, pipe to pipe, ${mebibytes} MiB: ${rate(ours)} MiB/s; SHA-256 alone ${rate(yardstick)} MiB/s; ` +
        `ratio ${(yardstick / ours).toFixed(2)} (goal at least 0.40); agent at most ${await peakMemory(agent)} MiB\n`,
    );
  } finally {
    agent.kill();
    await rm(directory, { recursive: true });
  }
}

/** Feeds a processor and drains it through real pipes, with processes of their own as containerd is one. */
async function decryptOnce(directory: string, mebibytes: number): Promise<number> {
  const script =
    'set -o pipefail; dd if="$1/layer" bs="$2" status=none | "$1/processor" | dd of=/dev/null bs="$2" status=none';
  const startedMs = performance.now();
  const child = spawn('bash', ['-c', script, 'bash', directory, String(CONTAINERD_CHUNK_BYTES)], {
    stdio: 'inherit',
  });
  const [status] = (await once(child, 'exit')) as [number];
  if (status !== 0) throw new Error(`the processor of ${mebibytes} MiB ended with ${status}`);
  return performance.now() - startedMs;
}

function sha256Once(mebibytes: number): number {
  const chunk = Buffer.alloc(CHUNK_BYTES, 7);
  const startedMs = performance.now();
  const hash = createHash('sha256');
  for (let count = 0; count < mebibytes; count += 1) hash.update(chunk);
  hash.digest();
  return performance.now() - startedMs;
}

async function peakMemory(child: ChildProcess): Promise<string> {
  const status = await readFile(`/proc/${child.pid ?? 0}/status`, 'utf8');
  return (Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024).toFixed(0);
}

/** The agent's side, with the decision taken: what is measured is the data's way. */
async function serveAgent({ directory, mebibytes }: Job): Promise<void> {
  const key = generateLayerKey();
  const encryptor = new LayerEncryptor(key);
  await pipeline(
    function* () {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (let count = 0; count < mebibytes; count += 1) yield encryptor.update(randomFillSync(chunk));
    },
    createWriteStream(join(directory, 'layer')),
  );
  const mac = encryptor.finish();
  const socketPath = join(directory, 'processor.sock');
  const { executable } = await installProcessor('auto', {
    processorProgram: join(directory, 'processor'),
    processorSocket: socketPath,
  });
  const layerDigest: Digest = digestOf('bench');
  await serveProcessors(socketPath, {
    pool: new WorkerPool((options) => startWorker('shim/agent/decrypt-worker.ts', options)),
    grantor: {
      grant: async () => ({ layerDigest, key, mac, verified: () => undefined, failed: () => undefined }),
    },
    programPath: executable,
    onLayer: ({ error }) => {
      if (error !== undefined) process.stderr.write(`${error.line}\n`);
    },
  });
  process.send?.('ready');
}
