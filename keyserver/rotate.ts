/**
 * `keyserver/main.js rotate`: new keys for a key server that does not run. What opens the root key comes on standard input, in
 * the first line. With a new root key it says the new shares, and commits once a second line says that they were taken: else
 * who dies between the two would leave keys that nobody opens.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { sql } from 'kysely';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_DATA_DIRECTORY, databaseOf } from './arguments.ts';
import { stageRootKeyFile, takeStagedRootKeyFile } from './custody/root-key-file.ts';
import { readTokenOption } from './custody/root-key-token.ts';
import { WRAPPING_KEY_BYTES } from './custody/wrapped-key.ts';
import type { Store } from './db/store.ts';
import { findOrganization, requireCompleteOrganization } from './domain/organization.ts';
import { rootKeySlots } from './domain/root-key-slots.ts';
import { rotateKeys } from './domain/rotate-keys.ts';
import { openGivenRootKey } from './given-proof.ts';
import { InputLines } from './input-lines.ts';
import { MAX_ADMIN_BODY_BYTES } from './limits.ts';
import { remakeSlots } from './remade-slots.ts';
import { openDatabaseOnce } from './start.ts';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  'root-key': { type: 'string' },
  'root-key-token': { type: 'string' },
  root: { type: 'boolean', default: false },
} as const;

/** The second line of the input. */
const TAKEN = 'taken';

/** What is printed, as one JSON document in a line; with a new root key once before the commit and once after it. */
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
 * @param tell prints what a new root key comes to, before it counts
 * @throws LatchkeyError INTERRUPTED when nobody takes what was told, KEY_INVALID, STATE_CONFLICT while a key server runs, STATE_PRECONDITION, STATE_NOT_FOUND, STORAGE_*
 */
export async function rotate(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  input: AsyncIterable<Buffer>,
  tell: (answer: RotateAnswer) => void,
): Promise<RotateAnswer> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  const lines = new InputLines(input, MAX_ADMIN_BODY_BYTES);
  const token = values['root-key-token'];
  const rootKeyToken = token === undefined ? null : readTokenOption(token);
  const rootKeyFile = values['root-key'] ?? join(values.data, 'root.key');
  const database = databaseOf(values.database, environment);
  const store = await openDatabaseOnce({ dataDirectory: values.data, database });
  try {
    if (database !== null) await refuseRunningServers(store);
    if ((await findOrganization(store)) === undefined) throw nothingThere();
    const organization = await requireCompleteOrganization(store);
    const slots = await rootKeySlots(store.read, organization.id);
    const proof = Readable.from([await lines.next()]);
    const rootKey = await openGivenRootKey(proof, rootKeyToken, organization.id, slots);
    const nowMs = systemClock.nowMs();
    const rotation = { organization, rootKey, nowMs };
    if (!values.root) {
      const imageKeys = await rotateKeys(store, { ...rotation, newRoot: null });
      return { organizationId: organization.id, imageKeys, slots: [] };
    }
    const newRootKey = randomBytes(WRAPPING_KEY_BYTES);
    const remade = await remakeSlots(slots, newRootKey, { rootKeyFile, rootKeyToken }, nowMs);
    const hasFile = slots.some(({ kind }) => kind === 'file');
    // Before the rows: whenever this dies, one of the two files opens the database, and the next start finds out which.
    if (hasFile) await stageRootKeyFile(rootKeyFile, newRootKey);
    const newRoot = { rootKey: newRootKey, slots: remade.slots };
    const answerOf = (imageKeys: number): RotateAnswer => ({
      organizationId: organization.id,
      imageKeys,
      slots: remade.sharedSlots.map(({ slot, threshold, shares }) => ({
        label: slot.label,
        threshold,
        shares,
      })),
    });
    const imageKeys = await rotateKeys(store, { ...rotation, newRoot }, async (count) => {
      tell(answerOf(count));
      if ((await lines.next()).toString() !== TAKEN) throw notTaken();
    });
    if (hasFile) await takeStagedRootKeyFile(rootKeyFile);
    return answerOf(imageKeys);
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

function notTaken(): LatchkeyError {
  return new LatchkeyError(
    'INTERRUPTED',
    'nobody has taken the new shares, so that the keys are as they were',
    {
      hint: 'run it again',
    },
  );
}

function nothingThere(): LatchkeyError {
  return new LatchkeyError('STATE_NOT_FOUND', 'there is no key server in this database', {
    hint: 'name its data directory with --data, or its database',
  });
}
