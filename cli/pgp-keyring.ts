/** The public keys of PGP recipients: from a file, or from the user's gpg keyring. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_KEY_FILE_BYTES } from '#src/base/limits.ts';
import { type PgpRecipientKey, parsePgpPublicKeys, selectPgpRecipient } from '#src/keywrap/pgp-keys.ts';
import { type CommandContext, childEnvironment } from './context.ts';
import { readKeyFile } from './key-source.ts';

const run = promisify(execFile);

/** A path has a slash; a file of this directory has the ending of one and no `@` of a mail address. */
const LOOKS_LIKE_FILE = /\/|^[^@]+\.(?:asc|gpg|pgp)$/i;

/**
 * Finds the public key of a recipient.
 * @param name mail address, name or fingerprint in the keyring, or the file of an exported key
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND, INPUT_UNSUPPORTED when gpg is not installed
 */
export async function findPgpRecipient(context: CommandContext, name: string): Promise<PgpRecipientKey> {
  if (LOOKS_LIKE_FILE.test(name)) {
    return selectPgpRecipient(await parsePgpPublicKeys(await readKeyFile(name), name), undefined, name);
  }
  const exported = await exportFromKeyring(context, name);
  const keys = exported.length === 0 ? [] : await parsePgpPublicKeys(exported, 'the output of gpg');
  return selectPgpRecipient(keys, name, 'the gpg keyring');
}

/** What gpg exports for a name; it matches parts of names, so the caller selects. */
async function exportFromKeyring(context: CommandContext, name: string): Promise<Buffer> {
  try {
    // After `--` nothing is an option, whatever the name looks like.
    const { stdout } = await run('gpg', ['--batch', '--no-tty', '--export', '--', name], {
      encoding: 'buffer',
      env: childEnvironment(context),
      maxBuffer: MAX_KEY_FILE_BYTES,
      signal: context.signal,
    });
    return stdout;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') {
      throw new LatchkeyError(
        'INPUT_UNSUPPORTED',
        'gpg is not installed, so there is no keyring to look in',
        {
          hint: 'install gnupg, or give a file with the exported public key: pgp:./FILE',
          cause: error,
        },
      );
    }
    if (context.signal.aborted) throw error;
    throw new LatchkeyError('KEY_INVALID', 'gpg could not export the key of a recipient', {
      hint: `what does it say to: gpg --export -- ${JSON.stringify(name)}`,
      cause: error,
    });
  }
}
