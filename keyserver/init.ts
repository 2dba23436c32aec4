/** `keyserver/main.js init`: makes a key server before its first start, and prints the shares of its root key once. */
import { parseArgs } from 'node:util';
import { join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_DATA_DIRECTORY, databaseOf } from './arguments.ts';
import { readTokenOption } from './custody/root-key-token.ts';
import { findOrganization } from './domain/organization.ts';
import { initialize } from './initialize.ts';
import { makeDataDirectory, openDatabaseOnce } from './start.ts';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  'root-key': { type: 'string' },
  'root-key-token': { type: 'string' },
  organization: { type: 'string', default: 'Latchkey' },
  contact: { type: 'string', default: '' },
  custody: { type: 'string', default: 'shamir' },
  shares: { type: 'string', default: '5' },
  threshold: { type: 'string', default: '3' },
  'no-emergency-slot': { type: 'boolean', default: false },
} as const;

/** What is printed, as one JSON document. */
export interface InitAnswer {
  readonly organizationId: string;
  readonly adminTokenFile: string;
  readonly rootKeyFile: string | null;
  readonly slots: readonly {
    readonly label: string;
    readonly threshold: number;
    readonly shares: readonly string[];
  }[];
}

/**
 * @param args after `init`; the command line has checked them
 * @throws LatchkeyError USAGE_INVALID, STATE_CONFLICT when there is a key server already, CONFIG_INVALID, STORAGE_*
 */
export async function init(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<InitAnswer> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  const terms = { shares: Number(values.shares), threshold: Number(values.threshold) };
  const isFile = values.custody === 'file';
  const token = values['root-key-token'];
  const emergency = values['no-emergency-slot'] ? [] : [{ label: 'emergency', terms }];
  const rootKeyFile = isFile ? (values['root-key'] ?? join(values.data, 'root.key')) : null;
  const rootKeyToken = token === undefined ? null : readTokenOption(token);
  await makeDataDirectory(values.data);
  const store = await openDatabaseOnce({
    dataDirectory: values.data,
    database: databaseOf(values.database, environment),
  });
  try {
    if ((await findOrganization(store)) !== undefined) throw alreadyMade();
    const made = await initialize(store, {
      dataDirectory: values.data,
      organizationName: values.organization,
      contact: values.contact,
      rootKeyFile,
      rootKeyToken,
      sharedSlots: [...(values.custody === 'shamir' ? [{ label: 'primary', terms }] : []), ...emergency],
    });
    if (!made.isNew) throw alreadyMade();
    return {
      organizationId: made.organizationId,
      adminTokenFile: join(values.data, 'admin.token'),
      rootKeyFile,
      slots: made.sharedSlots.map(({ slot, threshold, shares }) => ({
        label: slot.label,
        threshold,
        shares,
      })),
    };
  } finally {
    await store.close();
  }
}

function alreadyMade(): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', 'there is a key server in this database already', {
    hint: 'start it with `latchkey serve`; `latchkey server add-shares` adds shares to it',
  });
}
