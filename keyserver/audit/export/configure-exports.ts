/** Keeps in the log which copies of it there are: who ends one leaves a trace. */
import { appendAuditEvent } from '../append-event.ts';
import type { Store } from '../../db/store.ts';

/**
 * Makes the named copies those that are made. One that was made before goes on where it was; a new one begins with the
 * first event.
 */
export async function configureExports(
  store: Store,
  organizationId: string,
  nowMs: number,
  names: readonly string[],
): Promise<void> {
  await store.write(async (writer) => {
    const rows = await writer.selectFrom('audit_export').select(['name', 'is_configured']).execute();
    const known = new Map(rows.map((row) => [row.name, row.is_configured === 1]));
    const note = (action: 'audit-export.add' | 'audit-export.remove', target: string) =>
      appendAuditEvent(writer, organizationId, nowMs, { actor: 'system', action, target, outcome: 'done' });
    for (const name of names) {
      if (known.get(name) === true) continue;
      await note('audit-export.add', name);
      await writer
        .insertInto('audit_export')
        .values({
          name,
          organization_id: organizationId,
          is_configured: 1,
          position: 0,
          delivered_at_ms: null,
          failing_since_ms: null,
          failure: null,
        })
        .onConflict((conflict) => conflict.column('name').doUpdateSet({ is_configured: 1 }))
        .execute();
    }
    for (const [name, isConfigured] of known) {
      if (!isConfigured || names.includes(name)) continue;
      await note('audit-export.remove', name);
      await writer.updateTable('audit_export').set({ is_configured: 0 }).where('name', '=', name).execute();
    }
  });
}
