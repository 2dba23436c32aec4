/** Opens everything that takes the root key: the organization's keys, and with its own one the checkpoints of the audit log. */
import { createSecretKey } from 'node:crypto';
import type { Logger } from 'pino';
import { systemClock } from '#src/base/clock.ts';
import { openAuditKey } from './audit/audit-key.ts';
import { AuditPublisher } from './audit/audit-publisher.ts';
import type { CheckpointDirectory } from './audit/checkpoint-directory.ts';
import { openOrganizationKeys } from './custody/organization-keys.ts';
import { keyCustody } from './custody/root-key-file.ts';
import { type RootKeyOpening, openRootKey } from './custody/root-key-slot.ts';
import type { Store } from './db/store.ts';
import { completeOrganization, requireOrganization } from './domain/organization.ts';
import { addMissingFileSlot, rootKeySlots } from './domain/root-key-slots.ts';
import type { Unsealed } from './domain/seal.ts';

export interface KeyOpenerParts {
  readonly store: Store;
  readonly checkpointDirectory: CheckpointDirectory | null;
  /** True when an older database was put in place on purpose. */
  readonly acceptsOlderDatabase: boolean;
  readonly logger: Logger;
}

/**
 * A function that opens the keys, for Seal.
 * It @throws LatchkeyError KEY_INVALID for another root key, STATE_DAMAGED for a database older than its checkpoints
 */
export function keyOpener(parts: KeyOpenerParts): (opening: RootKeyOpening) => Promise<Unsealed> {
  const { store, checkpointDirectory, logger } = parts;
  // What was taken on purpose once is under a checkpoint after that.
  let { acceptsOlderDatabase } = parts;
  return async (opening) => {
    const nowMs = systemClock.nowMs();
    const stored = await requireOrganization(store);
    const slots = await rootKeySlots(store.read, stored.id);
    // In a database of before there were slots, the organization key alone tells whether the root key is right.
    const isBeforeSlots = slots.length === 0 && opening.kind === 'file';
    const rootKey = isBeforeSlots ? opening.rootKey : openRootKey(stored.id, slots, opening);
    const custody = keyCustody(rootKey);
    const organization = await completeOrganization(store, custody, stored, nowMs);
    const keys = await openOrganizationKeys(organization.id, organization, custody);
    if (isBeforeSlots) await addMissingFileSlot(store, organization.id, rootKey, nowMs);
    const auditPublisher = new AuditPublisher({
      store,
      organizationId: organization.id,
      key: await openAuditKey(store, organization.id, keys, nowMs),
      directory: checkpointDirectory,
      clock: systemClock,
      onFailure: (error) => {
        logger.error({ err: error }, 'the audit log got no checkpoint');
      },
    });
    if (!acceptsOlderDatabase) await auditPublisher.refuseRollback();
    await auditPublisher.start();
    acceptsOlderDatabase = false;
    return { rootKey: createSecretKey(rootKey), keys, auditPublisher };
  };
}
