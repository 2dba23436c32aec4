/**
 * The end of image keys. From the moment its destruction is scheduled a key opens nothing; until the day comes that can
 * be taken back, and then the wrapped key is gone from the database.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { DAY_MS } from '#src/base/units.ts';
import type { ImageKey } from '#src/wire/admin/image-key.ts';
import { type Actor, appendAuditEvent } from '../audit/append-event.ts';
import type { Reader } from '../db/store.ts';
import { runChange } from './change.ts';
import type { KeyServer } from './key-server.ts';
import { nextRevision } from './revision.ts';

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getImageKey(
  { store, organizationId }: KeyServer,
  id: string,
  reader: Reader = store.read,
): Promise<ImageKey> {
  const row = await reader
    .selectFrom('image_key')
    .innerJoin('product', 'product.id', 'image_key.product_id')
    .select(['image_key.revision', 'image_key.state', 'image_key.destroy_at_ms', 'product.code'])
    .where('image_key.id', '=', id)
    .where('image_key.organization_id', '=', organizationId)
    .executeTakeFirst();
  if (row === undefined) {
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no image key ${id}`, {
      hint: 'see the image keys in `latchkey release list`',
    });
  }
  const { revision, state, destroy_at_ms: destroyAtMs } = row;
  return { id, revision, productCode: row.code, state, destroyAtMs };
}

/**
 * Schedules the destruction of an image key. Repeating it leaves the day that was set first.
 * @param days from now, in the range that the API lets through
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_PRECONDITION when it is not active
 */
export function scheduleDestruction(
  server: KeyServer,
  actor: Actor,
  id: string,
  days: number,
): Promise<ImageKey> {
  return runChange(
    server,
    actor,
    async (change) => {
      const known = await getImageKey(server, id, change.writer);
      if (known.state === 'DESTROY_SCHEDULED') return known;
      if (known.state !== 'ACTIVE') throw notPossible(known, 'only an active image key can be destroyed');
      const destroyAtMs = change.nowMs + days * DAY_MS;
      const revision = await change.nextRevision();
      await change.writer
        .updateTable('image_key')
        .set({
          state: 'DESTROY_SCHEDULED',
          destroy_at_ms: destroyAtMs,
          revision,
          updated_at_ms: change.nowMs,
        })
        .where('id', '=', id)
        .execute();
      await change.audit({ action: 'image-key.schedule-destruction', target: id, detail: { destroyAtMs } });
      return { ...known, revision, state: 'DESTROY_SCHEDULED', destroyAtMs };
    },
    'URGENT',
  );
}

/**
 * Makes an image key active again whose day has not come. Repeating it is harmless.
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_PRECONDITION when it is too late
 */
export function cancelDestruction(server: KeyServer, actor: Actor, id: string): Promise<ImageKey> {
  return runChange(server, actor, async (change) => {
    const known = await getImageKey(server, id, change.writer);
    if (known.state === 'ACTIVE') return known;
    const isDue = known.destroyAtMs === null || known.destroyAtMs <= change.nowMs;
    if (known.state !== 'DESTROY_SCHEDULED' || isDue) {
      throw notPossible(known, 'its destruction can no longer be cancelled');
    }
    const revision = await change.nextRevision();
    await change.writer
      .updateTable('image_key')
      .set({ state: 'ACTIVE', destroy_at_ms: null, revision, updated_at_ms: change.nowMs })
      .where('id', '=', id)
      .execute();
    await change.audit({ action: 'image-key.cancel-destruction', target: id });
    return { ...known, revision, state: 'ACTIVE', destroyAtMs: null };
  });
}

/**
 * Destroys the image keys whose day has come.
 * @returns how many
 */
export async function destroyDueImageKeys(server: KeyServer): Promise<number> {
  const { store, organizationId } = server;
  const nowMs = server.clock.nowMs();
  const due = (reader: Reader) =>
    reader
      .selectFrom('image_key')
      .select('id')
      .where('organization_id', '=', organizationId)
      .where('state', '=', 'DESTROY_SCHEDULED')
      .where('destroy_at_ms', '<=', nowMs)
      .execute();
  if ((await due(store.read)).length === 0) return 0;
  return store.write(async (writer) => {
    const rows = await due(writer);
    for (const { id } of rows) {
      const revision = await nextRevision(writer, organizationId, nowMs);
      await writer
        .updateTable('image_key')
        .set({ state: 'DESTROYED', wrapped_key: new Uint8Array(), revision, updated_at_ms: nowMs })
        .where('id', '=', id)
        .execute();
      const event = { actor: 'system', action: 'image-key.destroy', target: id, outcome: 'done' } as const;
      await appendAuditEvent(writer, organizationId, nowMs, event);
    }
    return rows.length;
  });
}

function notPossible({ id, state }: ImageKey, why: string): LatchkeyError {
  return new LatchkeyError('STATE_PRECONDITION', `image key ${id} is ${state}: ${why}`, {
    hint: 'see `latchkey image-key show`',
  });
}
