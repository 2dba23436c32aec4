/** The node key on a PKCS#11 token. It is made there and stays there; TLS is done with a key of each run. */
import type { KeyObject } from 'node:crypto';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PASSWORD_BYTES } from '#src/base/limits.ts';
import { agreeOnToken, makeTokenEcKey, readTokenEcKey, signOnToken } from '#src/keywrap/pkcs11-ec-key.ts';
import { findPkcs11Module, internalModulePolicy } from '#src/keywrap/pkcs11-module.ts';
import { type TokenKeyLocation, isPinRefused } from '#src/keywrap/pkcs11-session.ts';
import type { Pkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import type { NodeKey } from './node-key.ts';
import { SoftwareKey } from './software-key.ts';

/** Names the key, and the file with the PIN. */
export type TokenKeyUri = Pkcs11Uri & { readonly object: string; readonly pinSource: string };

export class TokenNodeKey implements NodeKey {
  readonly place: string;
  readonly #uri: TokenKeyUri;
  #publicKey: KeyObject | undefined;
  #tlsKey: Promise<SoftwareKey> | undefined;
  /** A PIN that the token has refused is never presented again: that could lock the token. */
  #refused: { readonly pin: string; readonly error: unknown } | undefined;
  /** One exchange after the other, so that what the first is told of the PIN is known to the next. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(uri: TokenKeyUri) {
    this.#uri = uri;
    const token = uri.token ?? `in slot ${uri.slotId ?? 0}`;
    this.place = `key ${uri.object} on the PKCS#11 token ${token}`;
  }

  async prepare(): Promise<void> {
    this.#publicKey = await this.#exchange(
      async (location) => (await readTokenEcKey(location)) ?? makeTokenEcKey(location),
    );
  }

  async publicKey(): Promise<KeyObject> {
    this.#publicKey ??= await this.#exchange(readTokenEcKey);
    if (this.#publicKey !== undefined) return this.#publicKey;
    throw new LatchkeyError('KEY_NOT_FOUND', `there is no ${this.place}`, {
      hint: "is it the token that this node was activated with? Else run 'latchkey node activate' again",
    });
  }

  sign(bytes: Uint8Array): Promise<Buffer> {
    return this.#exchange((location) => signOnToken(location, bytes));
  }

  agree(publicKey: KeyObject): Promise<Buffer> {
    return this.#exchange((location) => agreeOnToken(location, publicKey));
  }

  tlsKey(): Promise<SoftwareKey> {
    this.#tlsKey ??= SoftwareKey.makeForTls();
    return this.#tlsKey;
  }

  #exchange<Result>(use: (location: TokenKeyLocation) => Promise<Result>): Promise<Result> {
    const exchange = this.#last.catch(() => undefined).then(() => this.#exchangeAlone(use));
    this.#last = exchange;
    return exchange;
  }

  async #exchangeAlone<Result>(use: (location: TokenKeyLocation) => Promise<Result>): Promise<Result> {
    const pin = await readPin(this.#uri.pinSource);
    if (this.#refused?.pin === pin) throw this.#refused.error;
    const modulePath = await findPkcs11Module(this.#uri, modulePolicy(this.#uri));
    try {
      return await use({ uri: this.#uri, modulePath, moduleEnvironment: {}, pin });
    } catch (error) {
      if (isPinRefused(error)) this.#refused = { pin, error };
      throw error;
    }
  }
}

/** Who writes the agent's configuration is root, and may name any module by its path. */
function modulePolicy({ modulePath }: Pkcs11Uri): ReturnType<typeof internalModulePolicy> {
  const { directories, allowedPaths } = internalModulePolicy(process.arch);
  if (modulePath === undefined) return { directories, allowedPaths };
  return { directories, allowedPaths: [...allowedPaths, modulePath, `${modulePath}/`] };
}

async function readPin(path: string): Promise<string> {
  const bytes = await readBoundedFile(path, MAX_PASSWORD_BYTES).catch((error: unknown) => {
    throw new LatchkeyError('KEY_NOT_FOUND', `the PIN file ${path} of the node key cannot be read`, {
      hint: 'put the PIN of the token into it, readable by root only',
      cause: error,
    });
  });
  if (bytes !== undefined) return bytes.toString().replace(/\r?\n$/, '');
  throw new LatchkeyError('KEY_INVALID', `the PIN file ${path} is longer than ${MAX_PASSWORD_BYTES} bytes`);
}
