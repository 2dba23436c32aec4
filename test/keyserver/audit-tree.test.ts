import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { auditHash } from '#src/crypto/audit-chain.ts';
import { auditTreeEntry, openCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import { type NoteVerifier, parseVerifierKey } from '#src/crypto/signed-note.ts';
import { TileTree, leafHash } from '#src/crypto/tile-tree.ts';
import { againstCheckpoints, readCheckpoints } from '../../cli/audit-checkpoints.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { tileAddress } from '../../keyserver/http/routes/audit-tree.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { copyServerData, openServerStore, removeServerDatabase } from '../../lab/server-database.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let directory: string;
let dataDirectory: string;
let kept: string;
let verifier: NoteVerifier;
let server: TestKeyServer | null = null;

const start = async (...more: string[]) => {
  server = await startKeyServer({ dataDirectory, args: [`--audit-checkpoints=${kept}`, ...more] });
  return server;
};
const stop = async () => {
  await server?.stop();
  server = null;
};
const verify = async (from: TestKeyServer) =>
  verifyAuditLog(
    againstCheckpoints(adminClient(from).auditEvents(), await readCheckpoints(kept, verifier)),
  ).then(
    () => 'verified',
    (error: unknown) => (error as Error).message,
  );
const raw = async (from: TestKeyServer, path: string) => {
  const headers = { authorization: `Bearer ${from.adminToken}` };
  const response = await fetch(new URL(path, from.adminUrl), { headers });
  return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()) };
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-audit-tree-'));
  dataDirectory = join(directory, 'data');
  kept = join(directory, 'kept');
  const first = await start();
  const sold = await createSoldProduct(first);
  for (let count = 0; count < 260; count += 1) await sold.sell();
  verifier = parseVerifierKey((await adminClient(first).auditCheckpoint()).verifierKey);
  await stop();
  await copyServerData(dataDirectory, join(directory, 'older'));
});

afterAll(async () => {
  await stop();
  for (const name of ['data', 'older', 'newer']) await removeServerDatabase(join(directory, name));
  await rm(directory, { recursive: true, force: true });
});

describe('the tree over the audit log', () => {
  it('is served as tiles from which the signed root is computed, also after a restart', async () => {
    const running = await start();
    const { checkpoint } = await adminClient(running).auditCheckpoint();
    const { size, root } = openCheckpoint(checkpoint, verifier, 'c');
    const events = await auditLog(adminClient(running));
    expect(size).toBe(events.length);
    const tree = new TileTree();
    for (const event of events) tree.add(leafHash(auditTreeEntry(event)));
    expect(Buffer.from(tree.root())).toEqual(root);

    const width = size - 256;
    const full = await raw(running, '/tlog/tile/0/000');
    const partial = await raw(running, `/tlog/tile/0/001.p/${width}`);
    const above = await raw(running, '/tlog/tile/1/000.p/1');
    expect([full.bytes.length, partial.bytes.length, above.bytes.length]).toEqual([256 * 32, width * 32, 32]);
    const leaves = Array.from({ length: 256 }, (_, index) =>
      full.bytes.subarray(index * 32, index * 32 + 32),
    );
    const rebuilt = new TileTree();
    const roots = leaves.flatMap((leaf) => rebuilt.add(leaf));
    expect(Buffer.from(roots[0]!.root)).toEqual(above.bytes);
    for (let at = 0; at < width; at += 1) rebuilt.add(partial.bytes.subarray(at * 32, at * 32 + 32));
    expect(Buffer.from(rebuilt.root())).toEqual(root);

    const bundle = await raw(running, '/tlog/tile/entries/000');
    const length = bundle.bytes.readUInt16BE(0);
    expect(Buffer.from(leafHash(bundle.bytes.subarray(2, 2 + length)))).toEqual(leaves[0]);
    expect((await raw(running, '/tlog/checkpoint')).bytes.toString()).toBe(checkpoint);
    for (const path of [
      '0/001',
      `0/001.p/${width + 1}`,
      '0/000.p/256',
      '9/000',
      '0/x000/000',
      '64/000',
      '0/..',
    ]) {
      expect((await raw(running, `/tlog/tile/${path}`)).status).toBe(404);
    }
    expect((await fetch(new URL('/tlog/checkpoint', running.adminUrl))).status).toBe(401);
    expect(await verify(running)).toBe('verified');
  });

  it('proves a part of the log to whoever has kept a checkpoint', async () => {
    const running = server!;
    const client = adminClient(running);
    const run = (...args: string[]) => adminCommand(running, 'audit', ...args);
    const [keyFile, since, part] = ['audit.key', 'since.checkpoint', 'part.jsonl'].map((name) =>
      join(directory, name),
    ) as [string, string, string];
    await writeFile(keyFile, await run('key'));
    await writeFile(since, (await client.auditCheckpoint()).checkpoint);
    const { id } = await client.createCustomer({ name: 'Proven' });
    await client.changeCustomer(id, 'block');
    expect(await run('export', part, '--with-proofs', '--target', id, '--since', since)).toBe(
      `2 events written to ${part}, each with its proof\n`,
    );
    const { size } = openCheckpoint((await client.auditCheckpoint()).checkpoint, verifier, 'c');
    const verified = await run('verify', part, '--key', keyFile, '--checkpoints', since);
    expect(verified).toContain(`verifies: 2 of the ${size} events under its checkpoint of target ${id}`);
    expect(verified).toContain('goes on from 1 checkpoint(s)');
    // All that the key server has kept, and everything in it.
    const whole = join(directory, 'whole.jsonl');
    await run('export', whole, '--with-proofs', '--since', kept);
    expect(await run('verify', whole, '--key', keyFile, '--checkpoints', kept)).toContain(
      `${size} of the ${size} events`,
    );
    expect(await run('export', join(directory, 'no'), '--since', since)).toMatch(
      /^latchkey: USAGE_INVALID: --since is for an export with proofs; .*--with-proofs\n$/u,
    );
    expect(await run('export', part, '--with-proofs')).toMatch(/^latchkey: STATE_CONFLICT: /u);
    expect(await run('export', join(directory, 'no'), '--with-proofs', '--target', 'lic_x')).toMatch(
      /^latchkey: STATE_NOT_FOUND: the log has no event of target "lic_x"; /u,
    );
    const nowhere = join(directory, 'nowhere');
    expect(await run('export', join(directory, 'no'), '--with-proofs', '--since', nowhere)).toMatch(
      /^latchkey: STATE_NOT_FOUND: there is no checkpoint /u,
    );
    await stop();
  });

  it('has tile addresses as the spec writes them', () => {
    expect(tileAddress('0', 'x001/x234/067', 1e12)).toEqual({ level: 0, from: 1_234_067 * 256, width: 256 });
    expect(tileAddress('entries', '000.p/3', 3)).toEqual({ level: null, from: 0, width: 3 });
    expect(tileAddress('1', '000', 65_535)).toBeNull();
  });
});

