/**
 * Encryption and decryption from image layout to image layout, against skopeo, in turns. Salting, our default, reads
 * every layer through its decompressor as well, for the diff ID that the salt changes; skopeo keeps diff IDs, so
 * `--keep-diff-ids` is the same job as skopeo's.
 *
 *   node bench/images.ts [MiB of the large layer] [pairs]
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { peerTool, peerToolsSkipReason } from '../lab/peer-tools.ts';
import {
  type LayerContent,
  buildBenchImage,
  debianLayers,
  incompressibleLayer,
  smallLayers,
} from './bench-image.ts';
import { type MeasuredRun, runMeasured } from './measured-run.ts';
import { median, medianRatio } from './statistics.ts';

const LATCHKEY = join(import.meta.dirname, '..', 'cli', 'latchkey.js');
const DEBIAN_12_SKOPEO = '/usr/bin/skopeo';
const SMALL_MEBIBYTES = 64;

type Run = (program: 'latchkey' | 'skopeo') => Promise<MeasuredRun>;

interface Bench {
  readonly skopeo: string;
  readonly directory: string;
  readonly pairs: number;
}

await main(Number(process.argv[2] ?? 1024), Number(process.argv[3] ?? 5));

async function main(mebibytes: number, pairs: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-bench-images-'));
  try {
    const bench = { skopeo: findSkopeo(), directory, pairs };
    execFileSync(process.execPath, [LATCHKEY, 'keygen', join(directory, 'key'), '--quiet'], {
      stdio: 'ignore',
    });
    line('image', 'job', 'latchkey', 'skopeo', 'wall', 'CPU', 'goal', 'peak MiB');
    await compare(bench, `${mebibytes} MiB layer`, [incompressibleLayer(mebibytes)], ['0.55', '0.36']);
    await compare(bench, '50 small layers', smallLayers(50), ['0.60', '0.60']);
    await compare(bench, 'Debian files', debianLayers(), ['0.60', '0.36']);
    await compareMemory(bench, mebibytes);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Debian 13's skopeo; Debian 12's is three times slower, so with it the goals cannot be judged. */
function findSkopeo(): string {
  const reason = peerToolsSkipReason('skopeo');
  if (reason === undefined) return peerTool('skopeo');
  if (!existsSync(DEBIAN_12_SKOPEO)) throw new Error('there is no skopeo to compare with');
  process.stdout.write(`${reason}; with Debian 12's skopeo no goal can be judged\n`);
  return DEBIAN_12_SKOPEO;
}

async function compare(
  bench: Bench,
  name: string,
  contents: readonly LayerContent[],
  [encryptGoal, decryptGoal]: readonly [string, string],
): Promise<void> {
  const source = join(bench.directory, 'source');
  const encrypted = join(bench.directory, 'encrypted');
  await buildBenchImage(source, contents);
  await interleave(bench, name, 'encrypt', encryptGoal, encryption(bench, source, []));
  await interleave(
    bench,
    name,
    'encrypt, diff IDs kept',
    encryptGoal,
    encryption(bench, source, ['--keep-diff-ids']),
  );
  await runMeasured(process.execPath, encryptArgs(bench, source, encrypted, []));
  await interleave(bench, name, 'decrypt', decryptGoal, decryption(bench, encrypted));
  await rm(source, { recursive: true });
  await rm(encrypted, { recursive: true });
}

/** Peak memory with a small and with a large layer. */
async function compareMemory(bench: Bench, mebibytes: number): Promise<void> {
  const peaks: string[] = [];
  for (const size of [SMALL_MEBIBYTES, mebibytes]) {
    const source = join(bench.directory, 'source');
    await buildBenchImage(source, [incompressibleLayer(size)]);
    const { peakMib } = await encryption(bench, source, [])('latchkey');
    peaks.push(`${peakMib.toFixed(0)} MiB for ${size} MiB`);
    await rm(source, { recursive: true });
  }
  process.stdout.write(`peak memory of latchkey encrypt: ${peaks.join(', ')}\n`);
}

function encryptArgs({ directory }: Bench, source: string, to: string, options: readonly string[]): string[] {
  const recipient = `jwe:${join(directory, 'key.pub.pem')}`;
  return [
    LATCHKEY,
    'encrypt',
    `oci:${source}:v1`,
    `oci:${to}:v1`,
    '--recipient',
    recipient,
    '--quiet',
    ...options,
  ];
}

function encryption(bench: Bench, source: string, options: readonly string[]): Run {
  const out = join(bench.directory, 'out');
  const recipient = `jwe:${join(bench.directory, 'key.pub.pem')}`;
  return intoEmpty(
    out,
    bench,
    encryptArgs(bench, source, out, options),
    skopeoArgs(source, out, ['--encryption-key', recipient]),
  );
}

function decryption(bench: Bench, encrypted: string): Run {
  const out = join(bench.directory, 'out');
  const key = join(bench.directory, 'key.pem');
  return intoEmpty(
    out,
    bench,
    [LATCHKEY, 'decrypt', `oci:${encrypted}:v1`, `oci:${out}:v1`, '--key', key, '--quiet'],
    skopeoArgs(encrypted, out, ['--decryption-key', key]),
  );
}

function skopeoArgs(from: string, to: string, options: readonly string[]): string[] {
  return ['--insecure-policy', 'copy', '--quiet', ...options, `oci:${from}:v1`, `oci:${to}:v1`];
}

function intoEmpty(out: string, { skopeo }: Bench, ours: readonly string[], theirs: readonly string[]): Run {
  return async (program) => {
    await rm(out, { recursive: true, force: true });
    // What one leaves to be written must not be the other's burden.
    execFileSync('sync');
    return program === 'latchkey' ? runMeasured(process.execPath, ours) : runMeasured(skopeo, theirs);
  };
}

async function interleave(bench: Bench, name: string, job: string, goal: string, run: Run): Promise<void> {
  // Fills the compile cache and the page cache.
  await run('skopeo');
  await run('latchkey');
  const ours: MeasuredRun[] = [];
  const yardstick: MeasuredRun[] = [];
  for (let pair = 0; pair < bench.pairs; pair += 1) {
    yardstick.push(await run('skopeo'));
    ours.push(await run('latchkey'));
  }
  const of = (runs: readonly MeasuredRun[], pick: (run: MeasuredRun) => number): number[] => runs.map(pick);
  const ratio = (pick: (run: MeasuredRun) => number): string =>
    medianRatio({ ours: of(ours, pick), yardstick: of(yardstick, pick) }).toFixed(2);
  const seconds = (runs: readonly MeasuredRun[]): string =>
    `${(median(of(runs, ({ wallMs }) => wallMs)) / 1000).toFixed(2)} s`;
  const peak = Math.max(...of(ours, ({ peakMib }) => peakMib)).toFixed(0);
  line(
    name,
    job,
    seconds(ours),
    seconds(yardstick),
    ratio(({ wallMs }) => wallMs),
    ratio(({ cpuMs }) => cpuMs),
    goal,
    peak,
  );
}

function line(...cells: readonly string[]): void {
  const widths = [16, 23, 9, 9, 6, 6, 6];
  process.stdout.write(`${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(' ')}\n`);
}
