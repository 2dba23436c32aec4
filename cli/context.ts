/** What the world gives a command; passed in, so that a command can be run by a test without a process. */
import type { Clock } from '#src/base/clock.ts';

/** The part of a standard stream that commands use. */
export interface TextSink {
  write(text: string): unknown;
  /** True on a terminal: bars and colours make sense. */
  readonly isTTY?: boolean | undefined;
  /** Width of the terminal in characters. */
  readonly columns?: number | undefined;
}

export interface CommandContext {
  /** Results only, so that pipes stay clean. */
  readonly stdout: TextSink;
  /** Everything that is said along the way: progress, notes, errors. */
  readonly stderr: TextSink;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Aborted on SIGINT or SIGTERM; commands end cleanly and leave nothing half-written. */
  readonly signal: AbortSignal;
}
