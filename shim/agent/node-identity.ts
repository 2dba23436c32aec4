/**
 * Who this node is: its private key, its certificate and the key server it belongs to, in a directory only
 * root can read. Written whole or not at all; the license key that bought it is not kept.
 */
import { open, readFile, rename, writeFile } from 'node:fs/promises';
import { createPrivateKey, generateKeyPair } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { makeDirectory } from '#src/base/make-directory.ts';

const PRIVATE_FILE_MODE = 0o600;
const PRIVATE_DIRECTORY_MODE = 0o700;

const identitySchema = z.object({
  nodeId: z.string(),
  certificatePem: z.string(),
  authorityPem: z.string(),
  certificateExpiresAtMs: z.int(),
  /** 0 on a node that was activated before certificates were renewed: then at once. */
  certificateRenewAtMs: z.int().default(0),
  leaseVerificationJwk: z.string(),
  /** Verifies release statements; '' on a node that was activated before there were any. */
  releaseVerificationJwk: z.string().default(''),
  licenses: z.array(z.object({ licenseId: z.string(), productCode: z.string(), contact: z.string() })),
});

/** Everything but the private key. */
export type NodeIdentity = z.infer<typeof identitySchema>;

export class IdentityStore {
  readonly #directory: string;
  readonly #oneAtATime = new KeyedMutex<string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * The node's P-256 private key, PKCS#8 PEM; made at the first call, and the same ever after.
   * @throws LatchkeyError STATE_DAMAGED
   */
  async privateKeyPem(): Promise<string> {
    const path = join(this.#directory, 'node-key.pem');
    return this.#oneAtATime.run(path, () => this.#loadOrMakeKey(path));
  }

  async #loadOrMakeKey(path: string): Promise<string> {
    const existing = await readIfThere(path);
    if (existing !== undefined) return requirePrivateKey(existing, path);
    // The asynchronous form: the synchronous one can deadlock with garbage collection on older Nodes.
    const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    await this.#write(path, pem);
    return pem;
  }

  /**
   * The identity; undefined while the node is not activated.
   * @throws LatchkeyError STATE_DAMAGED
   */
  async load(): Promise<NodeIdentity | undefined> {
    const path = join(this.#directory, 'identity.json');
    const text = await readIfThere(path);
    if (text === undefined) return undefined;
    try {
      return identitySchema.parse(parseJson(text, path));
    } catch (error) {
      throw new LatchkeyError('STATE_DAMAGED', `${path} is not a node identity`, {
        hint: "remove it and run 'latchkey node activate' again",
        cause: error,
      });
    }
  }

  async save(identity: NodeIdentity): Promise<void> {
    const path = join(this.#directory, 'identity.json');
    await this.#oneAtATime.run(path, () => this.#write(path, JSON.stringify(identity, null, 2)));
  }

  async #write(path: string, text: string): Promise<void> {
    await makeDirectory(this.#directory, PRIVATE_DIRECTORY_MODE);
    const temporary = `${path}.new`;
    await writeFile(temporary, text, { mode: PRIVATE_FILE_MODE, flush: true });
    await rename(temporary, path);
    const directory = await open(this.#directory);
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }
}

function requirePrivateKey(pem: string, path: string): string {
  try {
    createPrivateKey(pem);
    return pem;
  } catch (error) {
    throw new LatchkeyError('STATE_DAMAGED', `${path} is not a private key`, {
      hint: "remove it and run 'latchkey node activate' again",
      cause: error,
    });
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
