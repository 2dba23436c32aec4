/** The two YAML files of ocicrypt's PKCS#11 support: key files, and the configuration that says which modules may load. */
import { join } from 'node:path';
import { parse } from 'yaml';
import * as z from 'zod';
import { type ErrorCode, LatchkeyError } from '#src/base/errors.ts';
import { MAX_PKCS11_FILE_BYTES } from '#src/base/limits.ts';
import { type Pkcs11Uri, parsePkcs11Uri } from './pkcs11-uri.ts';

/** A key on a token (ocicrypt docs/pkcs11.md). */
export interface Pkcs11KeyFile {
  readonly uri: Pkcs11Uri;
  /** Environment variables that the module wants, such as SOFTHSM2_CONF. */
  readonly moduleEnvironment: Readonly<Record<string, string>>;
}

/** Which shared libraries may be loaded as PKCS#11 modules. */
export interface Pkcs11ModulePolicy {
  /** Where a module is looked for by its name. */
  readonly directories: readonly string[];
  /** Files, or directories with a slash at the end. */
  readonly allowedPaths: readonly string[];
}

const CONFIGURATION_FILE = 'ocicrypt.conf';
const SYSTEM_DIRECTORY = '/etc';

const keyFileSchema = z.object({
  pkcs11: z.object({ uri: z.string() }),
  module: z.object({ env: z.record(z.string(), z.string()).nullish() }).nullish(),
});

const configurationSchema = z.object({
  pkcs11: z.object({
    'module-directories': z.array(z.string()).nullish(),
    'allowed-module-paths': z.array(z.string()).nullish(),
  }),
});

/** Key files and configurations are a few lines; aliases could make them billions. */
const NO_ALIASES = 0;

/**
 * Reads a key file.
 * @param what the file's name, for messages
 * @throws LatchkeyError KEY_INVALID
 */
export function parsePkcs11KeyFile(bytes: Uint8Array, what: string): Pkcs11KeyFile {
  const file = parseYaml(bytes, keyFileSchema, 'KEY_INVALID', `${what} is not a PKCS#11 key file`);
  return { uri: parsePkcs11Uri(file.pkcs11.uri), moduleEnvironment: file.module?.env ?? {} };
}

/** Where an ocicrypt.conf may be; the first that is there counts (ocicrypt config/pkcs11config). */
export function pkcs11ConfigurationPaths(env: Readonly<Record<string, string | undefined>>): string[] {
  const { XDG_CONFIG_HOME: configHome = '', HOME: home = '' } = env;
  const directories = [
    ...(configHome === '' ? [] : [configHome]),
    ...(home === '' ? [] : [join(home, '.config')]),
    SYSTEM_DIRECTORY,
  ];
  return directories.map((directory) => join(directory, CONFIGURATION_FILE));
}

/**
 * Reads an ocicrypt.conf.
 * @throws LatchkeyError CONFIG_INVALID
 */
export function parsePkcs11Configuration(bytes: Uint8Array, what: string): Pkcs11ModulePolicy {
  const { pkcs11 } = parseYaml(
    bytes,
    configurationSchema,
    'CONFIG_INVALID',
    `${what} is not an ocicrypt configuration`,
  );
  return {
    directories: pkcs11['module-directories'] ?? [],
    allowedPaths: pkcs11['allowed-module-paths'] ?? [],
  };
}

/** Neither the document nor the parser's remark about it is shown: key files hold PINs. */
function parseYaml<T>(bytes: Uint8Array, schema: z.ZodType<T>, code: ErrorCode, message: string): T {
  if (bytes.length > MAX_PKCS11_FILE_BYTES) {
    throw new LatchkeyError(code, `${message}: it is longer than ${MAX_PKCS11_FILE_BYTES} bytes`);
  }
  let document: unknown;
  try {
    // All scalars are text, as in Go's string fields: a PIN of digits stays what it is.
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    document = parse(text, { schema: 'failsafe', maxAliasCount: NO_ALIASES, logLevel: 'silent' });
  } catch {
    throw new LatchkeyError(code, `${message}: it is not YAML`);
  }
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new LatchkeyError(code, `${message}: ${issue?.path.join('.') ?? ''} is missing or of a wrong type`);
}
