/** `keyserver/main.js rotate`: new keys for a key server that does not run. What opens the root key comes on standard input. */
import { parseArgs } from 'node:util';
import { sql } from 'kysely';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_DATA_DIRECTORY, databaseOf } from './arguments.ts';
import type { RootKeySlot } from './custody/root-key-slot.ts';
import type { Store } from './db/store.ts';
import { findOrganization, requireCompleteOrganization } from './domain/organization.ts';
import { openProvenRootKey, rootKeySlots } from './domain/root-key-slots.ts';
import { rotateKeys } from './domain/rotate-keys.ts';
import { readGivenProof } from './given-proof.ts';
import { NOBODY_OBSERVES } from './metrics/store-observer.ts';
import { openDatabase } from './start.ts';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  root: { type: 'boolean', default: false },
} as const;

/** What is printed, as one JSON document. */
export interface RotateAnswer {
  readonly organizationId: string;
  readonly imageKeys: number;
  readonly slots: readonly {
    readonly label: string;
    readonly threshold: number;
    readonly shares: readonly string[];
  }[];
}

/**
 * @param args after `rotate`; the command line has checked them
 * @throws LatchkeyError KEY_INVALID, STATE_CONFLICT while a key server runs, STATE_PRECONDITION, STATE_NOT_FOUND, STORAGE_*
 */
export async function rotate(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  input: AsyncIterable<Buffer>,
): Promise<RotateAnswer> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  const proof = await readGivenProof(input);
  const database = databaseOf(values.database, environment);
  const store = await openDatabase({ dataDirectory: values.data, database }, NOBODY_OBSERVES);
  try {
    if (database !== null) await refuseRunningServers(store);
    if ((await findOrganization(store)) === undefined) throw nothingThere();
    const organization = await requireCompleteOrganization(store);
    const slots = await rootKeySlots(store.read, organization.id);
    const rootKey = await openProvenRootKey(organization.id, slots, proof);
    const newRootKeyFor = values.root ? requireSharesOnly(slots) : null;
    const nowMs = systemClock.nowMs();
    const rotated = await rotateKeys(store, { organization, rootKey, nowMs, newRootKeyFor });
    return {
      organizationId: organization.id,
      imageKeys: rotated.imageKeys,
      slots: rotated.sharedSlots.map(({ slot, threshold, shares }) => ({
        label: slot.label,
        threshold,
        shares,
      })),
    };
  } finally {
    await store.close();
  }
}

/** A SQLite database is locked by the key server that uses it; of PostgreSQL, each listens for the others' changes. */
async function refuseRunningServers(store: Store): Promise<void> {
  const { rows } = await sql<{ pid: number }>`
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'latchkey changes'
  `.execute(store.read);
  if (rows.length === 0) return;
  throw new LatchkeyError('STATE_CONFLICT', 'a key server uses this database', {
    hint: 'stop all key servers of the database, and start them again afterwards',
  });
}

/** A file with the root key would have to change together with the database, which nothing can promise. */
function requireSharesOnly(slots: readonly RootKeySlot[]): readonly RootKeySlot[] {
  const other = slots.find(({ kind }) => kind !== 'shamir');
  if (other === undefined) return slots;
  throw new LatchkeyError(
    'STATE_PRECONDITION',
    `the slot ${other.label} (${other.kind}) holds this root key`,
    {
      hint: 'add shares, remove that slot with `latchkey server remove-slot`, and try again',
    },
  );
}

function nothingThere(): LatchkeyError {
  return new LatchkeyError('STATE_NOT_FOUND', 'there is no key server in this database', {
    hint: 'name its data directory with --data, or its database',
  });
}
