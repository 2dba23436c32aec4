/**
 * Encryption from image layout to image layout with one large incompressible gzip layer: our command against
 * skopeo's, in turns, with the peak memory of each. Salting reads the whole layer through gunzip as well, which
 * skopeo does not; `--keep-diff-ids` does too, because the diff ID is verified.
 *
 *   node bench/encrypt.ts [MiB]
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildLargeImage } from './large-image.ts';
import { interleave, reportContest, timeMs } from './statistics.ts';

const ROUNDS = 5;
const MEMORY_GOAL_MIB = 120;
const MEMORY_POLL_MS = 20;
const ROOT = join(import.meta.dirname, '..');
const DEBIAN_12_SKOPEO = '/usr/bin/skopeo';

interface Peer {
  readonly name: string;
  readonly program: string;
  readonly goal: string;
}

/** Runs a program to its end; gives its peak resident memory in KiB, from the kernel's own high-water mark. */
async function runForPeakKib(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  let peakKib = 0;
  const poll = setInterval(() => {
    void readFile(`/proc/${child.pid ?? 0}/status`, 'utf8').then(
      (status) => (peakKib = Math.max(peakKib, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0))),
      // It has ended between two looks.
      () => undefined,
    );
  }, MEMORY_POLL_MS);
  const [status] = (await once(child, 'exit')) as [number | null];
  clearInterval(poll);
  if (status !== 0) throw new Error(`${program} ended with status ${status ?? 'none'}`);
  return peakKib;
}

function findPeers(): Peer[] {
  const peers: Peer[] = [];
  try {
    const script = join(ROOT, 'scripts', 'fetch-peer-skopeo.sh');
    const program = execFileSync('sh', [script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    }).trim();
    peers.push({ name: "Debian 13's skopeo", program, goal: '<= 0.65' });
  } catch {
    process.stdout.write("Debian 13's skopeo cannot be had here, so the goal cannot be judged\n");
  }
  if (existsSync(DEBIAN_12_SKOPEO)) {
    peers.push({
      name: "Debian 12's skopeo",
      program: DEBIAN_12_SKOPEO,
      goal: 'none, it is three times slower',
    });
  }
  return peers;
}

async function main(mebibytes: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-bench-encrypt-'));
  const latchkey = join(ROOT, 'cli', 'latchkey.js');
  const out = join(directory, 'out');
  let peakKib = 0;
  try {
    const source = `oci:${await buildLargeImage(join(directory, 'source'), mebibytes)}:v1`;
    const key = join(directory, 'key');
    execFileSync(process.execPath, [latchkey, 'keygen', key, '--quiet'], { stdio: 'ignore' });
    const recipient = `jwe:${key}.pub.pem`;
    const measure = async (program: string, args: readonly string[]) => {
      await rm(out, { recursive: true, force: true });
      let kib = 0;
      const ms = await timeMs(async () => (kib = await runForPeakKib(program, args)));
      return { ms, kib };
    };
    const ours = async () => {
      const args = [latchkey, 'encrypt', source, `oci:${out}:v1`, '--recipient', recipient, '--quiet'];
      const { ms, kib } = await measure(process.execPath, args);
      peakKib = Math.max(peakKib, kib);
      return ms;
    };
    for (const { name, program, goal } of findPeers()) {
      const args = [
        '--insecure-policy',
        'copy',
        '--quiet',
        '--encryption-key',
        recipient,
        source,
        `oci:${out}:v1`,
      ];
      const theirs = async () => (await measure(program, args)).ms;
      // The first run of ours fills the compile cache, whose making takes memory of its own.
      await ours();
      peakKib = 0;
      reportContest(`encrypt ${mebibytes} MiB`, await interleave(ROUNDS, ours, theirs), name, goal);
    }
    const peakMib = (peakKib / 1024).toFixed(0);
    process.stdout.write(`peak memory of latchkey encrypt: ${peakMib} MiB (goal <= ${MEMORY_GOAL_MIB})\n`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

await main(Number(process.argv[2] ?? 1024));
