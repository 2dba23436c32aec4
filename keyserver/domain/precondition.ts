/** Changes of what the caller has seen, and of nothing newer: the revision is compared in the transaction of the change. */
import { sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { withWrites } from '../db/other-writes.ts';
import type { Reader } from '../db/store.ts';
import { requireCustomer } from './customers.ts';
import { type KeyServer, withStore } from './key-server.ts';

/** What can be changed under a condition; each has a revision. */
export const GUARDED_THINGS = [
  'license',
  'policy',
  'node',
  'customer',
  'release',
  'join_token',
  'webhook_endpoint',
  'meter',
] as const;
export type GuardedThing = (typeof GUARDED_THINGS)[number];

export interface Precondition {
  readonly thing: GuardedThing;
  /**
   * As the request names it: an id, for a customer also its external id or name, for a policy its code; a meter is
   * `LICENSE/NAME`.
   */
  readonly name: string;
  /** Any of these. */
  readonly revisions: readonly number[];
}

/**
 * Gives the key server for one change: what it writes is undone when the thing has another revision by then. What is
 * not there is left to the change to say.
 * @throws LatchkeyError STATE_REVISION_STALE at once, or by the change
 */
export async function onlyAtRevision(server: KeyServer, condition: Precondition): Promise<KeyServer> {
  const { store } = server;
  const check = (reader: Reader) => checkRevision(server, reader, condition);
  // First without a lock: a change that finds nothing to do writes nothing.
  await check(store.read);
  return withStore(
    server,
    withWrites(store, (work, urgency) =>
      store.write(async (writer) => {
        await check(writer);
        return work(writer);
      }, urgency),
    ),
  );
}

async function checkRevision(server: KeyServer, reader: Reader, condition: Precondition): Promise<void> {
  const { thing, name, revisions } = condition;
  const revision = await revisionOf(server, reader, thing, name);
  if (revision === undefined || revisions.includes(revision)) return;
  throw new LatchkeyError(
    'STATE_REVISION_STALE',
    `${thing.replace('_', ' ')} ${JSON.stringify(name)} has changed: it is at revision ${revision}`,
    { hint: 'read it again, decide anew, and send its new ETag as If-Match' },
  );
}

async function revisionOf(
  server: KeyServer,
  reader: Reader,
  thing: GuardedThing,
  name: string,
): Promise<number | undefined> {
  const { organizationId } = server;
  if (thing === 'meter') return meterRevision(reader, organizationId, name);
  if (thing === 'customer') return (await requireCustomer(reader, organizationId, name)).revision;
  const row = await reader
    .selectFrom(thing)
    .select('revision')
    .where('organization_id', '=', organizationId)
    .where(sql.ref(`${thing}.${thing === 'policy' ? 'code' : 'id'}`), '=', name)
    .executeTakeFirst();
  return row?.revision;
}

/** 0 = there is none, and the change would make it: nobody can have seen that. */
async function meterRevision(reader: Reader, organizationId: string, name: string): Promise<number> {
  const [licenseId = '', meter = ''] = name.split('/');
  const row = await reader
    .selectFrom('meter')
    .select('revision')
    .where('organization_id', '=', organizationId)
    .where('license_id', '=', licenseId)
    .where('name', '=', meter)
    .executeTakeFirst();
  return row?.revision ?? 0;
}
