/**
 * Sessions with PKCS#11 tokens (PKCS #11 v2.40). The library is optional and loaded with the first key. A whole exchange
 * with the token runs without a pause, from loading the module to closing it: modules take their configuration from
 * the environment of the process, which is changed for that time only.
 */
import type { Module, PrivateKey, PublicKey, Session, SessionObjectCollection, Slot } from 'graphene-pk11';
import { LatchkeyError } from '#src/base/errors.ts';
import { loadNativePackage, nativePackagesDirectory } from '#src/base/installation.ts';
import type { Pkcs11Uri } from './pkcs11-uri.ts';

export type Library = typeof import('graphene-pk11');

/** A key on a token, with all that is needed to reach it. */
export interface TokenKeyLocation {
  readonly uri: Pkcs11Uri;
  /** Path of a module that may be loaded. */
  readonly modulePath: string;
  readonly moduleEnvironment: Readonly<Record<string, string>>;
  /** Secret; undefined where the token asks for none. */
  readonly pin: string | undefined;
}

/**
 * Loads the library that talks to tokens.
 * @throws LatchkeyError INPUT_UNSUPPORTED when it is not installed
 */
export async function loadLibrary(): Promise<Library> {
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
 * A whole exchange with a token, without a pause.
 * @param mode `write` to make objects on the token
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, and what `use` throws
 */
export function withSession<T>(
  library: Library,
  location: TokenKeyLocation,
  use: (session: Session) => T,
  mode: 'read' | 'write' = 'read',
): T {
  return withEnvironment(location.moduleEnvironment, () =>
    withModule(library, location.modulePath, (module) => {
      const session = openSession(library, findSlot(module, location.uri), mode);
      try {
        logIn(session, location.pin);
        return use(session);
      } finally {
        session.close();
      }
    }),
  );
}

/** True when the token said no to the PIN: another try with it could lock the token. */
export function isPinRefused(error: unknown): boolean {
  return error instanceof LatchkeyError && returnValueOf(error.cause).startsWith('CKR_PIN_');
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

function openSession({ SessionFlag }: Library, slot: Slot, mode: 'read' | 'write'): Session {
  const { SERIAL_SESSION, RW_SESSION } = SessionFlag;
  try {
    return slot.open(mode === 'write' ? SERIAL_SESSION | RW_SESSION : SERIAL_SESSION);
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

export type KeyHalf = 'PUBLIC_KEY' | 'PRIVATE_KEY';

/** All keys that a URI names. */
export function findKeys(
  { ObjectClass }: Library,
  session: Session,
  { object, id }: Pkcs11Uri,
  kind: KeyHalf,
): SessionObjectCollection {
  return session.find({
    class: ObjectClass[kind],
    ...(object === undefined ? {} : { label: object }),
    ...(id === undefined ? {} : { id }),
  });
}

/**
 * The one key that a URI names.
 * @throws LatchkeyError KEY_NOT_FOUND, KEY_INVALID when it names several
 */
export function findKey(library: Library, session: Session, uri: Pkcs11Uri, kind: 'PUBLIC_KEY'): PublicKey;
export function findKey(library: Library, session: Session, uri: Pkcs11Uri, kind: 'PRIVATE_KEY'): PrivateKey;
export function findKey(
  library: Library,
  session: Session,
  uri: Pkcs11Uri,
  kind: KeyHalf,
): PublicKey | PrivateKey {
  const found = findKeys(library, session, uri, kind);
  const { object, id } = uri;
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

export function tokenFailure(what: string, error: unknown): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', `${what} (${returnValueOf(error)})`, { cause: error });
}

/** The module's own name for what went wrong, such as CKR_PIN_INCORRECT. */
export function returnValueOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown failure';
}
