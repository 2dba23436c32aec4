/** Root keys and shares as people give them: from a file or typed, never as an argument or a variable, which others can read. */
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import type { Command } from 'commander';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { MAX_TOKEN_FILE_BYTES } from '#src/base/limits.ts';
import type { RootKeyProof } from '#src/wire/admin/seal.ts';
import type { CommandContext } from './context.ts';

const GROUP_AND_WORLD = 0o077;

export interface RootKeyOptions {
  readonly rootKey?: string;
  readonly shareFile?: readonly string[];
}

/** Declares where the root key or shares come from. */
export function withRootKeyOptions(command: Command): Command {
  return command
    .option('--root-key <file>', 'the root key file, where the root key is in one')
    .option('--share-file <file...>', 'files with one share each (default: shares are typed, one a line)');
}

export interface TokenOptions extends RootKeyOptions {
  readonly rootKeyToken?: string;
}

/** Declares them for a program that can reach a token. */
export function withTokenOptions(command: Command): Command {
  return withRootKeyOptions(command).option(
    '--root-key-token <uri>',
    'the RSA key on a PKCS#11 token, with pin-source=, where one opens the root key',
  );
}

/** What a program of ours is given on its standard input; nothing when the token is to open the root key. */
export async function readProofInput(context: CommandContext, options: TokenOptions): Promise<string> {
  const isByToken =
    options.rootKeyToken !== undefined && options.rootKey === undefined && options.shareFile === undefined;
  return isByToken ? '' : JSON.stringify(await readProof(context, options));
}

/** The shares, one after the other as they are given. */
export async function* givenShares(
  context: CommandContext,
  { shareFile }: RootKeyOptions,
): AsyncGenerator<string> {
  if (shareFile === undefined) yield* typedShares(context);
  else for (const path of shareFile) yield readSecretFile(path, 'share');
}

/** @throws LatchkeyError KEY_NOT_FOUND, KEY_INVALID, CONFIG_INVALID for a file that others can read */
export async function readRootKey(path: string): Promise<string> {
  const { rootKey } = await import('#src/wire/admin/seal.ts');
  const { data } = rootKey.safeParse(await readSecretFile(path, 'root key'));
  if (data !== undefined) return data;
  throw new LatchkeyError('KEY_INVALID', `${path} holds no root key, which is 64 hex digits`, {
    hint: 'name the root key file, which is root.key in the data directory unless it was moved',
  });
}

/**
 * What shows that somebody can open the root key.
 * @throws LatchkeyError KEY_INVALID for a share that is none, or when there are too few
 */
export async function readProof(context: CommandContext, options: RootKeyOptions): Promise<RootKeyProof> {
  if (options.rootKey !== undefined) return { rootKey: await readRootKey(options.rootKey) };
  const { parseKeyShare } = await import('#src/crypto/key-share.ts');
  const shares: string[] = [];
  for await (const text of givenShares(context, options)) {
    const { threshold } = parseKeyShare(text);
    shares.push(text);
    if (shares.length >= threshold) return { shares };
  }
  throw new LatchkeyError('KEY_INVALID', 'there are not enough shares', {
    hint: 'give as many as open the root key, or name the root key file with --root-key',
  });
}

/** Typed characters are not shown. Ends with an empty line or the end of the input. */
async function* typedShares(context: CommandContext): AsyncGenerator<string> {
  const isTyped = process.stdin.isTTY;
  const unseen = new Writable({
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
  const terminal = createInterface({ input: process.stdin, output: unseen, terminal: isTyped });
  const onAbort = () => {
    terminal.close();
  };
  context.signal.addEventListener('abort', onAbort);
  const ask = () => {
    if (isTyped) context.stderr.write('share (not shown; an empty line ends): ');
  };
  try {
    ask();
    for await (const line of terminal) {
      if (isTyped) context.stderr.write('\n');
      if (line.trim() === '') break;
      yield line.trim();
      ask();
    }
    context.signal.throwIfAborted();
  } finally {
    context.signal.removeEventListener('abort', onAbort);
    terminal.close();
  }
}

async function readSecretFile(path: string, what: string): Promise<string> {
  try {
    if (((await stat(path)).mode & GROUP_AND_WORLD) !== 0) {
      throw new LatchkeyError('CONFIG_INVALID', `others can read the ${what} file ${path}`, {
        hint: `run: chmod 600 ${path}`,
      });
    }
    return ((await readBoundedFile(path, MAX_TOKEN_FILE_BYTES)) ?? '').toString().trim();
  } catch (error) {
    if (!['ENOENT', 'EACCES', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('KEY_NOT_FOUND', `there is no ${what} in ${path}`, {
      hint: `name a file that holds the ${what}`,
      cause: error,
    });
  }
}
