/** Runs `latchkey` as people do: a process with its own directory and environment. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';

/** The command's entry. */
export const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

export interface CommandOutcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandPlace {
  readonly directory: string;
  /** Added to this process's own. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end, whatever that is. */
export function runProgram(
  program: string,
  args: readonly string[],
  { directory, env }: CommandPlace,
): Promise<CommandOutcome> {
  const options = {
    cwd: directory,
    env: { ...process.env, XDG_CACHE_HOME: join(directory, 'cache'), ...env },
  };
  return new Promise((resolve) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** Runs `latchkey` to its end. */
export function runLatchkey(args: readonly string[], place: CommandPlace): Promise<CommandOutcome> {
  return runProgram(process.execPath, [LATCHKEY, ...args], place);
}

/** As above, with its output in a file, as a shell does it. */
export function runLatchkeyInto(
  file: string,
  args: readonly string[],
  place: CommandPlace,
): Promise<CommandOutcome> {
  const script = 'out=$1; shift; exec "$@" > "$out"';
  return runProgram('sh', ['-c', script, 'sh', file, process.execPath, LATCHKEY, ...args], place);
}
