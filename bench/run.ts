/** `npm run bench`: every figure Latchkey promises, one after another, never two at once. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

interface Benchmark {
  readonly script: string;
  readonly about: string;
  readonly args?: readonly string[];
  /** Of Node. */
  readonly nodeOptions?: readonly string[];
  readonly needsRoot?: boolean;
}

/**
 * Nodes run elsewhere. Its collections would stand in the longest answers: with little room they are many and short (measured: p99
 * 15-16 ms in place of 18-20).
 */
const CLIENT_OPTIONS = ['--max-semi-space-size=2'];

const BENCHMARKS: readonly Benchmark[] = [
  { script: 'images.ts', about: 'encrypt and decrypt images, layout to layout' },
  { script: 'decrypt-pipe.ts', about: 'decrypt 1 GiB from pipe to pipe' },
  { script: 'node-pulls.ts', about: 'pulls on a node', needsRoot: true },
  { script: 'node-starts.ts', about: 'warm and cold starts on a node', needsRoot: true },
  { script: 'node-snapshots.ts', about: "the agent's memory and the snapshotter's calls", needsRoot: true },
  {
    script: 'acquire-lease.ts',
    about: 'durable lease decisions, 16 in flight (goal: 2,500/s, p99 under 15 ms)',
    args: ['sqlite', '6000', '16'],
    nodeOptions: CLIENT_OPTIONS,
  },
  {
    script: 'acquire-lease.ts',
    about: 'durable lease decisions on PostgreSQL, 16 in flight',
    args: ['postgres', '2000', '16'],
    nodeOptions: CLIENT_OPTIONS,
  },
  { script: 'renew-leases.ts', about: 'durable renewals in batches (goal: 10,000 leases/s)' },
  {
    script: 'fleet.ts',
    about: 'a revocation to 1,000 nodes (goal: p99 under 500 ms), 10,000 nodes after an outage (goal: 60 s)',
  },
  {
    script: 'large-database.ts',
    about:
      '100,000 licenses (goal: ready in 1 s), 10,000 nodes and 1,000,000 audit events (goal: lists in 50 ms)',
  },
];

let failed = 0;
for (const benchmark of BENCHMARKS) {
  process.stdout.write(`\n${benchmark.about}\n`);
  if (benchmark.needsRoot === true && process.getuid?.() !== 0) {
    process.stdout.write('left out: it starts containers and so needs root\n');
    continue;
  }
  const script = join(import.meta.dirname, benchmark.script);
  const command = [...(benchmark.nodeOptions ?? []), script, ...(benchmark.args ?? [])];
  const { status } = spawnSync(process.execPath, command, { stdio: 'inherit' });
  if (status !== 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
