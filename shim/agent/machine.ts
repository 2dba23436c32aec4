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

/**
 * The agent's clock. Node's own monotonic clock stops while the machine is suspended, and a lease must not: `os.uptime`
 * reads /proc/uptime, which is CLOCK_BOOTTIME.
 */
export const bootClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => uptime() * 1000,
};

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
