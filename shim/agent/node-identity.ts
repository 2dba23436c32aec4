/**
 * Who this node is: its private key, its certificate and the key server it belongs to, in a directory only
 * root can read. Written whole or not at all; the license key that bought it is not kept.
 */
import { createPrivateKey } from 'node:crypto';
import { join } from 'node:path';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';
import { makePrivateKeyPem } from './private-key.ts';

const KEY_FILE = 'node-key.pem';
const IDENTITY_FILE = 'identity.json';

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
    return this.#oneAtATime.run(KEY_FILE, () => this.#loadOrMakeKey());
  }

  async #loadOrMakeKey(): Promise<string> {
    const existing = await readPrivateFile(this.#directory, KEY_FILE);
    if (existing !== undefined) return requirePrivateKey(existing, join(this.#directory, KEY_FILE));
    const pem = await makePrivateKeyPem();
    await writePrivateFile(this.#directory, KEY_FILE, pem);
    return pem;
  }

  /**
   * The identity; undefined while the node is not activated.
   * @throws LatchkeyError STATE_DAMAGED
   */
  async load(): Promise<NodeIdentity | undefined> {
    const path = join(this.#directory, IDENTITY_FILE);
    const text = await readPrivateFile(this.#directory, IDENTITY_FILE);
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
    const text = JSON.stringify(identity, null, 2);
    await this.#oneAtATime.run(IDENTITY_FILE, () => writePrivateFile(this.#directory, IDENTITY_FILE, text));
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
