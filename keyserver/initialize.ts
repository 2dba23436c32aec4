/** The first start: makes root key, slots, admin token and organization. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '#src/base/clock.ts';
import type { ShareTerms } from '#src/crypto/key-share.ts';
import { createRootKeyFile, keyCustody, readRootKeyFile } from './custody/root-key-file.ts';
import type { RootKeyTokenUri } from './custody/root-key-token.ts';
import { type NewSharedSlot, createSharedSlot } from './custody/shared-slot.ts';
import { WRAPPING_KEY_BYTES } from './custody/wrapped-key.ts';
import type { Store } from './db/store.ts';
import { newToken } from './domain/api-tokens.ts';
import { newId } from './domain/ids.ts';
import { createOrganization } from './domain/organization.ts';
import { newFileSlot } from './domain/root-key-slots.ts';
import { makeTokenSlot } from './made-token-slot.ts';
import { replaceOwnerFile } from './owner-file.ts';

export interface Beginning {
  readonly dataDirectory: string;
  readonly organizationName: string;
  readonly contact: string;
  /** Where the root key is to be; null = in no file. */
  readonly rootKeyFile: string | null;
  /** A token that is to open it; null = none. */
  readonly rootKeyToken: RootKeyTokenUri | null;
  readonly sharedSlots: readonly { readonly label: string; readonly terms: ShareTerms }[];
}

export interface Initialized {
  readonly organizationId: string;
  /** False when another key server has just made the organization; then there are no shares. */
  readonly isNew: boolean;
  readonly sharedSlots: readonly NewSharedSlot[];
}

/**
 * Files come before the rows that need them: a start that dies in between is simply repeated. Of several first starts on one
 * database, one makes everything and the others join it.
 * @throws LatchkeyError CONFIG_INVALID, STORAGE_*
 */
export async function initialize(store: Store, beginning: Beginning): Promise<Initialized> {
  const { rootKeyFile, rootKeyToken, sharedSlots } = beginning;
  const nowMs = systemClock.nowMs();
  const organizationId = newId('org', nowMs);
  const rootKey = rootKeyFile === null ? randomBytes(WRAPPING_KEY_BYTES) : await makeRootKey(rootKeyFile);
  const shared: NewSharedSlot[] = [];
  for (const { label, terms } of sharedSlots) {
    const owner = { organizationId, slotId: newId('slot', nowMs), label, nowMs };
    shared.push(await createSharedSlot(owner, rootKey, terms));
  }
  const owner = { organizationId, slotId: newId('slot', nowMs), label: 'primary', nowMs };
  const tokens = rootKeyToken === null ? [] : [await makeTokenSlot(owner, rootKey, rootKeyToken)];
  const files = rootKeyFile === null ? [] : [newFileSlot(owner, rootKey)];
  const adminToken = newToken();
  const { row, isNew } = await createOrganization(store, keyCustody(rootKey), {
    id: organizationId,
    name: beginning.organizationName,
    contact: beginning.contact,
    nowMs,
    adminToken,
    slots: [...files, ...tokens, ...shared.map(({ slot }) => slot)],
    keepAdminToken: () => replaceOwnerFile(join(beginning.dataDirectory, 'admin.token'), `${adminToken}\n`),
  });
  return { organizationId: row.id, isNew, sharedSlots: isNew ? shared : [] };
}

async function makeRootKey(path: string): Promise<Uint8Array> {
  await createRootKeyFile(path);
  return readRootKeyFile(path);
}
