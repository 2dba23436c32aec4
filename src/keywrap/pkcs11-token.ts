/**
 * Keys on PKCS#11 tokens (PKCS #11 v2.40). The library is optional and loaded with the first key. A whole exchange with
 * the token runs without a pause, from loading the module to closing it: modules take their configuration from
 * the environment of the process, which is changed for that time only.
 */
import { type KeyObject, createPublicKey } from 'node:crypto';
import type { Module, PrivateKey, PublicKey, Session, Slot } from 'graphene-pk11';
import { LatchkeyError } from '#src/base/errors.ts';
import { loadNativePackage, nativePackagesDirectory } from '#src/base/installation.ts';
import type { OaepHash, Pkcs11Block } from './pkcs11-envelope.ts';
import type { TokenDecryption } from './pkcs11.ts';
import type { Pkcs11Uri } from './pkcs11-uri.ts';

type Library = typeof import('graphene-pk11');

/** A key on a token, with all that is needed to reach it. */
export interface TokenKeyLocation {
  readonly uri: Pkcs11Uri;
  /** Path of a module that may be loaded. */
  readonly modulePath: string;
  readonly moduleEnvironment: Readonly<Record<string, string>>;
  /** Secret; undefined where the token asks for none. */
  readonly pin: string | undefined;
}

/** What C_Decrypt answers to a block that was made for another key (PKCS #11 section 5.9). */
const NOT_FOR_THIS_KEY: ReadonlySet<string> = new Set([
  ...['CKR_ENCRYPTED_DATA_INVALID', 'CKR_ENCRYPTED_DATA_LEN_RANGE', 'CKR_DATA_INVALID', 'CKR_DATA_LEN_RANGE'],
  ...['CKR_GENERAL_ERROR', 'CKR_FUNCTION_FAILED'],
]);

/**
 * Loads the library that talks to tokens.
 * @throws LatchkeyError INPUT_UNSUPPORTED when it is not installed
 */
async function loadLibrary(): Promise<Library> {
  try {
    return await loadNativePackage('graphene-pk11', () => import('graphene-pk11'));
  } catch (error) {
    const directory = nativePackagesDirectory();
    throw new LatchkeyError('INPUT_UNSUPPORTED', 'PKCS#11 support is not installed', {
      hint:
        directory === undefined
          ? 'it is the optional package graphene-pk11, which needs a C++ compiler: npm rebuild pkcs11js'
          : `put the npm package graphene-pk11 and what it depends on into ${directory}`,
      cause: error,
    });
  }
}

/**
 * Reads the public key from a token.
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, INPUT_UNSUPPORTED
 */
export async function readTokenPublicKey(location: TokenKeyLocation): Promise<KeyObject> {
  const library = await loadLibrary();
  return withSession(library, location, (session) => {
    const key = findKey(library, session, location.uri, 'PUBLIC_KEY');
    const { modulus, publicExponent } = key.getAttribute({ modulus: null, publicExponent: null });
    // A key of another kind has none, whatever the types say.
    if (!Buffer.isBuffer(modulus) || !Buffer.isBuffer(publicExponent)) {
      throw new LatchkeyError('KEY_INVALID', 'the key on the token is not an RSA key');
    }
    const jwk = { kty: 'RSA', n: modulus.toString('base64url'), e: publicExponent.toString('base64url') };
    return createPublicKey({ key: jwk, format: 'jwk' });
  });
}

/** Decrypts on the token; the PIN is presented once for each layer key. */
export function createTokenDecryption(location: TokenKeyLocation): TokenDecryption {
  return async (blocks) => {
    const library = await loadLibrary();
    return withSession(library, location, (session) => {
      const key = findKey(library, session, location.uri, 'PRIVATE_KEY');
      const modulusBytes = key.getAttribute({ modulus: null }).modulus?.length;
      for (const block of blocks) {
        if (modulusBytes !== undefined && block.ciphertext.length !== modulusBytes) continue;
        const plaintext = decryptBlock(library, session, key, block);
        if (plaintext !== null) return plaintext;
      }
      return null;
    });
  };
}

function decryptBlock(
  library: Library,
  session: Session,
  key: PrivateKey,
  { ciphertext, hash }: Pkcs11Block,
): Uint8Array | null {
  const algorithm = { name: 'RSA_PKCS_OAEP', params: oaepParameters(library, hash) };
  let decipher;
  try {
    decipher = session.createDecipher(algorithm, key);
  } catch (error) {
    throw new LatchkeyError(
      'INPUT_UNSUPPORTED',
      `the token refuses RSA-OAEP with ${hash} (${returnValueOf(error)})`,
      {
        hint: 'when the image is encrypted with OCICRYPT_OAEP_HASHALG=sha1 set, most tokens can open it',
        cause: error,
      },
    );
  }
  try {
    return new Uint8Array(decipher.once(Buffer.from(ciphertext), Buffer.alloc(ciphertext.length)));
  } catch (error) {
    if (NOT_FOR_THIS_KEY.has(returnValueOf(error))) return null;
    throw tokenFailure('the token could not decrypt', error);
  }
}

