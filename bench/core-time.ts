/** What a process did with its time: a shared machine makes everything slow, and only this tells who was slow by himself. */
import { readFileSync, readdirSync } from 'node:fs';

const MILLISECOND_NS = 1e6;

export interface CoreTime {
  /** Of the busiest thread, which for a Node.js program is the one with the event loop. */
  readonly onCoreMs: number;
  /** How long it was ready to go on and had no core. */
  readonly waitingMs: number;
}

/** Since the process began (Linux, /proc/PID/schedstat: on a core, waiting for one, turns). */
export function coreTime(pid: number): CoreTime {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8');
    const [onCore = 0, waiting = 0] = text.split(' ').map(Number);
    return { onCoreMs: onCore / MILLISECOND_NS, waitingMs: waiting / MILLISECOND_NS };
  });
  return threads.reduce((busiest, one) => (one.onCoreMs > busiest.onCoreMs ? one : busiest));
}

export function since(before: CoreTime, after: CoreTime): CoreTime {
  return { onCoreMs: after.onCoreMs - before.onCoreMs, waitingMs: after.waitingMs - before.waitingMs };
}
