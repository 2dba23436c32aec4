/** Docker's credential helpers (docker-credential-helpers protocol): the server name goes in on stdin, JSON comes out. */
import { spawn } from 'node:child_process';
import * as z from 'zod';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_REGISTRY_ERROR_BYTES } from '#src/base/limits.ts';
import type { Credentials } from './credentials.ts';

/** A name with a slash would run a program outside of PATH. */
const HELPER_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** Helpers report "not logged in" as a failure with this text. */
const NOT_FOUND_TEXT = 'credentials not found';
/** In place of a user name: the secret is an identity token. */
const TOKEN_USERNAME = '<token>';

const answerSchema = z.looseObject({ Username: z.string(), Secret: z.string() });

/**
 * Asks a helper for the credentials of a server.
 * @param helper the part of the program's name after `docker-credential-`
 * @returns undefined when the helper has none
 * @throws LatchkeyError CONFIG_INVALID when the helper is missing, fails or answers nonsense
 */
export async function runCredentialHelper(
  helper: string,
  server: string,
  environment: NodeJS.ProcessEnv,
  timeoutMs: number,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${helper}`;
  if (!HELPER_NAME_PATTERN.test(helper)) throw failed(program, 'its name is malformed');
  const { status, output } = await run(program, server, environment, timeoutMs);
  if (status !== 0) {
    if (output.toString('utf8').includes(NOT_FOUND_TEXT)) return undefined;
    throw failed(program, status === null ? 'it was killed' : `it ended with status ${status}`);
  }
  const parsed = answerSchema.safeParse(parseAnswer(output, program));
  if (!parsed.success) throw failed(program, 'its answer is malformed');
  const { Username: username, Secret: secret } = parsed.data;
  if (username === TOKEN_USERNAME) return { kind: 'identity-token', token: secret };
  return { kind: 'password', username, password: secret };
}

/** The cause is dropped on purpose: it could quote the secret. */
function parseAnswer(output: Buffer, program: string): unknown {
  try {
    return parseJson(output, program);
  } catch {
    throw failed(program, 'its answer is not JSON');
  }
}

function run(
  program: string,
  input: string,
  environment: NodeJS.ProcessEnv,
  timeoutMs: number,
): Promise<{ readonly status: number | null; readonly output: Buffer }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env: environment, stdio: ['pipe', 'pipe', 'ignore'] });
    const giveUp = (reason: string): void => {
      reject(failed(program, reason));
      clearTimeout(timer);
      // A script may have started others that hold its output open: nothing of them is waited for.
      child.stdout.destroy();
      child.kill();
      child.unref();
    };
    const timer = setTimeout(() => giveUp('it did not answer in time'), timeoutMs);
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > MAX_REGISTRY_ERROR_BYTES) giveUp('its answer is too long');
      else chunks.push(chunk);
    });
    // A helper may answer without reading its input.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.once('error', (error) => giveUp(toLatchkeyError(error).message));
    child.once('close', (status) => {
      clearTimeout(timer);
      resolve({ status, output: Buffer.concat(chunks) });
    });
  });
}

function failed(program: string, reason: string): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', `the credential helper ${program} failed: ${reason}`, {
    hint: "install it, or remove it from docker's config.json and log in again",
  });
}
