/**
 * What stands in plain before the sealed part of a backup: of what it is, and the slots, so that shares and tokens open
 * it without a database. Whoever changes it finds that nothing opens: the key of the rest hangs on every byte of it.
 */
import { type KeyObject, createHash, hkdfSync } from 'node:crypto';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';
import type { RootKeySlot } from '../custody/root-key-slot.ts';
import { WRAPPING_KEY_BYTES } from '../custody/wrapped-key.ts';

/** The first line: what the file is, and the version of its format. */
const MAGIC = 'latchkey-backup';
const VERSION = 1;
export const SALT_BYTES = 32;

const slotSchema = z.strictObject({
  id: z.string(),
  kind: z.enum(['file', 'shamir', 'pkcs11']),
  label: z.string(),
  created_at_ms: z.int(),
  key_check: z.string().nullable(),
  wrapped_root_key: z.base64().nullable(),
  parameters: z.string(),
});

const headerSchema = z.strictObject({
  format: z.literal(MAGIC),
  version: z.literal(VERSION),
  organizationId: z.string(),
  createdAtMs: z.int(),
  /** The version of Latchkey that made it, for people. */
  latchkey: z.string(),
  /** The last schema change of the database. */
  schema: z.string(),
  salt: z.base64(),
  slots: z.array(slotSchema).min(1),
});

/** So that a later version is told apart from a broken file. */
const versionSchema = z.object({ format: z.literal(MAGIC), version: z.int().positive() });

export interface BackupHeader {
  readonly organizationId: string;
  readonly createdAtMs: number;
  readonly latchkey: string;
  readonly schema: string;
  readonly salt: Uint8Array;
  readonly slots: readonly RootKeySlot[];
}

/** The header as a line. */
export function formatBackupHeader(header: BackupHeader): Buffer {
  const { organizationId, createdAtMs, latchkey, schema, salt } = header;
  const slots = header.slots.map((slot) => ({
    ...{ id: slot.id, kind: slot.kind, label: slot.label, created_at_ms: slot.created_at_ms },
    key_check: slot.key_check,
    wrapped_root_key: slot.wrapped_root_key === null ? null : encodeBase64(slot.wrapped_root_key),
    parameters: slot.parameters,
  }));
  const document = { format: MAGIC, version: VERSION, organizationId, createdAtMs, latchkey, schema };
  return Buffer.from(`${JSON.stringify({ ...document, salt: encodeBase64(salt), slots })}\n`);
}

/**
 * Reads a header.
 * @param line with its end
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED for a later format
 */
export function parseBackupHeader(line: Uint8Array): BackupHeader {
  let value;
  try {
    value = parseJson(line, 'the header of the backup');
  } catch (error) {
    throw notABackup(error);
  }
  const known = versionSchema.safeParse(value);
  if (known.success && known.data.version > VERSION) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', 'a newer Latchkey has made this backup', {
      hint: 'install that version or a later one',
    });
  }
  const { data, error } = headerSchema.safeParse(value);
  const salt = data === undefined ? undefined : decodeBase64(data.salt);
  if (data === undefined || salt?.length !== SALT_BYTES) throw notABackup(error);
  const slots = data.slots.map(({ wrapped_root_key: wrapped, ...slot }) => ({
    ...slot,
    organization_id: data.organizationId,
    wrapped_root_key: wrapped === null ? null : (decodeBase64(wrapped) ?? null),
  }));
  const { organizationId, createdAtMs, latchkey, schema } = data;
  return { organizationId, createdAtMs, latchkey, schema, salt, slots };
}

export function notABackup(cause?: unknown): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', 'this is no backup of a key server, or its header is damaged', {
    hint: 'name a file that `latchkey server backup` has written',
    cause,
  });
}

/**
 * The key of what follows a header.
 * @param line the header as it stands in the file
 */
export function backupKey(
  rootKey: KeyObject | Uint8Array,
  header: BackupHeader,
  line: Uint8Array,
): Uint8Array {
  const digest = createHash('sha256').update(line).digest('hex');
  const purpose = `latchkey/${header.organizationId}/backup/${digest}`;
  return Buffer.from(hkdfSync('sha256', rootKey, header.salt, purpose, WRAPPING_KEY_BYTES));
}
