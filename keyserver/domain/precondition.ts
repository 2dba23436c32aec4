/** Changes of what the caller has seen, and of nothing newer: the revision is compared in the transaction of the change. */
import { sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { withWrites } from '../db/other-writes.ts';
import type { Reader } from '../db/store.ts';
import { requireCustomer } from './customers.ts';
import { type KeyServer, withStore } from './key-server.ts';

/** What can be changed under a condition, as a person calls it; each has a revision. */
const GUARDED_THINGS = {
  license: 'license',
  policy: 'policy',
  node: 'node',
  customer: 'customer',
  release: 'release',
  image_key: 'image key',
  meter: 'meter',
  join_token: 'join token',
  api_token: 'API token',
  webhook_endpoint: 'webhook endpoint',
} as const;

export type GuardedThing = keyof typeof GUARDED_THINGS;

export type Guarded =
  | {
      readonly thing: Exclude<GuardedThing, 'meter'>;
      /** As the request names it: an id, for a customer also its external id or name, for a policy its code. */
      readonly name: string;
    }
  | { readonly thing: 'meter'; readonly name: string; readonly licenseId: string };

/**
 * Gives the key server for one change: what it writes is undone when the thing has another revision by then. What is
 * not there is left to the change to say, unless the change would make it.
 * @param revisions any of these; null = whichever it has
 * @throws LatchkeyError STATE_REVISION_STALE at once, or by the change
 */
export async function onlyAtRevision(
  server: KeyServer,
  guarded: Guarded,
  revisions: readonly number[] | null,
): Promise<KeyServer> {
  const { store } = server;
  const check = async (reader: Reader) => {
    const revision = await revisionOf(server, reader, guarded);
    if (revision === undefined || (revision !== null && (revisions?.includes(revision) ?? true))) return;
    throw stale(guarded, revision);
  };
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

function stale({ thing, name }: Guarded, revision: number | null): LatchkeyError {
  const named = `${GUARDED_THINGS[thing]} ${JSON.stringify(name)}`;
  if (revision === null) {
    return new LatchkeyError('STATE_REVISION_STALE', `there is no ${named} yet`, {
      hint: 'leave If-Match out to make it',
    });
  }
  return new LatchkeyError('STATE_REVISION_STALE', `${named} has changed: it is at revision ${revision}`, {
    hint: 'read it again, decide anew, and send its new ETag as If-Match',
  });
}

/** Undefined for what is not there, null when the change would make it. */
async function revisionOf(
  { organizationId }: KeyServer,
  reader: Reader,
  guarded: Guarded,
): Promise<number | null | undefined> {
  const { thing, name } = guarded;
  if (thing === 'customer') return (await requireCustomer(reader, organizationId, name)).revision;
  if (thing === 'meter') {
    const row = await reader
      .selectFrom('license')
      .leftJoin('meter', (join) =>
        join.onRef('meter.license_id', '=', 'license.id').on('meter.name', '=', name),
      )
      .select('meter.revision')
      .where('license.organization_id', '=', organizationId)
      .where('license.id', '=', guarded.licenseId)
      .executeTakeFirst();
    return row?.revision;
  }
  const row = await reader
    .selectFrom(thing)
    .select('revision')
    .where('organization_id', '=', organizationId)
    .where(sql.ref(`${thing}.${thing === 'policy' ? 'code' : 'id'}`), '=', name)
    .executeTakeFirst();
  return row?.revision;
}