describe('a log that was changed', () => {
  it('lost its end: the start refuses it, and a kept checkpoint shows it', async () => {
    const running = await start();
    await adminClient(running).createCustomer({ name: 'Later' });
    await stop();
    const newer = join(directory, 'newer');
    await copyServerData(dataDirectory, newer);
    await rm(dataDirectory, { recursive: true });
    await copyServerData(join(directory, 'older'), dataDirectory);
    await expect(start()).rejects.toThrow(/STATE_DAMAGED: the audit log lacks events/u);
    const before = await mkdtemp(join(directory, 'before-'));
    await cp(kept, before, { recursive: true });
    const older = await startKeyServer({ dataDirectory });
    expect(await verify(older)).toMatch(/does not verify: event \d+ is missing \(the log ends/u);
    await older.stop();
    // On purpose: the operator says so once, and is believed from then on.
    await start('--after-restore');
    await stop();
    await start();
    await stop();
    await rm(dataDirectory, { recursive: true });
    await copyServerData(newer, dataDirectory);
    await rm(kept, { recursive: true });
    await cp(before, kept, { recursive: true });
  });

  it('was written anew with a chain that is right in itself', async () => {
    const running = await start();
    const events = await auditLog(adminClient(running));
    await stop();
    const store = await openServerStore(dataDirectory);
    let previousHash = events[2]!.previousHash;
    for (const event of events.slice(2)) {
      const forged = event.sequence === 3 ? { ...event, target: 'lic_other' } : event;
      const hash = auditHash(previousHash, forged);
      const changed = { target: forged.target, previous_hash: previousHash, hash };
      await store.write((writer) =>
        writer.updateTable('audit_event').set(changed).where('sequence', '=', event.sequence).execute(),
      );
      previousHash = hash;
    }
    await store.close();
    await expect(start()).rejects.toThrow(/STATE_DAMAGED: the audit log is not the log/u);
    const forged = await startKeyServer({ dataDirectory });
    expect(await verifyAuditLog(adminClient(forged).auditEvents())).toMatchObject({
      sequence: events.length,
    });
    expect(await verify(forged)).toMatch(/does not verify: events 1 to \d+ are not those of/u);
    await forged.stop();
  });

  it('says so when a checkpoint was changed, is missing, or signed by another key', async () => {
    const [name = ''] = await readdir(kept);
    const path = join(directory, 'changed.checkpoint');
    const note = await readFile(join(kept, name), 'utf8');
    await writeFile(path, note.replace(/\n(\d+)\n/u, '\n1\n'));
    await expect(readCheckpoints(path, verifier)).rejects.toThrow(/wrong signature/u);
    await expect(readCheckpoints(join(directory, 'none'), verifier)).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
    });
    await expect(readCheckpoints(directory, verifier)).rejects.toThrow(/wrong signature/u);
  });
});
