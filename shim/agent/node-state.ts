/**
 * What a node remembers, as it lies in its file: with a MAC under the node key, so that what somebody has changed counts as
 * nothing.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';
import type { KeyUse } from './node-key.ts';

const MAC_KEY_BYTES = 32;
const WHAT = "the node's state";

const licenseSchema = z.strictObject({
  /** The number of the last bundle; 0 = none yet. */
  sequence: z.int().nonnegative(),
  /** Containers that were started with that bundle. Left out when there are none: earlier versions do not know it. */
  starts: z.int().positive().optional(),
  /** Bundles of an older epoch are void. */
  epoch: z.int().nonnegative(),
  /** Bundles made up to this revision are void; 0 = starts were never refused. */
  deniedRevision: z.int().nonnegative(),
});

const stateSchema = z.strictObject({
  revision: z.int().nonnegative(),
  /** Drawn when there was nothing to remember; with it nobody can make this memory forget by deleting it. */
  memoryId: z.uuid().optional(),
  time: z
    .strictObject({
      serverTimeMs: z.number(),
      bootId: z.string(),
      bootTimeMs: z.number(),
      wallMs: z.number().optional(),
    })
    .optional(),
  /** By license: the last offline bundle, and what the key server has said of the license. */
  licenses: z.record(z.string(), licenseSchema).optional(),
  /** The highest refusal of a license that was forgotten, as there were too many. */
  forgottenRevision: z.int().nonnegative().optional(),
  place: z.strictObject({
    sequence: z.int().nonnegative(),
    token: z.string(),
    /** Of an opening that was not answered yet. */
    pendingRequestId: z.string().optional(),
  }),
});
export type StoredState = z.infer<typeof stateSchema>;
export type NodeState = Omit<StoredState, 'licenses'>;
export type ChainPlace = NodeState['place'];
export type KnownLicense = z.infer<typeof licenseSchema>;

export const UNKNOWN_LICENSE: KnownLicense = { sequence: 0, epoch: 0, deniedRevision: 0 };

const fileSchema = z.strictObject({ state: z.string(), mac: z.string() });

export const EMPTY_STATE: NodeState = { revision: 0, place: { sequence: 0, token: '' } };

/** Agreed between the node key and itself, which every key can do that can also open image keys. */
export async function stateMacKey(key: Pick<KeyUse, 'publicKey' | 'agree'>): Promise<Buffer> {
  const secret = await key.agree(await key.publicKey());
  return Buffer.from(hkdfSync('sha256', secret, '', 'latchkey node state', MAC_KEY_BYTES));
}

function macOf(key: Buffer, state: string): Buffer {
  return createHmac('sha256', key).update(state).digest();
}

/** The text of the file. */
export function writeState(state: StoredState, macKey: Buffer): string {
  const text = JSON.stringify(state);
  return JSON.stringify({ state: text, mac: macOf(macKey, text).toString('base64') });
}

/** Undefined where there is none, or it was changed. */
export function readState(text: string | undefined, macKey: Buffer): StoredState | undefined {
  if (text === undefined) return undefined;
  try {
    const { state, mac } = fileSchema.parse(parseJson(text, WHAT));
    const [given, expected] = [Buffer.from(mac, 'base64'), macOf(macKey, state)];
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    return stateSchema.parse(parseJson(state, WHAT));
  } catch {
    return undefined;
  }
}
