/** Keys on PKCS#11 tokens, as commands are told where to find them. */
import type { KeyObject } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { keyFileContents } from '#src/crypto/key-file-contents.ts';
import { parsePublicKey } from '#src/crypto/key-file.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import {
  type Pkcs11KeyFile,
  type Pkcs11ModulePolicy,
  parsePkcs11Configuration,
  parsePkcs11KeyFile,
  pkcs11ConfigurationPaths,
} from '#src/keywrap/pkcs11-files.ts';
import { findPkcs11Module, internalModulePolicy } from '#src/keywrap/pkcs11-module.ts';
import type { TokenKeyLocation } from '#src/keywrap/pkcs11-session.ts';
import { createTokenDecryption, readTokenPublicKey } from '#src/keywrap/pkcs11-token.ts';
import { type Pkcs11Uri, parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { createPkcs11Unwrapper } from '#src/keywrap/pkcs11.ts';
import type { CommandContext } from './context.ts';
import { readKeyFile, readPassword } from './key-source.ts';

const CONFIGURATION_VARIABLE = 'OCICRYPT_CONFIG';

/**
 * Reads the public key of a pkcs11 recipient: a PEM file, or a key file that names a key on a token.
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, STATE_NOT_FOUND, CONFIG_INVALID, AUTH_FORBIDDEN, INPUT_UNSUPPORTED
 */
export async function readTokenRecipient(context: CommandContext, path: string): Promise<KeyObject> {
  const bytes = await readKeyFile(path);
  if (keyFileContents(bytes) !== 'pkcs11') return parsePublicKey(bytes, path);
  return readTokenPublicKey(await locate(context, parsePkcs11KeyFile(bytes, path)));
}

/**
 * Opens what is wrapped for the key that a key file names.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND, CONFIG_INVALID, AUTH_FORBIDDEN
 */
export async function openTokenFile(
  context: CommandContext,
  bytes: Uint8Array,
  path: string,
): Promise<KeyUnwrapper> {
  return open(context, parsePkcs11KeyFile(bytes, path));
}

/** The same for a URI on the command line. */
export async function openTokenUri(context: CommandContext, uri: string): Promise<KeyUnwrapper> {
  return open(context, { uri: parsePkcs11Uri(uri), moduleEnvironment: {} });
}

async function open(context: CommandContext, keyFile: Pkcs11KeyFile): Promise<KeyUnwrapper> {
  const location = await locate(context, keyFile);
  if (location.pin !== undefined) return createPkcs11Unwrapper(createTokenDecryption(location));
  throw new LatchkeyError('KEY_INVALID', 'the PKCS#11 URI has no PIN, and a private key needs it', {
    hint: 'add pin-source=/path/of/pin-file to the URI',
  });
}

async function locate(
  context: CommandContext,
  { uri, moduleEnvironment }: Pkcs11KeyFile,
): Promise<TokenKeyLocation> {
  return {
    uri,
    modulePath: await findPkcs11Module(uri, await modulePolicy(context)),
    moduleEnvironment,
    pin: await pinOf(uri),
  };
}

function pinOf({ pinValue, pinSource }: Pkcs11Uri): Promise<string> | string | undefined {
  return pinSource === undefined ? pinValue : readPassword({ kind: 'file', path: pinSource });
}

/** As in ocicrypt (config/pkcs11config), nothing is allowed unless a configuration says so. */
async function modulePolicy({ env }: CommandContext): Promise<Pkcs11ModulePolicy> {
  const named = env[CONFIGURATION_VARIABLE] ?? '';
  if (named === 'internal') return internalModulePolicy(process.arch);
  if (named !== '') return parsePkcs11Configuration(await readKeyFile(named), named);
  for (const path of pkcs11ConfigurationPaths(env)) {
    const bytes = await readIfThere(path);
    if (bytes !== undefined) return parsePkcs11Configuration(bytes, path);
  }
  throw new LatchkeyError('CONFIG_INVALID', 'no PKCS#11 module is allowed on this machine', {
    hint: `set ${CONFIGURATION_VARIABLE}=internal for those of the system, or write an ocicrypt.conf`,
  });
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readKeyFile(path);
  } catch (error) {
    if (error instanceof LatchkeyError && error.code === 'STATE_NOT_FOUND') return undefined;
    throw error;
  }
}
