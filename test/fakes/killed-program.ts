/** A program of the key server that is killed in the middle, as by `kill -9`. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const MAIN = join(import.meta.dirname, '..', '..', 'keyserver', 'main.js');
const PRELOAD = join(import.meta.dirname, 'kill-at-statement.js');

export interface KilledProgram {
  /** What it has answered; empty when it was killed. */
  readonly answer: string;
  /** How many moments it had, one before and one after each statement or message to PostgreSQL; 0 when it was killed. */
  readonly moments: number;
}

/**
 * Runs a program of the key server.
 * @param killAt the number of the moment it does not survive; 0 = it survives all
 */
export async function runKilledAt(
  killAt: number,
  args: readonly string[],
  input: string,
  env: Readonly<Record<string, string>> = {},
): Promise<KilledProgram> {
  const child = spawn(process.execPath, ['--import', PRELOAD, MAIN, ...args], {
    env: { ...process.env, ...env, LATCHKEY_TEST_KILL_AT: String(killAt) },
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [answer, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { answer, moments: Number(/moments: (\d+)/.exec(errors)?.[1] ?? 0) };
}
