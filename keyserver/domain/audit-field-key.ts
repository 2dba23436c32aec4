/** The key under which the audit log conceals what tells of people. */
import { type Actor } from '../audit/append-event.ts';
import { replaceFieldKey } from '../audit/audit-key.ts';
import { newFieldKey } from '../audit/concealed-text.ts';
import { runChange } from './change.ts';
import type { KeyServer } from './key-server.ts';

/**
 * Destroys the key and goes on with a new one: what stands concealed in the log until now can never be found by its text
 * again.
 */
export function shredFieldKey(server: KeyServer, actor: Actor): Promise<void> {
  return runChange(server, actor, async (change) => {
    const { writer, organizationId } = change;
    await change.nextRevision();
    await replaceFieldKey(writer, organizationId, newFieldKey(server.keys));
    await change.audit({ action: 'audit.shred', target: organizationId });
  });
}