function oaepParameters({ MechanismEnum, RsaMgf, RsaOaepParams }: Library, hash: OaepHash) {
  return hash === 'sha1'
    ? new RsaOaepParams(MechanismEnum.SHA1, RsaMgf.MGF1_SHA1)
    : new RsaOaepParams(MechanismEnum.SHA256, RsaMgf.MGF1_SHA256);
}

function withSession<T>(library: Library, location: TokenKeyLocation, use: (session: Session) => T): T {
  return withEnvironment(location.moduleEnvironment, () =>
    withModule(library, location.modulePath, (module) => {
      const session = openSession(library, findSlot(module, location.uri));
      try {
        logIn(session, location.pin);
        return use(session);
      } finally {
        session.close();
      }
    }),
  );
}

function withEnvironment<T>(variables: Readonly<Record<string, string>>, use: () => T): T {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  try {
    Object.assign(process.env, variables);
    return use();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
}

function withModule<T>({ Module }: Library, path: string, use: (module: Module) => T): T {
  let module;
  try {
    module = Module.load(path);
  } catch (error) {
    throw tokenFailure(`the PKCS#11 module ${path} cannot be loaded`, error);
  }
  try {
    initialize(module, path);
    try {
      return use(module);
    } finally {
      module.finalize();
    }
  } finally {
    module.close();
  }
}

function initialize(module: Module, path: string): void {
  try {
    module.initialize();
  } catch (error) {
    throw tokenFailure(`the PKCS#11 module ${path} does not start`, error);
  }
}

function findSlot(module: Module, uri: Pkcs11Uri): Slot {
  const slots = module.getSlots(true);
  for (let index = 0; index < slots.length; index += 1) {
    const slot = slots.items(index);
    if (isMeant(slot, uri)) return slot;
  }
  throw new LatchkeyError('KEY_NOT_FOUND', `there is no token ${JSON.stringify(uri.token ?? uri.slotId)}`, {
    hint: 'is it plugged in, and does the module find its configuration (module: env: of the key file)?',
  });
}

/** Tokens pad their texts with blanks. */
function isMeant(slot: Slot, { slotId, token, manufacturer, model, serial }: Pkcs11Uri): boolean {
  const found = slot.getToken();
  const wanted = [
    [token, found.label],
    [manufacturer, found.manufacturerID],
    [model, found.model],
    [serial, found.serialNumber],
  ] as const;
  return (
    (slotId === undefined || slotIdOf(slot) === slotId) &&
    wanted.every(([want, have]) => want === undefined || want === have.replace(/[ \0]+$/, ''))
  );
}

/** Handles are CK_ULONG in the machine's own byte order. */
function slotIdOf({ handle }: Slot): number {
  return handle.readUInt32LE(0);
}

function openSession({ SessionFlag }: Library, slot: Slot): Session {
  try {
    return slot.open(SessionFlag.SERIAL_SESSION);
  } catch (error) {
    throw tokenFailure('the token opens no session', error);
  }
}

/** A wrong PIN ends everything: another try could lock the token. */
function logIn(session: Session, pin: string | undefined): void {
  if (pin === undefined) return;
  try {
    session.login(pin);
  } catch (error) {
    throw tokenFailure('the token does not accept the PIN', error);
  }
}

function findKey(library: Library, session: Session, uri: Pkcs11Uri, kind: 'PUBLIC_KEY'): PublicKey;
function findKey(library: Library, session: Session, uri: Pkcs11Uri, kind: 'PRIVATE_KEY'): PrivateKey;
function findKey(
  { ObjectClass }: Library,
  session: Session,
  { object, id }: Pkcs11Uri,
  kind: 'PUBLIC_KEY' | 'PRIVATE_KEY',
): PublicKey | PrivateKey {
  const found = session.find({
    class: ObjectClass[kind],
    ...(object === undefined ? {} : { label: object }),
    ...(id === undefined ? {} : { id }),
  });
  if (found.length === 1) return found.items(0).toType<PublicKey | PrivateKey>();
  const name = object === undefined ? `with id ${id?.toString('hex') ?? ''}` : JSON.stringify(object);
  const half = kind === 'PUBLIC_KEY' ? 'public' : 'private';
  throw found.length === 0
    ? new LatchkeyError('KEY_NOT_FOUND', `the token has no ${half} key ${name}`, {
        hint: 'a private key is seen only with the PIN: pin-source= or pin-value= in the URI',
      })
    : new LatchkeyError('KEY_INVALID', `the token has ${found.length} ${half} keys ${name}`, {
        hint: 'name one by both object= and id=',
      });
}

function tokenFailure(what: string, error: unknown): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', `${what} (${returnValueOf(error)})`, { cause: error });
}

/** The module's own name for what went wrong, such as CKR_PIN_INCORRECT. */
function returnValueOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown failure';
}
