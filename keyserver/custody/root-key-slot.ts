/**
 * Slots: ways to the one root key, any of which opens it. A file holds the root key itself. Shares give a key of their own,
 * and a token keeps one, under which the root key is stored; so shares are made anew without touching anything else.
 */
import { createHmac } from 'node:crypto';
import type { Selectable } from 'kysely';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import type { RootKeySlotTable } from '../db/tables/root-key-slot.ts';
import { unwrapKey } from './wrapped-key.ts';

export type RootKeySlot = Selectable<RootKeySlotTable>;

/** What somebody has who opens the root key. */
export type RootKeyOpening =
  | { readonly kind: 'file'; readonly rootKey: Uint8Array }
  | { readonly kind: 'shamir'; readonly setId: string; readonly slotKey: Uint8Array }
  | { readonly kind: 'pkcs11'; readonly slotKey: Uint8Array };

const shareParametersSchema = z.object({
  setId: z.string(),
  threshold: z.int(),
  /** Of each share, in the order of their numbers: a wrong one is told apart as soon as it is given. */
  shareDigests: z.array(z.string()),
});

export type ShareParameters = z.infer<typeof shareParametersSchema>;

type StoredParameters = Pick<RootKeySlot, 'id' | 'parameters'>;

/** @throws LatchkeyError STATE_DAMAGED */
export function shareParameters(slot: StoredParameters): ShareParameters {
  return slotParameters(slot, shareParametersSchema);
}

/**
 * Reads the parameters of a slot, which may come out of the header of a backup that nothing has proved genuine yet.
 * @throws LatchkeyError STATE_DAMAGED
 */
export function slotParameters<Parameters>(
  { id, parameters }: StoredParameters,
  schema: z.ZodType<Parameters>,
): Parameters {
  try {
    return schema.parse(JSON.parse(parameters));
  } catch (error) {
    throw damaged(id, error);
  }
}

/** What the root key is wrapped for in a slot. */
export function rootKeyPurpose(organizationId: string, slotId: string): string {
  return `latchkey/${organizationId}/root-key/${slotId}`;
}

/** A value that tells whether a key is the one of a slot, and nothing about it: keys are random. */
export function keyCheck(key: Uint8Array, organizationId: string, slotId: string): string {
  return createHmac('sha256', key).update(`latchkey/${organizationId}/key-check/${slotId}`).digest('hex');
}

/**
 * Opens the root key by one of the slots.
 * @throws LatchkeyError KEY_INVALID for a key of no slot, STATE_DAMAGED when the key is right and the slot does not open
 */
export function openRootKey(
  organizationId: string,
  slots: readonly RootKeySlot[],
  opening: RootKeyOpening,
): Uint8Array {
  const key = opening.kind === 'file' ? opening.rootKey : opening.slotKey;
  const slot = slots.find(
    ({ id, kind, key_check: check }) => kind === opening.kind && check === keyCheck(key, organizationId, id),
  );
  if (slot === undefined) throw opensNothing(opening);
  if (slot.wrapped_root_key === null) return key;
  try {
    return unwrapKey(key, slot.wrapped_root_key, rootKeyPurpose(organizationId, slot.id));
  } catch (error) {
    throw damaged(slot.id, error);
  }
}

const NO_SLOT: Readonly<Record<RootKeyOpening['kind'], { readonly what: string; readonly hint: string }>> = {
  file: {
    what: 'this root key belongs to another key server, or was replaced',
    hint: 'use the root key of this one; a backup takes that of when it was made',
  },
  shamir: {
    what: 'these shares do not open the root key',
    hint: 'use the shares that `latchkey server status` counts; a backup takes those of when it was made',
  },
  pkcs11: {
    what: 'the key on the token does not open the root key',
    hint: 'use the token, and the key on it, that the key server was made with',
  },
};

function opensNothing({ kind }: RootKeyOpening): LatchkeyError {
  const { what, hint } = NO_SLOT[kind];
  return new LatchkeyError('KEY_INVALID', what, { hint });
}

function damaged(slotId: string, cause: unknown): LatchkeyError {
  return new LatchkeyError('STATE_DAMAGED', `the root key slot ${slotId} is damaged`, {
    hint: 'open the keys by another slot, or use a backup that is whole',
    cause,
  });
}
