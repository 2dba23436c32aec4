/**
 * What time it is on a node whose clock may have been turned back. The key server's time is a floor: the highest that was
 * heard, and what has passed on the boot clock since, which counts while the machine sleeps. Pure.
 */
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';

/** The highest time of the key server, and where the node's boot clock stood then. */
export interface TimeMark {
  readonly serverTimeMs: number;
  readonly bootId: string;
  readonly bootTimeMs: number;
  /** The highest that the wall clock has shown to a start without a line, since the key server spoke last. */
  readonly wallMs?: number | undefined;
}

/** The node's clocks at one moment. */
export interface TimeReading {
  readonly wallMs: number;
  readonly bootId: string;
  /** Since the boot, suspended time included (CLOCK_BOOTTIME). */
  readonly bootTimeMs: number;
}

/** The earliest that it can be. After a reboot nothing is known of the time in between. */
export function earliestTimeMs(mark: TimeMark, reading: TimeReading): number {
  const elapsedMs = mark.bootId === reading.bootId ? Math.max(0, reading.bootTimeMs - mark.bootTimeMs) : 0;
  return mark.serverTimeMs + elapsedMs;
}

/** T of the node: never before the floor, whatever the wall clock says. */
export function nodeTimeMs(mark: TimeMark | undefined, reading: TimeReading): number {
  return mark === undefined ? reading.wallMs : Math.max(reading.wallMs, floorMs(mark, reading));
}

/** Without a line the wall clock counts too: it is all that tells how long the machine was off. */
function floorMs(mark: TimeMark, reading: TimeReading): number {
  return Math.max(earliestTimeMs(mark, reading), mark.wallMs ?? 0);
}

/** By how much the wall clock was turned back; 0 while it is within the tolerance. */
export function clockRollbackMs(mark: TimeMark | undefined, reading: TimeReading): number {
  if (mark === undefined) return 0;
  const behindMs = floorMs(mark, reading) - reading.wallMs;
  return behindMs > MAX_CLOCK_SKEW_MS ? behindMs : 0;
}

/**
 * The mark after the key server has told its time. What the wall clock showed before counts no more: the key server knows
 * better.
 */
export function raiseMark(mark: TimeMark | undefined, serverTimeMs: number, reading: TimeReading): TimeMark {
  const raised = raiseFloor(mark, serverTimeMs, reading);
  if (raised.wallMs === undefined) return raised;
  return { serverTimeMs: raised.serverTimeMs, bootId: raised.bootId, bootTimeMs: raised.bootTimeMs };
}

/** The mark after a time of the key server was carried here, which is past by now; the same when it is nothing new. */
export function raiseFloor(mark: TimeMark | undefined, serverTimeMs: number, reading: TimeReading): TimeMark {
  if (mark !== undefined && serverTimeMs <= earliestTimeMs(mark, reading)) return mark;
  return { serverTimeMs, bootId: reading.bootId, bootTimeMs: reading.bootTimeMs };
}

/** The mark after time has passed without a word of the key server; to be kept, because a reboot forgets the boot clock. */
export function passMark(mark: TimeMark, reading: TimeReading): TimeMark {
  return {
    serverTimeMs: earliestTimeMs(mark, reading),
    bootId: reading.bootId,
    bootTimeMs: reading.bootTimeMs,
    wallMs: Math.max(mark.wallMs ?? 0, reading.wallMs),
  };
}
