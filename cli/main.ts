/** Runs the command line: signals in, exit status and one clear line out. */
import { addAbortSignal } from 'node:stream';
import { CommanderError } from 'commander';
import { systemClock } from '#src/base/clock.ts';
import { ERROR_TABLE, LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_REQUESTS_PER_HOST } from '#src/base/limits.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import type { CommandContext } from './context.ts';
import { escapeLine, hasAnswered } from './output.ts';
import { createProgram } from './program.ts';
import { standardOutput } from './standard-output.ts';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/**
 * Runs one command in this process and ends the process with its status.
 * @param args the command line without the runtime and the script
 */
export async function main(args: readonly string[]): Promise<void> {
  const controller = new AbortController();
  for (const name of STOP_SIGNALS) {
    process.on(name, () => {
      // Who asks twice does not want to wait for the clean end.
      if (controller.signal.aborted) process.exit(ERROR_TABLE.INTERRUPTED.exit);
      controller.abort(new LatchkeyError('INTERRUPTED', `stopped by ${name}`));
    });
  }
  let isOutputClaimed = false;
  let isInputTaken = false;
  process.stdout.on('error', (error) => {
    // Whoever writes the archive hears of it too, and cleans up.
    if (isOutputClaimed) return;
    // The reader has gone (`latchkey inspect x | head`): nobody is left to tell.
    if (systemErrorCode(error) === 'EPIPE') process.exit(0);
    throw error;
  });
  const output = standardOutput();
  const context: CommandContext = {
    stdout: {
      write: (text) => {
        if (isOutputClaimed) process.stderr.write(text);
        else output.write(text);
      },
      get isTTY() {
        return isOutputClaimed ? process.stderr.isTTY : process.stdout.isTTY;
      },
      get columns() {
        return process.stdout.columns;
      },
    },
    pipes: {
      input: () => {
        if (isInputTaken) throw new LatchkeyError('USAGE_INVALID', 'standard input can be read only once');
        isInputTaken = true;
        return addAbortSignal(controller.signal, process.stdin);
      },
      claimOutput: () => {
        isOutputClaimed = true;
      },
      output: output.stream,
    },
    stderr: process.stderr,
    env: process.env,
    clock: systemClock,
    hostLimit: new HostLimit(MAX_REQUESTS_PER_HOST),
    signal: controller.signal,
  };
  process.exit(await run(args, context));
}

/** Runs one command and gives its exit status; errors have been shown. */
export async function run(args: readonly string[], context: CommandContext): Promise<number> {
  try {
    const program = await createProgram(context, args);
    await program.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const known = knownError(error, context.signal);
    if (known === undefined) return ERROR_TABLE.USAGE_INVALID.exit;
    showError(known, args, context);
    return ERROR_TABLE[known.code].exit;
  }
}

/** Gives what to show, or undefined when the help text has already said it. */
function knownError(error: unknown, signal: AbortSignal): LatchkeyError | undefined {
  if (error instanceof CommanderError) {
    if (error.code === 'commander.help') return undefined;
    // "argument 'x' is invalid. Allowed choices are a, b." is one part of our line.
    const message = error.message
      .replace(/^error: /, '')
      .replace(/\.$/, '')
      .replace(/ is invalid\. ./, (text) => text.replace('.', ':').toLowerCase());
    return new LatchkeyError('USAGE_INVALID', message, { hint: 'see --help for how the command is used' });
  }
  // Once stopped, whatever the unwinding work fails with is a consequence.
  if (signal.aborted && signal.reason instanceof LatchkeyError) return signal.reason;
  return toLatchkeyError(error);
}

function showError(error: LatchkeyError, args: readonly string[], context: CommandContext): void {
  if (args.includes('--json') && !hasAnswered(context)) {
    const { code, message, hint, licenseId, contact } = error;
    const document = JSON.stringify({ error: { code, message, hint, licenseId, contact } });
    try {
      context.stdout.write(`${escapeLine(document)}\n`);
    } catch {
      // The same is said below, where it may be heard.
    }
  }
  context.stderr.write(`latchkey: ${escapeLine(error.line.replaceAll(/\s*\n\s*/g, ' '))}\n`);
  if (error.code === 'BUG_UNEXPECTED' && context.env['LATCHKEY_DEBUG'] === '1') {
    const cause = error.cause instanceof Error ? error.cause.stack : undefined;
    context.stderr.write(`${cause ?? error.stack ?? ''}\n`);
  }
}
