/** What somebody could do to an export, or to what was kept beside it: the first bad entry is named. */
import { type KeyObject, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { auditLogName, auditTreeEntry, signCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import { verifierKeyText } from '#src/crypto/signed-note.ts';
import { leafHash } from '#src/crypto/tile-tree.ts';
import { ProvingTree } from '#src/crypto/tree-proof.ts';
import type { ProofHeader, ProvenEvent } from '../../cli/audit-proofs.ts';
import { chain, rechained } from '../fakes/audit-chain.ts';
import { adminCommand } from '../fakes/admin-command.ts';

const SIZE = 20;
const log = chain(SIZE);
/** Of another key server. */
const foreign = chain(SIZE, 'org_b');
const forged = rechained(log.map((event) => (event.sequence === 8 ? { ...event, target: 'lic_x' } : event)));
const pair = generateKeyPairSync('ed25519');
const stranger = generateKeyPairSync('ed25519');
const name = auditLogName('org_a');

let directory: string;
let files = 0;

const fileOf = async (text: string, ending = 'jsonl') => {
  const path = join(directory, `${(files += 1)}.${ending}`);
  await writeFile(path, text);
  return path;
};
const lines = (items: readonly object[]) => items.map((item) => `${JSON.stringify(item)}\n`).join('');
const treeOf = (events: readonly AuditEvent[]) => {
  const tree = new ProvingTree();
  for (const event of events) tree.add(leafHash(auditTreeEntry(event)));
  return tree;
};
const checkpointOf = (
  events: readonly AuditEvent[],
  size: number,
  key: KeyObject = pair.privateKey,
  by = name,
) => signCheckpoint(by, { size, root: treeOf(events).root(size) }, key);
const keyFile = () => fileOf(verifierKeyText(name, pair.publicKey), 'key');

/** Offline: nobody listens there. */
const latchkey = (...args: string[]) =>
  adminCommand({ adminUrl: 'http://127.0.0.1:9', adminToken: 'none' }, ...args);

/** What `latchkey audit verify` says. */
async function verdict(text: string, ...notes: readonly string[]): Promise<string> {
  const kept = await mkdtemp(join(directory, 'kept-'));
  for (const [index, note] of notes.entries()) await writeFile(join(kept, `${index}.checkpoint`), note);
  const kinds = notes.length === 0 ? [] : ['--checkpoints', kept];
  const said = await latchkey('audit', 'verify', await fileOf(text), '--key', await keyFile(), ...kinds);
  return said.replaceAll(`${kept}/`, '');
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-tampering-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe('a whole export', () => {
  const whole = checkpointOf(log, SIZE);
  const at = (sequence: number) => log[sequence - 1]!;

  it('verifies as it was written', async () => {
    expect(await verdict(lines(log), checkpointOf(log, 5), whole)).toContain('verifies: 20 events');
  });

  it.each<[string, string, readonly AuditEvent[], readonly string[]]>([
    ['an event twice', 'event 7 stands where event 8', [...log.slice(0, 7), ...log.slice(6)], [whole]],
    ['the last twice', 'event 20 stands where event 21', [...log, at(20)], [whole]],
    ['all of it twice', 'event 1 stands where event 21', [...log, ...log], [whole]],
    [
      'two in each other’s place',
      'event 6 is missing',
      [...log.slice(0, 5), at(7), at(6), ...log.slice(7)],
      [whole],
    ],
    ['one of another server', 'event 9 does not follow event 8', log.with(8, foreign[8]!), [whole]],
    [
      'the end of another server',
      'event 9 does not follow event 8',
      [...log.slice(0, 8), ...foreign.slice(8)],
      [whole],
    ],
    [
      'both, line by line',
      'event 1 stands where event 2',
      log.flatMap((event, index) => [event, foreign[index]!]),
      [whole],
    ],
    ['another server alone', 'events 1 to 20 are not those of 0.checkpoint', foreign, [whole]],
    [
      'one that was written anew',
      'events 6 to 20 are not those of 1.checkpoint',
      forged,
      [checkpointOf(log, 5), whole],
    ],
    [
      'an older one',
      'event 16 is missing (the log ends, but 1.checkpoint has 20',
      log.slice(0, 15),
      [checkpointOf(log, 5), whole],
    ],
    ['none of the last that was kept', 'event 21 is missing', log, [checkpointOf(chain(30), 30)]],
  ])('shows %s', async (_what, fault, events, notes) => {
    expect(await verdict(lines(events), ...notes)).toMatch(/^latchkey: STATE_DAMAGED: /u);
    expect(await verdict(lines(events), ...notes)).toContain(fault);
  });

  it('shows checkpoints that somebody has made or changed', async () => {
    const byStranger = checkpointOf(log, SIZE, stranger.privateKey);
    expect(await verdict(lines(log), byStranger)).toContain(
      '0.checkpoint is not signed by latchkey-audit/org_a',
    );
    const elsewhere = checkpointOf(foreign, SIZE, pair.privateKey, auditLogName('org_b'));
    expect(await verdict(lines(log), elsewhere)).toContain('0.checkpoint is not signed by');
    // The head of one under the signature of another.
    const [head, signature] = [checkpointOf(log, 5), whole].map((note) => note.split('\n\n')) as [
      string[],
      string[],
    ];
    expect(await verdict(lines(log), `${head[0]}\n\n${signature[1]}`)).toContain(
      '0.checkpoint has a wrong signature',
    );
    expect(await verdict(lines(log), checkpointOf(forged, SIZE), whole)).toContain(
      'events 1 to 20 are not those of 0.checkpoint',
    );
    // Somebody with the key who shows different logs to different people.
    expect(await verdict(lines(log), whole, checkpointOf(forged, SIZE))).toContain(
      '1.checkpoint and 0.checkpoint are of two logs: both have 20 events',
    );
  });
});

describe('an export with proofs', () => {
  const tree = treeOf(log);
  const text = (hashes: readonly Uint8Array[]) => hashes.map((hash) => Buffer.from(hash).toString('base64'));
  const header = (filter: ProofHeader['filter'] = {}, since: readonly number[] = []): ProofHeader => ({
    format: 'latchkey-audit-proofs/1',
    checkpoint: checkpointOf(log, SIZE),
    filter,
    consistency: since.map((size) => ({ size, proof: text(tree.consistency(size, SIZE)) })),
  });
  const proven = (event: AuditEvent): ProvenEvent => ({
    ...event,
    proof: text(tree.inclusion(event.sequence - 1, SIZE)),
  });
  const part = [proven(log[3]!), proven(log[9]!), proven(log[19]!)];
  const actor = { actor: 'system' };

  it('verifies as it was written, and says what it does not show', async () => {
    expect(await verdict(lines([header(), ...log.map(proven)]))).toContain('20 of the 20 events');
    const said = await verdict(
      lines([header(actor, [5]), ...part]),
      checkpointOf(log, 5),
      checkpointOf(log, SIZE),
    );
    expect(said).toContain(
      '3 of the 20 events under its checkpoint of actor system, and goes on from 2 checkpoint(s)',
    );
    expect(said).toContain('that there are no more of them shows a whole export alone');
  });

  it.each<[string, string, readonly object[]]>([
    ...Object.entries({
      actor: 'x',
      action: 'x',
      target: 'x',
      outcome: 'x',
      code: 'x',
      timeMs: 7,
      organizationId: 'org_b',
    }).map(([field, value]): [string, string, readonly object[]] => [
      `another ${field}`,
      'event 10 was changed',
      [header(actor), part[0]!, { ...part[1]!, [field]: value }, part[2]!],
    ]),
    ['another detail', 'event 10 was changed', [header(actor), { ...part[1]!, detail: { epoch: 0.5 } }]],
    [
      'one that was computed anew',
      'event 10 is not the one under',
      [header(actor), { ...part[1]!, ...forged[9] }],
    ],
    [
      'one in the place of another',
      'event 10 is not the one under',
      [header(actor), { ...part[1]!, proof: part[0]!.proof }],
    ],
    ['one twice', 'event 4 stands behind event 4', [header(actor), part[0]!, part[0]!]],
    ['another order', 'event 4 stands behind event 10', [header(actor), part[1]!, part[0]!]],
    [
      'one of another server',
      'event 10 is not the one under',
      [header(actor), { ...foreign[9]!, proof: part[1]!.proof }],
    ],
    [
      'one from behind the checkpoint',
      'event 21 is not under the checkpoint',
      [header(actor), { ...chain(21)[20]!, proof: [] }],
    ],
    ['a gap in a whole one', 'event 3 is missing', [header(), ...log.toSpliced(2, 1).map(proven)]],
    ['a whole one without its end', 'event 20 is missing', [header(), ...log.slice(0, -1).map(proven)]],
    [
      'a checkpoint of somebody else',
      'is not signed by',
      [{ ...header(actor), checkpoint: checkpointOf(log, SIZE, stranger.privateKey) }, ...part],
    ],
    [
      'an older checkpoint',
      'event 20 is not under the checkpoint',
      [{ ...header(actor), checkpoint: checkpointOf(log, 15) }, part[2]!],
    ],
  ])('shows %s', async (_what, fault, items) => {
    const said = await verdict(lines(items));
    expect(said).toMatch(/^latchkey: STATE_DAMAGED: /u);
    expect(said).toContain(fault);
  });

  it('shows that it does not go on from what was kept', async () => {
    const from = (size: number, note: string) => verdict(lines([header(actor, [size]), ...part]), note);
    expect(await from(10, checkpointOf(forged, 10))).toContain(
      'events 1 to 10 are not those of 0.checkpoint',
    );
    expect(await from(10, checkpointOf(forged, SIZE))).toContain(
      'events 1 to 20 are not those of 0.checkpoint',
    );
    expect(await from(10, checkpointOf(chain(30), 30))).toContain(
      'event 21 is missing (the export ends there',
    );
    expect(await from(10, checkpointOf(log, 11))).toMatch(
      /STATE_NOT_FOUND: .*0\.checkpoint; export again with --since/u,
    );
  });

  it('is said in one line where it is no such export, or the key is missing', async () => {
    const path = await fileOf(lines([header(actor), ...part]));
    const run = (...args: string[]) => latchkey('audit', 'verify', ...args);
    expect(await run(path)).toMatch(/^latchkey: USAGE_INVALID: [^\n]*takes --key; [^\n]+\n$/u);
    expect(await run(path, '--receipts', path)).toMatch(/^latchkey: USAGE_INVALID: receipts are compared/u);
    for (const line of [
      '{}',
      JSON.stringify(log[0]),
      JSON.stringify({ ...part[0], proof: ['x'] }),
      '{"proof":1}',
    ]) {
      expect(await verdict(`${JSON.stringify(header(actor))}\n${line}\n`)).toMatch(
        /^latchkey: INPUT_MALFORMED: \S+, line 2, is not an audit event with its proof/u,
      );
    }
    const headers = [
      { ...header(), format: 'latchkey-audit-proofs/2' },
      { ...header(), filter: { x: 'y' } },
      [],
      5,
    ];
    for (const other of headers) {
      expect(await verdict(`${JSON.stringify(other)}\n`)).toMatch(
        /^latchkey: (?:INPUT_MALFORMED|USAGE_INVALID): /u,
      );
    }
  });

  it('holds an event at least', async () => {
    expect(await verdict(lines([header(actor)]))).toMatch(/^latchkey: STATE_DAMAGED: .*it holds no event;/u);
  });
});
