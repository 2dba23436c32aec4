/** Other programs of Latchkey, run by the `latchkey` command: each folder of the product stays on its own. */
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { LatchkeyError, isErrorCode } from '#src/base/errors.ts';
import { programCommand } from '#src/base/installation.ts';
import { parseJson } from '#src/base/json.ts';

/**
 * Becomes the other program: same process id, signals and standard streams. Does not return.
 * @param script path from the project's root
 */
export function becomeProgram(
  script: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): never {
  const set = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  // Node calls the function experimental; the operator who starts a server has no use for that remark.
  process.removeAllListeners('warning');
  if (process.execve === undefined)
    throw new LatchkeyError('CONFIG_INVALID', 'this system cannot replace a process');
  return process.execve(process.execPath, programCommand(script, args), Object.fromEntries(set));
}

/**
 * Runs a program that answers with one JSON document.
 * @param input for its standard input, where nobody else can read it
 * @throws LatchkeyError the program's own error
 */
export async function runJsonProgram(
  script: string,
  args: readonly string[],
  signal: AbortSignal,
  input = '',
): Promise<unknown> {
  const [program, ...words] = programCommand(script, args);
  const child = spawn(program, words, {
    stdio: ['pipe', 'pipe', 'inherit'],
    signal,
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      resolve();
    });
  });
  // One that ends before it has read everything says why in its answer.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [output] = await Promise.all([text(child.stdout), ended]);
  const answer = parseJson(output, `the answer of ${script}`);
  if (typeof answer === 'object' && answer !== null && 'error' in answer) throw programError(answer['error']);
  return answer;
}

function programError(value: unknown): LatchkeyError {
  const error = value as { code?: unknown; message?: string; hint?: string };
  const code = isErrorCode(error.code) ? error.code : 'BUG_UNEXPECTED';
  return new LatchkeyError(code, error.message ?? 'the program failed', { hint: error.hint });
}
