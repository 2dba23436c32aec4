/** `npm run bench`: every figure Latchkey promises, one after another, never two at once. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const BENCHMARKS = [
  { script: 'encrypt.ts', about: 'encrypt a 1 GiB image, layout to layout' },
  { script: 'decrypt-pipe.ts', about: 'decrypt 1 GiB from pipe to pipe' },
  { script: 'node.ts', about: 'pull and warm start on a node', needsRoot: true },
  { script: 'acquire-lease.ts', about: 'durable lease decisions' },
] as const;

let failed = 0;
for (const benchmark of BENCHMARKS) {
  process.stdout.write(`\n${benchmark.about}\n`);
  if ('needsRoot' in benchmark && process.getuid?.() !== 0) {
    process.stdout.write('left out: it starts containers and so needs root\n');
    continue;
  }
  const { status } = spawnSync(process.execPath, [join(import.meta.dirname, benchmark.script)], {
    stdio: 'inherit',
  });
  if (status !== 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
