/** Other programs of Latchkey, run by the `latchkey` command: each folder of the product stays on its own. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
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
  const { child, ended } = start(script, args, signal);
  child.stdin.end(input);
  const [output] = await Promise.all([text(child.stdout), ended]);
  return answerIn(output, script);
}

/**
 * Runs a program that says in a line what it is about to do, and does it once that was taken.
 * @param taken is given what it says; where this throws, the program does nothing
 * @throws LatchkeyError the program's own error, or what `taken` has thrown
 */
export async function runProgramThatTells(
  script: string,
  args: readonly string[],
  signal: AbortSignal,
  { input, taken }: { readonly input: string; readonly taken: (answer: unknown) => void },
): Promise<void> {
  const { child, ended } = start(script, args, signal);
  child.stdin.write(`${input}\n`);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => answerIn((await lines.next()).value ?? '', script);
  try {
    taken(await next());
    child.stdin.write('taken\n');
    await next();
  } finally {
    child.stdin.end();
    await ended;
  }
}

interface Started {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly ended: Promise<void>;
}

function start(script: string, args: readonly string[], signal: AbortSignal): Started {
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
  // Who does not come to wait for it has an error of his own.
  ended.catch(() => undefined);
  // One that ends before it has read everything says why in its answer.
  child.stdin.on('error', () => undefined);
  return { child, ended };
}

function answerIn(output: string, script: string): unknown {
  const answer = parseJson(output, `the answer of ${script}`);
  if (typeof answer === 'object' && answer !== null && 'error' in answer) throw programError(answer['error']);
  return answer;
}

function programError(value: unknown): LatchkeyError {
  const error = value as { code?: unknown; message?: string; hint?: string };
  const code = isErrorCode(error.code) ? error.code : 'BUG_UNEXPECTED';
  return new LatchkeyError(code, error.message ?? 'the program failed', { hint: error.hint });
}
