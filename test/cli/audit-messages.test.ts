/** What `latchkey audit` says of wrong files and options: one line that says what to do. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { auditLogName, signCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import { verifierKeyText } from '#src/crypto/signed-note.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { chain } from '../fakes/audit-chain.ts';

const pair = generateKeyPairSync('ed25519');
const name = auditLogName('org_a');
const checkpoint = { size: 3, root: new Uint8Array(32) };
const contents: Readonly<Record<string, string>> = {
  LOG: chain(3)
    .map((event) => `${JSON.stringify(event)}\n`)
    .join(''),
  CHECKPOINT: signCheckpoint(name, checkpoint, pair.privateKey),
  KEY: verifierKeyText(name, pair.publicKey),
  JWK: JSON.stringify(pair.publicKey.export({ format: 'jwk' })),
};
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-audit-messages-'));
  for (const [file, text] of Object.entries(contents)) await writeFile(join(directory, file), text);
  await mkdir(join(directory, 'EMPTY'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe('a wrong file or option', () => {
  it.each<[string, readonly string[], RegExp]>([
    [
      'a checkpoint as the log',
      ['verify', 'CHECKPOINT'],
      /is not JSON; an export is one JSON document a line/u,
    ],
    [
      'a log as the checkpoint',
      ['verify', 'LOG', '--key', 'KEY', '--checkpoints', 'LOG'],
      /is not a signed note; a checkpoint is/u,
    ],
    [
      'a log as the key',
      ['verify', 'LOG', '--key', 'LOG', '--checkpoints', 'CHECKPOINT'],
      /LOG is not the verifier key/u,
    ],
    [
      'a key without end',
      ['verify', 'LOG', '--key', '/dev/zero', '--checkpoints', 'CHECKPOINT'],
      /KEY_INVALID: \/dev\/zero is not/u,
    ],
    [
      'a checkpoint without end',
      ['verify', 'LOG', '--key', 'KEY', '--checkpoints', '/dev/zero'],
      /\/dev\/zero is not a signed note/u,
    ],
    [
      'a directory without a checkpoint',
      ['verify', 'LOG', '--key', 'KEY', '--checkpoints', 'EMPTY'],
      /there is no checkpoint in \S+, which has no file/u,
    ],
    [
      'a directory as the key',
      ['verify', 'LOG', '--key', 'EMPTY', '--checkpoints', 'CHECKPOINT'],
      /there is no key file/u,
    ],
    [
      'a log as receipts',
      ['verify', 'LOG', '--receipts', 'LOG', '--receipt-key', 'JWK'],
      /is not what `latchkey node status --json` prints; write it/u,
    ],
    [
      'times the wrong way round',
      ['list', '--from', '2027-01-01', '--until', '2026-01-01'],
      /--from is not before --until/u,
    ],
    ['an empty text', ['list', '--text', ''], /give a text of 1 to 1024 characters/u],
  ])('is said in one line: %s', async (_what, args, line) => {
    const places = args.map((arg) => (/^[A-Z]+$/.test(arg) ? join(directory, arg) : arg));
    // Nobody listens there.
    const nowhere = { adminUrl: 'http://127.0.0.1:9', adminToken: 'none' };
    const said = await adminCommand(nowhere, 'audit', ...places);
    expect(said).toMatch(/^latchkey: [A-Z_]+: [^\n]+\n$/u);
    expect(said).toMatch(line);
  });
});
