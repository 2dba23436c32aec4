/** Calls to a server in another process, so many at a time: how many a second, how long each takes, what the server pays. */
import { readFileSync } from 'node:fs';
import { median } from './statistics.ts';

/** Linux counts CPU time in hundredths of a second for every program. */
const TICK_MICROSECONDS = 10_000;

export interface Load {
  readonly calls: number;
  readonly inFlight: number;
  /** Process whose CPU time counts. */
  readonly serverPid: number;
}

export interface CallRound {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of the server per call; steadier than the rate when others use the machine. */
  readonly serverCpuMicroseconds: number;
  /** CPU of this process per call. */
  readonly clientCpuMicroseconds: number;
}

/** Makes the calls. */
export async function measureCalls(
  call: () => Promise<unknown>,
  { calls, inFlight, serverPid }: Load,
): Promise<CallRound> {
  const serverBefore = cpuMicroseconds(serverPid);
  const clientBefore = process.cpuUsage();
  const latencies: number[] = [];
  const startedMs = performance.now();
  let begun = 0;
  const worker = async () => {
    while (begun < calls) {
      begun += 1;
      const before = performance.now();
      await call();
      latencies.push(performance.now() - before);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const seconds = (performance.now() - startedMs) / 1000;
  const client = process.cpuUsage(clientBefore);
  return {
    perSecond: calls / seconds,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    serverCpuMicroseconds: (cpuMicroseconds(serverPid) - serverBefore) / calls,
    clientCpuMicroseconds: (client.user + client.system) / calls,
  };
}

/** One line: the medians of some rounds. */
export function reportCalls(name: string, rounds: readonly CallRound[]): void {
  const value = (pick: (round: CallRound) => number) => median(rounds.map(pick));
  process.stdout.write(
    `${name.padEnd(24)} ${value((r) => r.perSecond).toFixed(0)}/s  p50 ${value((r) => r.p50Ms).toFixed(1)} ms  ` +
      `p99 ${value((r) => r.p99Ms).toFixed(1)} ms  ` +
      `CPU ${value((r) => r.serverCpuMicroseconds).toFixed(0)} us/call in the server, ` +
      `${value((r) => r.clientCpuMicroseconds).toFixed(0)} in the client  (median of ${rounds.length})\n`,
  );
}

/** User and system time of a process in all its threads (proc_pid_stat(5), fields 14 and 15). */
export function cpuMicroseconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MICROSECONDS;
}

/** The value below which a fraction of the values lies. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN;
}
