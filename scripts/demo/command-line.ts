/** Runs the real `latchkey` command, as a user would, and shows it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Narrator } from './narrator.ts';

const SCRIPT = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

export class CommandLine {
  readonly #narrator: Narrator;
  readonly #env: Readonly<Record<string, string>>;

  /** @param env where the key server and the agent of the demo are */
  constructor(narrator: Narrator, env: Readonly<Record<string, string>>) {
    this.#narrator = narrator;
    this.#env = env;
  }

  /** The same command line with more in its environment. */
  with(env: Readonly<Record<string, string>>): CommandLine {
    return new CommandLine(this.#narrator, { ...this.#env, ...env });
  }

  /** Runs a command, shows it with its output, and fails when it does. */
  async show(...args: string[]): Promise<string> {
    this.#narrator.command(`latchkey ${args.join(' ')}`);
    const output = await this.#run(args);
    this.#narrator.quote(output);
    return output;
  }

  /** Runs a command with `--json`; shows the command only. */
  async json<Answer>(...args: string[]): Promise<Answer> {
    this.#narrator.command(`latchkey ${args.join(' ')}`);
    return JSON.parse(await this.#run([...args, '--json'])) as Answer;
  }

  /** Starts a command that stays, with its output in a file. */
  start(logPath: string, ...args: string[]): ChildProcess {
    this.#narrator.command(`latchkey ${args.join(' ')} &`);
    const log = openSync(logPath, 'a');
    const child = spawn(process.execPath, [SCRIPT, ...args], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#env },
      // Ctrl-C reaches the demo, which ends its parts in order.
      detached: true,
    });
    closeSync(log);
    return child;
  }

  async #run(args: readonly string[]): Promise<string> {
    const child = spawn(process.execPath, [SCRIPT, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#env },
    });
    const status = new Promise<number | null>((resolve) => child.once('close', resolve));
    const [output, remarks] = await Promise.all([text(child.stdout), text(child.stderr)]);
    if ((await status) !== 0) throw new Error(`latchkey ${args[0] ?? ''} failed: ${remarks}${output}`);
    return output;
  }
}
