/** Opens everything that takes the root key: the organization's keys, and with its own one the checkpoints of the audit log. */
import type { Logger } from 'pino';
import { systemClock } from '#src/base/clock.ts';
import { openAuditKey } from './audit/audit-key.ts';
import { AuditPublisher } from './audit/audit-publisher.ts';
import type { CheckpointDirectory } from './audit/checkpoint-directory.ts';
import type { Custody } from './custody/custody.ts';
import { openOrganizationKeys } from './custody/organization-keys.ts';
import type { Store } from './db/store.ts';
import { completeOrganization, requireOrganization } from './domain/organization.ts';
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
 * It @throws LatchkeyError CONFIG_INVALID for another root key, STATE_DAMAGED for a database older than its checkpoints
 */
export function keyOpener(parts: KeyOpenerParts): (custody: Custody) => Promise<Unsealed> {
  const { store, checkpointDirectory, logger } = parts;
  // What was taken on purpose once is under a checkpoint after that.
  let { acceptsOlderDatabase } = parts;
  return async (custody) => {
    const nowMs = systemClock.nowMs();
    const organization = await completeOrganization(store, custody, await requireOrganization(store), nowMs);
    const keys = await openOrganizationKeys(organization.id, organization, custody);
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
    return { keys, auditPublisher };
  };
}
