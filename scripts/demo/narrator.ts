/** What the demo says: numbered steps with the time they took, commands, and what they answered. */
import { styleText } from 'node:util';

const INDENT = '     ';
const WIDTH = 100;

export class Narrator {
  readonly #total: number;
  readonly #startedMs = performance.now();
  #step = 0;
  #stepStartedMs = performance.now();

  constructor(total: number) {
    this.#total = total;
  }

  /** Begins a step; the one before it ends. */
  step(title: string): void {
    this.finishStep();
    this.#step += 1;
    this.#stepStartedMs = performance.now();
    this.#write(`\n${this.#style('bold', `${this.#step}/${this.#total}  ${title}`)}`);
  }

  finishStep(): void {
    if (this.#step > 0) this.#write(this.#style('dim', `${INDENT}(${seconds(this.#stepStartedMs)})`));
  }

  say(text: string): void {
    for (const line of wrap(text)) this.#write(`${INDENT}${line}`);
  }

  command(line: string): void {
    this.#write(`${INDENT}${this.#style('cyan', `$ ${line}`)}`);
  }

  /** Output of a command, or the text an operator sees, as it is. */
  quote(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.#write(`${INDENT}${this.#style('dim', '|')} ${line}`);
  }

  good(text: string): void {
    this.#write(`${INDENT}${this.#style('green', 'ok')}  ${text}`);
  }

  end(text: string): void {
    this.finishStep();
    this.#write(`\n${this.#style('bold', text)} (${seconds(this.#startedMs)} in all)\n`);
  }

  #style(format: Parameters<typeof styleText>[0], text: string): string {
    return styleText(format, text, { stream: process.stdout });
  }

  #write(line: string): void {
    process.stdout.write(`${line}\n`);
  }
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + word.length + 1 > WIDTH - INDENT.length) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
