/** Which machine this is, which boot of it, and a clock that counts while it sleeps. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { uptime } from 'node:os';
import type { Clock } from '#src/base/clock.ts';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** A copied disk brings the first along; the second is the (virtual) hardware's own. Some machines lack one. */
const MACHINE_IDS = ['/etc/machine-id', '/sys/class/dmi/id/product_uuid'];

/** Fingerprints: SHA-256, hex. */
export interface Machine {
  readonly machine: string;
  readonly boot: string;
}

export function readMachine(): Machine {
  return {
    machine: fingerprint('machine', MACHINE_IDS.map(textOf).join('\n')),
    boot: fingerprint('boot', textOf(BOOT_ID)),
  };
}

/** A reading of the clock is good for this long: less than passes between a decision and its answer. */
const READING_MS = 1;

/**
 * The agent's clock. Node's own monotonic clock stops while the machine is suspended, and a lease must not: `os.uptime`
 * reads /proc/uptime, which is CLOCK_BOOTTIME. A start asks some thirty times, so a reading is used for a moment.
 * @param uptimeSeconds of the machine, times of suspension included
 * @param awakeMs a clock that costs nothing and may stand still meanwhile
 */
export function bootClock(
  uptimeSeconds: () => number = uptime,
  awakeMs: () => number = () => performance.now(),
): Clock {
  let [readingMs, readAtMs] = [0, -Infinity];
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => {
      const nowMs = awakeMs();
      if (nowMs - readAtMs >= READING_MS) [readingMs, readAtMs] = [uptimeSeconds() * 1000, nowMs];
      return readingMs;
    },
  };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function fingerprint(what: string, text: string): string {
  return createHash('sha256').update(`latchkey ${what}\n${text}`).digest('hex');
}
