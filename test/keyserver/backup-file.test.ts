/** A backup as a file: read back as it was written, or not at all. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { createGzip } from 'node:zlib';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { type BackupHeader, backupKey, formatBackupHeader } from '../../keyserver/backup/backup-header.ts';
import { countRows } from '../../keyserver/backup/insert-backup.ts';
import { backupLines, openBackup } from '../../keyserver/backup/open-backup.ts';
import { sealChunks } from '../../keyserver/backup/sealed-chunks.ts';
import { createSharedSlot } from '../../keyserver/custody/shared-slot.ts';
import { openingOfToken } from '../../keyserver/custody/token-slot.ts';
import { restore } from '../../keyserver/restore.ts';

const ROOT_KEY = randomBytes(32);
const PIECE_BYTES = 64 * 1024 + 16;
const HEADER: BackupHeader = {
  ...{ organizationId: 'org_1', createdAtMs: 1_796_000_000_000, latchkey: '0.1.0', schema: '0001-initial' },
  salt: randomBytes(32),
  slots: [
    {
      ...{ id: 'slot_1', organization_id: 'org_1', kind: 'file', label: 'primary', created_at_ms: 1 },
      ...{ key_check: 'a', wrapped_root_key: null, parameters: '{}' },
    },
  ],
};
/** With the characters at which other readers end lines, and more than three pieces of what cannot be compressed. */
const ROWS = Array.from({ length: 60 }, () => ['a\u2028b\r\n', randomBytes(4000).toString('base64')]);
const LINES = [
  JSON.stringify({ table: 'product', columns: ['id', 'name'] }),
  ...ROWS.map((row) => JSON.stringify(row)),
  JSON.stringify({ rows: ROWS.length }),
];

let directory: string;
let header: Buffer;
let body: Buffer;

async function sealed(lines: readonly string[]): Promise<Buffer> {
  const plain = Readable.from(lines.map((line) => Buffer.from(`${line}\n`))).pipe(createGzip());
  return buffer(Readable.from(sealChunks(backupKey(ROOT_KEY, HEADER, header), plain)));
}

async function read(bytes: Uint8Array, rootKey: Uint8Array = ROOT_KEY) {
  const file = join(directory, 'a.backup');
  await writeFile(file, bytes);
  return countRows(backupLines(await openBackup(file), rootKey));
}

const piece = (number: number) => body.subarray(number * PIECE_BYTES, (number + 1) * PIECE_BYTES);
const edited = (from: string | RegExp, to: string) => () =>
  Buffer.concat([Buffer.from(header.toString().replace(from, to)), body]);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-backup-'));
  header = formatBackupHeader(HEADER);
  body = await sealed(LINES);
  expect(body.length).toBeGreaterThan(3 * PIECE_BYTES);
});

afterAll(() => rm(directory, { recursive: true }));

it('is read back, whatever characters are in it', async () => {
  expect(await read(Buffer.concat([header, body]))).toEqual({ product: ROWS.length });
});

it.each([
  [
    'a flipped bit',
    () => Buffer.concat([header, body.map((byte, at) => (at === PIECE_BYTES + 9 ? byte ^ 1 : byte))]),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 2 was changed',
  ],
  [
    'two pieces that changed places',
    () => Buffer.concat([header, piece(1), piece(0), body.subarray(2 * PIECE_BYTES)]),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 1 was changed',
  ],
  [
    'a piece that is left out',
    () => Buffer.concat([header, piece(0), body.subarray(2 * PIECE_BYTES)]),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 2 was changed',
  ],
  [
    'a tail cut between two pieces',
    () => Buffer.concat([header, piece(0), piece(1)]),
    'INPUT_TRUNCATED: the backup is cut off',
  ],
  [
    'a tail cut anywhere',
    () => Buffer.concat([header, body.subarray(0, -5)]),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 4 was changed',
  ],
  ['nothing but the header', () => header, 'INPUT_TRUNCATED: the backup is cut off'],
  [
    'another one behind it',
    () => Buffer.concat([header, body, body]),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 4 was changed',
  ],
  [
    'another time in the header',
    edited('"createdAtMs":1', '"createdAtMs":2'),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 1 was changed',
  ],
  [
    'a slot more in the header',
    edited('"primary"', '"other"'),
    'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece 1 was changed',
  ],
  ['a later format', edited('"version":1', '"version":2'), 'INPUT_UNSUPPORTED: a newer Latchkey'],
  ['a salt of another length', edited(/"salt":"..../, '"salt":"'), 'INPUT_MALFORMED: this is no backup'],
  ['another document', () => Buffer.from('{}\n'), 'INPUT_MALFORMED: this is no backup'],
  ['what is no JSON', () => Buffer.from('localhost\n'), 'INPUT_MALFORMED: this is no backup'],
  ['a file without a line', () => Buffer.alloc(300_000, 'x'), 'INPUT_MALFORMED: this is no backup'],
])('is refused with %s', async (_name, change, message) => {
  const text = await read(change()).then(String, (error: unknown) => (error as LatchkeyError).line);
  expect(text.slice(0, message.length)).toBe(message);
});

it('is refused in words when nothing can be made of a slot in its header', async () => {
  const owner = { organizationId: 'org_1', slotId: 'slot_1', label: 'primary', nowMs: 1 };
  const { slot, shares } = await createSharedSlot(owner, ROOT_KEY, { shares: 2, threshold: 2 });
  const damaged = { ...slot, parameters: slot.parameters.replace(':', ';') };
  const file = join(directory, 'shared.backup');
  await writeFile(file, formatBackupHeader({ ...HEADER, slots: [damaged] }));
  const proof = Readable.from([Buffer.from(JSON.stringify({ shares }))]);
  const refusal = { code: 'STATE_DAMAGED', message: 'the root key slot slot_1 is damaged' };
  await expect(restore(['--dry-run', '--', file], {}, proof)).rejects.toMatchObject(refusal);
  const ofToken = { ...damaged, kind: 'pkcs11' } as const;
  await expect(openingOfToken([ofToken], () => Promise.resolve(null))).rejects.toMatchObject(refusal);
});

it('is refused with another root key', async () => {
  await expect(read(Buffer.concat([header, body]), randomBytes(32))).rejects.toMatchObject({
    code: 'CRYPTO_AUTHENTICATION_FAILED',
  });
});

it.each([
  ['fewer rows than it says', LINES.toSpliced(2, 1)],
  ['no end', LINES.slice(0, -1)],
  ['a table that there is not', LINES.with(0, '{"table":"nothing","columns":["id","name"]}')],
  ['a row of another length', LINES.with(1, '["a"]')],
  ['a row before its table', LINES.slice(1)],
])('is refused with %s', async (_name, lines) => {
  await expect(read(Buffer.concat([header, await sealed(lines)]))).rejects.toMatchObject({
    code: 'INPUT_MALFORMED',
  });
});
