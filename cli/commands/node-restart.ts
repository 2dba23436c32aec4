/** Restarting what a changed configuration needs: only when the operator says so. */
import { createInterface } from 'node:readline/promises';
import type { CommandContext } from '../context.ts';
import type { Output } from '../output.ts';
import { runJsonProgram } from '../run-program.ts';

/** Programs with their arguments, in order. */
export type Restart = readonly (readonly string[])[];

/** Asks on a terminal; everywhere else the answer is no. */
export async function confirmRestart(
  context: CommandContext,
  output: Output,
  restart: Restart,
): Promise<boolean> {
  if (restart.length === 0 || output.json || context.stderr.isTTY !== true || !process.stdin.isTTY)
    return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const question = 'Run the systemctl commands now? Containers go on, but none starts meanwhile. [y/N] ';
    return /^y(es)?$/i.test((await terminal.question(question, { signal: context.signal })).trim());
  } finally {
    terminal.close();
  }
}

export async function restartServices(
  commands: Restart,
  context: CommandContext,
  output: Output,
): Promise<void> {
  if (commands.length === 0) {
    output.note('systemd does not run here, so nothing was restarted');
    return;
  }
  await runJsonProgram('shim/install/main.js', ['restart', JSON.stringify({ commands })], context.signal);
  output.note('restarted');
}
