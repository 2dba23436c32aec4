/** `keyserver/main.js add-token`: a token as one more way to the root key, for a key server that does not run. */
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_DATA_DIRECTORY, databaseOf } from './arguments.ts';
import { appendAuditEvent } from './audit/append-event.ts';
import { readTokenOption } from './custody/root-key-token.ts';
import { requireOrganization } from './domain/organization.ts';
import { newId } from './domain/ids.ts';
import { rootKeySlots } from './domain/root-key-slots.ts';
import { openGivenRootKey } from './given-proof.ts';
import { makeTokenSlot } from './made-token-slot.ts';
import { openDatabaseOnce } from './start.ts';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  'root-key-token': { type: 'string', default: '' },
} as const;

/** What is printed, as one JSON document. */
export interface AddTokenAnswer {
  readonly slotId: string;
  readonly label: string;
}

/**
 * @param args after `add-token`, with the label; the command line has checked them
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, STATE_CONFLICT for a label that is taken or while a key server runs, STORAGE_*
 */
export async function addToken(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  input: AsyncIterable<Buffer>,
): Promise<AddTokenAnswer> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: true,
    allowPositionals: true,
  });
  const [label = ''] = positionals;
  const uri = readTokenOption(values['root-key-token']);
  const database = databaseOf(values.database, environment);
  const store = await openDatabaseOnce({ dataDirectory: values.data, database });
  try {
    const { id: organizationId } = await requireOrganization(store);
    const before = await rootKeySlots(store.read, organizationId);
    const rootKey = await openGivenRootKey(input, null, organizationId, before);
    const nowMs = systemClock.nowMs();
    const slotId = newId('slot', nowMs);
    const slot = await makeTokenSlot({ organizationId, slotId, label, nowMs }, rootKey, uri);
    await store.write(async (writer) => {
      const slots = await rootKeySlots(writer, organizationId);
      if (slots.some((other) => other.label === label)) {
        throw new LatchkeyError('STATE_CONFLICT', `there is a slot ${JSON.stringify(label)} already`, {
          hint: 'choose another label',
        });
      }
      // A root key that was rotated meanwhile must not come back in a slot.
      if (!isDeepStrictEqual(slots, before)) {
        throw new LatchkeyError('STATE_CONFLICT', 'the slots have just been changed', { hint: 'try again' });
      }
      await writer.insertInto('root_key_slot').values(slot).execute();
      await appendAuditEvent(writer, organizationId, nowMs, {
        ...{ actor: 'system', action: 'custody.add-slot', target: slotId, outcome: 'done' },
        detail: { kind: slot.kind, label },
      });
    });
    return { slotId, label };
  } finally {
    await store.close();
  }
}
