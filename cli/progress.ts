/**
 * How far long work is: a bar on a terminal, a plain line every few seconds elsewhere (CI logs), nothing with
 * `--json` or `--quiet`. Draws when bytes arrive and owns no timer, so nothing has to be stopped on an error.
 */
import type { Clock } from '#src/base/clock.ts';
import type { CommandContext, TextSink } from './context.ts';
import { formatBytes, styled } from './output.ts';

const BAR_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 5000;
const BAR_CELLS = 24;
const CLEAR_LINE = '\r\u001b[2K';

export interface Progress {
  /** Begins a step; `totalBytes` 0 means unknown. */
  start(label: string, totalBytes: number): void;
  advance(deltaBytes: number): void;
  /** Ends the current step, if there is one, and leaves one line about it. */
  finish(): void;
  /** Takes an unfinished bar off the terminal, so that an error starts on its own line. */
  clear(): void;
}

const silent: Progress = {
  start: () => undefined,
  advance: () => undefined,
  finish: () => undefined,
  clear: () => undefined,
};

/** The progress display that fits the stream and the options. */
export function createProgress(
  context: Pick<CommandContext, 'stderr' | 'clock'>,
  options: { readonly json: boolean; readonly quiet: boolean },
): Progress {
  if (options.json || options.quiet) return silent;
  return new TextProgress(context.stderr, context.clock);
}

class TextProgress implements Progress {
  readonly #sink: TextSink;
  readonly #clock: Clock;
  #label = '';
  #totalBytes = 0;
  #doneBytes = 0;
  #startedMs = 0;
  #drawnMs = 0;
  #isRunning = false;

  constructor(sink: TextSink, clock: Clock) {
    this.#sink = sink;
    this.#clock = clock;
  }

  start(label: string, totalBytes: number): void {
    this.#label = label;
    this.#totalBytes = totalBytes;
    this.#doneBytes = 0;
    this.#startedMs = this.#clock.monotonicMs();
    this.#drawnMs = this.#startedMs;
    this.#isRunning = true;
    if (this.#sink.isTTY === true) this.#sink.write(CLEAR_LINE + this.#bar());
  }

  advance(deltaBytes: number): void {
    this.#doneBytes += deltaBytes;
    const nowMs = this.#clock.monotonicMs();
    const onTerminal = this.#sink.isTTY === true;
    if (nowMs - this.#drawnMs < (onTerminal ? BAR_INTERVAL_MS : LINE_INTERVAL_MS)) return;
    this.#drawnMs = nowMs;
    this.#sink.write(onTerminal ? CLEAR_LINE + this.#bar() : `${this.#label}: ${this.#amount()}\n`);
  }

  finish(): void {
    if (!this.#isRunning) return;
    const seconds = (this.#clock.monotonicMs() - this.#startedMs) / 1000;
    const mark = styled(this.#sink, 'green', 'done');
    this.clear();
    this.#sink.write(`${this.#label}: ${mark}, ${formatBytes(this.#doneBytes)} in ${seconds.toFixed(1)} s\n`);
  }

  clear(): void {
    this.#isRunning = false;
    if (this.#sink.isTTY === true) this.#sink.write(CLEAR_LINE);
  }

  #bar(): string {
    if (this.#totalBytes === 0) return `${this.#label}: ${this.#amount()}`;
    const fraction = Math.min(1, this.#doneBytes / this.#totalBytes);
    const full = Math.round(fraction * BAR_CELLS);
    const cells = styled(this.#sink, 'cyan', '█'.repeat(full)) + '░'.repeat(BAR_CELLS - full);
    const line = `${this.#label} ${cells} ${this.#amount()}`;
    // A line that wraps cannot be cleared again; the bar is the part to do without.
    const wrapped = this.#sink.columns !== undefined && line.length > this.#sink.columns + BAR_CELLS / 2;
    return wrapped ? this.#amount() : line;
  }

  #amount(): string {
    const seconds = (this.#clock.monotonicMs() - this.#startedMs) / 1000;
    const rate = seconds > 0 ? `, ${formatBytes(this.#doneBytes / seconds)}/s` : '';
    if (this.#totalBytes === 0) return `${formatBytes(this.#doneBytes)}${rate}`;
    const percent = Math.min(100, Math.floor((100 * this.#doneBytes) / this.#totalBytes));
    return `${percent}% of ${formatBytes(this.#totalBytes)}${rate}`;
  }
}
