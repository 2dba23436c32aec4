/** One run of a program, measured from outside: time, CPU of all its threads, peak memory. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

const MEMORY_POLL_MS = 20;
/** Linux counts CPU time in hundredths of a second for every program (proc_pid_stat(5)). */
const TICK_MS = 10;

export interface MeasuredRun {
  readonly wallMs: number;
  readonly cpuMs: number;
  /** The kernel's own high-water mark of resident memory. */
  readonly peakMib: number;
}

/** Runs a program to its end; one at a time, as CPU time is that of all ended children. */
export async function runMeasured(program: string, args: readonly string[]): Promise<MeasuredRun> {
  const cpuBeforeMs = childrenCpuMs();
  const startedMs = performance.now();
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
  const wallMs = performance.now() - startedMs;
  clearInterval(poll);
  if (status !== 0) throw new Error(`${program} ended with status ${status ?? 'none'}`);
  return { wallMs, cpuMs: childrenCpuMs() - cpuBeforeMs, peakMib: peakKib / 1024 };
}

/** User and system time of children that have ended (fields 16 and 17). */
function childrenCpuMs(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) * TICK_MS;
}
