/** The token with the key of a slot, as the operator names it: a PKCS#11 URI with the file of its PIN. */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { MAX_PASSWORD_BYTES } from '#src/base/limits.ts';
import { findPkcs11Module, internalModulePolicy } from '#src/keywrap/pkcs11-module.ts';
import type { TokenKeyLocation } from '#src/keywrap/pkcs11-session.ts';
import { type Pkcs11Uri, parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';

/** Names the key, and the file with the PIN. */
export type RootKeyTokenUri = Pkcs11Uri & { readonly pinSource: string };

/**
 * Reads the option. The PIN comes from a file: every user of the machine can read a command line.
 * @throws LatchkeyError USAGE_INVALID
 */
export function readTokenOption(uri: string): RootKeyTokenUri {
  let parsed;
  try {
    parsed = parsePkcs11Uri(uri);
  } catch (error) {
    const { message, hint } = toLatchkeyError(error);
    throw new LatchkeyError('USAGE_INVALID', `--root-key-token: ${message}`, { hint, cause: error });
  }
  const { pinSource, pinValue } = parsed;
  if (pinSource === undefined || pinValue !== undefined) {
    throw new LatchkeyError('USAGE_INVALID', '--root-key-token needs pin-source=, and no PIN', {
      hint: 'like pkcs11:token=LABEL;object=KEY?module-name=softhsm2&pin-source=file:/etc/latchkey/pin',
    });
  }
  return { ...parsed, pinSource };
}

/**
 * Finds what is needed to reach the token. The operator of the server may name any module by its path.
 * @throws LatchkeyError KEY_NOT_FOUND for the module or the file of the PIN, KEY_INVALID
 */
export async function locateToken(uri: RootKeyTokenUri): Promise<TokenKeyLocation> {
  const { directories, allowedPaths } = internalModulePolicy(process.arch);
  const { modulePath: named } = uri;
  const policy = {
    directories,
    allowedPaths: named === undefined ? allowedPaths : [...allowedPaths, named, `${named}/`],
  };
  const modulePath = await findPkcs11Module(uri, policy);
  return { uri, modulePath, moduleEnvironment: {}, pin: await readPin(uri.pinSource) };
}

async function readPin(path: string): Promise<string> {
  const bytes = await readBoundedFile(path, MAX_PASSWORD_BYTES).catch((error: unknown) => {
    throw new LatchkeyError('KEY_NOT_FOUND', `the PIN file ${path} of the root key cannot be read`, {
      hint: 'put the PIN of the token into it, readable by the key server only',
      cause: error,
    });
  });
  if (bytes !== undefined) return bytes.toString().replace(/\r?\n$/, '');
  throw new LatchkeyError('KEY_INVALID', `the PIN file ${path} is longer than ${MAX_PASSWORD_BYTES} bytes`);
}
