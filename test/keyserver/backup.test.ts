/** Backups of a key server that runs, and what a restore of one brings back, voids, and cannot know. */
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { SealClient } from '../../cli/seal-client.ts';
import { TABLE_KEYS } from '../../keyserver/db/table-keys.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import {
  databaseKind,
  openServerStore,
  removeServerDatabase,
  serverDatabaseUrl,
} from '../../lab/server-database.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { runKilledAt } from '../fakes/killed-program.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let directory: string;
let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;
let late: LicensedNode;
let leaseId: string;
let licenseId: string;
let backup: string;
const targets: string[] = [];

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'OK',
    (error: unknown) => (error as LatchkeyError).code,
  );

function run(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return runLatchkey(['server', ...args], {
    directory,
    env: {
      LATCHKEY_SERVER: server.adminUrl,
      LATCHKEY_TOKEN_FILE: join(server.dataDirectory, 'admin.token'),
      ...env,
    },
  });
}

/** A place for a restored key server: on the database of this run, or on SQLite. */
async function target(kind = databaseKind()): Promise<{ data: string; env: Record<string, string> }> {
  const data = await mkdtemp(join(tmpdir(), 'latchkey-restored-'));
  targets.push(data);
  const url = kind === 'SQLite' ? '' : ((await serverDatabaseUrl(data)) ?? '');
  return { data, env: { LATCHKEY_DATABASE: url } };
}

const rootKey = () => join(server.dataDirectory, 'root.key');

async function restoreInto(
  file: string,
  { data, env }: Awaited<ReturnType<typeof target>>,
  ...args: string[]
) {
  return run(['restore', file, '--data', data, '--root-key', rootKey(), ...args], env);
}

/** Bytes of the backup, changed. */
async function altered(change: (bytes: Buffer) => Buffer): Promise<string> {
  const file = join(directory, `altered-${Math.random()}`);
  await writeFile(file, change(await readFile(backup)));
  return file;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-backup-'));
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  licenseId = license.id;
  node = await activateNode(server, licenseKey);
  await node.acquire(sold.image);
  leaseId = (await sold.client.leases())[0]?.id ?? '';
  backup = join(directory, 'keys.backup');
});

afterAll(async () => {
  for (const one of [node, late]) one.close();
  await server.dispose();
  for (const data of targets) {
    await removeServerDatabase(data);
    await rm(data, { recursive: true, force: true });
  }
  await rm(directory, { recursive: true });
});

const stopsSelling = new AbortController();

async function sellForEver(): Promise<never> {
  for (;;) {
    stopsSelling.signal.throwIfAborted();
    await sold.sell();
  }
}

describe('latchkey server backup', () => {
  it('knows every table, each behind those that it refers to', async () => {
    const { data } = await target();
    await startKeyServer({ dataDirectory: data }).then((other) => other.stop());
    const store = await openServerStore(data);
    try {
      const tables = (await store.read.introspection.getTables()).map(({ name }) => name);
      expect(Object.keys(TABLE_KEYS).toSorted()).toEqual(tables.toSorted());
    } finally {
      await store.close();
    }
  });

  it('takes the permission for it and the keys, and overwrites nothing', async () => {
    const { token } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' });
    const refused = await run(['backup', backup], { LATCHKEY_TOKEN_FILE: '', LATCHKEY_TOKEN: token });
    expect(refused.stderr).toMatch(/^latchkey: AUTH_FORBIDDEN: .+\n$/);
    const { organizationId } = await new SealClient(server.adminUrl, new AbortController().signal).status();
    await sold.client.seal({ organizationId, reason: 'a test' });
    const sealed = await run(['backup', backup]);
    expect(sealed).toMatchObject({ status: 77, stdout: '' });
    expect(sealed.stderr).toMatch(/^latchkey: DENIED_SEALED: .+; .+\n$/);
    await run(['unseal', '--root-key', rootKey()]);
    await writeFile(backup, 'mine');
    expect((await run(['backup', backup])).stderr).toMatch(/^latchkey: STATE_CONFLICT: .+; .+\n$/);
    expect(await readFile(backup, 'utf8')).toBe('mine');
    await rm(backup);
    // Nothing is left of those that failed.
    expect(await readdir(directory)).toEqual([]);
  });

  it('is made while everything goes on, by a token that can do nothing else', async () => {
    const { token } = await sold.client.createToken({ name: 'cron', permissionSet: 'backup' });
    const making = run(['backup', backup, '--json'], { LATCHKEY_TOKEN_FILE: '', LATCHKEY_TOKEN: token });
    const made = await Promise.race([making, sellForEver()]);
    stopsSelling.abort();
    expect(made).toMatchObject({ status: 0, stderr: '' });
    const { sizeBytes } = JSON.parse(made.stdout) as { sizeBytes: number };
    // Neither the copy of the database nor anything readable is left.
    const left = async () =>
      (await readdir(server.dataDirectory)).filter((name) => name.includes('snapshot'));
    await expect.poll(left).toEqual([]);
    const bytes = await readFile(backup);
    expect(bytes.length).toBe(sizeBytes);
    expect(bytes.includes('Initech')).toBe(false);
    expect(bytes.includes(licenseId)).toBe(false);
  });
});

describe('latchkey server restore refuses', () => {
  it.each([
    [
      'a flipped bit',
      (b: Buffer) => b.map((byte, at) => (at === b.length - 100 ? byte ^ 1 : byte)),
      'CRYPTO_AUTHENTICATION_FAILED: the backup is damaged: piece',
    ],
    [
      'a later schema',
      (b: Buffer) =>
        Buffer.from(b.toString('latin1').replace(/"schema":"[^"]+"/, '"schema":"9999-later"'), 'latin1'),
      'STATE_NEWER_SCHEMA: the backup was made by a newer Latchkey',
    ],
  ])('%s in one line, and touches nothing', async (_name, change, message) => {
    const place = await target('SQLite');
    const refused = await restoreInto(await altered(change as (bytes: Buffer) => Buffer), place);
    expect(refused).toMatchObject({ stdout: '' });
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain(`latchkey: ${message}`);
    expect(refused.stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(await readdir(place.data)).toEqual([]);
  });

  it('another root key, and a file that is not there', async () => {
    const place = await target('SQLite');
    const wrong = join(directory, 'wrong.key');
    await writeFile(wrong, `${'0'.repeat(64)}\n`, { mode: 0o600 });
    const refused = await run(['restore', backup, '--data', place.data, '--root-key', wrong], place.env);
    expect(refused.stderr).toMatch(/^latchkey: KEY_INVALID: .+; .+\n$/);
    expect((await restoreInto('nothing', place)).stderr).toMatch(/^latchkey: STATE_NOT_FOUND: .+; .+\n$/);
  });

  it('a database that is not empty', async () => {
    const { data } = await target();
    await startKeyServer({ dataDirectory: data }).then((other) => other.stop());
    const url = (await serverDatabaseUrl(data)) ?? '';
    const refused = await restoreInto(backup, { data, env: { LATCHKEY_DATABASE: url } });
    expect(refused.stderr).toMatch(/^latchkey: STATE_CONFLICT: there is a key server .+; .+\n$/);
  });
});

describe('a restored key server', () => {
  let restored: TestKeyServer;
  afterAll(() => restored.stop());
  let events: readonly AuditEvent[];

  it('is read without being restored', async () => {
    const place = await target();
    const stdout = expect.stringContaining('the backup is whole; nothing was restored') as string;
    expect(await restoreInto(backup, place, '--dry-run')).toMatchObject({ status: 0, stderr: '', stdout });
    expect(await readdir(place.data)).toEqual([]);
  });

  it('is whole or not at all when its restore is killed', async () => {
    const key = JSON.stringify({ rootKey: (await readFile(rootKey(), 'utf8')).trim() });
    const restore = ({ data, env }: Awaited<ReturnType<typeof target>>, killAt: number) =>
      runKilledAt(killAt, ['restore', `--data=${data}`, backup], key, env);
    const { moments, answer } = await restore(await target(), 0);
    expect(answer).toContain('"restored":true');
    // In the schema, and in the rows.
    for (const killAt of [0.3, 0.8].map((part) => Math.floor(part * moments))) {
      const place = await target();
      expect((await restore(place, killAt)).answer).toBe('');
      expect((await restore(place, 0)).answer).toContain('"restored":true');
    }
    // From the end to before the commit.
    const outcomes = new Set<string>();
    for (let killAt = moments; !outcomes.has('not yet'); killAt -= Math.ceil(moments / 16)) {
      const place = await target();
      expect((await restore(place, killAt)).answer).toBe('');
      const again = (await restore(place, 0)).answer;
      outcomes.add(
        again.includes('"restored":true') ? 'not yet' : (/STATE_CONFLICT/.exec(again)?.[0] ?? again),
      );
    }
    expect([...outcomes]).toEqual(['STATE_CONFLICT', 'not yet']);
  });

  it('is what the backup saw, on either database', async () => {
    events = await auditLog(sold.client);
    await sold.client.changeLicense(licenseId, 'revoke', 'a chargeback');
    late = await activateNode(server, (await sold.sell()).licenseKey);
    const { revision } = await sold.client.organization();
    await server.stop();
    // To the other kind, where this run has another, and back.
    const place = await target('SQLite');
    const done = await restoreInto(backup, place);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout).toContain('Do it again');
    const start = async (at: typeof place) => {
      const started = await startKeyServer({
        dataDirectory: at.data,
        env: { ...process.env, ...at.env },
        args: ['--root-key', rootKey()],
      });
      return { ...started, adminToken: server.adminToken };
    };
    restored = await start(place);
    const client = adminClient(restored);
    expect((await client.license(licenseId)).state).toBe('ACTIVE');
    expect((await client.organization()).revision).toBeGreaterThan(revision);
    // What was given out before is void; the node that was there gets new leases, the later one is not known.
    const again = new LicensedNode(restored, node.key, node.activation);
    const [renewal] = (await again.renew([leaseId])).results;
    expect(renewal?.outcome?.$case).toBe('denial');
    const answer = await again.acquire(sold.image);
    expect(Buffer.from(await again.openImageKey(answer))).toEqual(Buffer.from(sold.image.imageKey));
    again.close();
    const lost = new LicensedNode(restored, late.key, late.activation);
    expect(await codeOf(lost.acquire(sold.image))).toBe('DENIED_NODE_UNKNOWN');
    lost.close();
    await expectGenuineLog(client);
    // Once more, from the restored one to the database of this run, and newer than that again.
    const next = join(directory, 'next.backup');
    const env = { LATCHKEY_SERVER: restored.adminUrl };
    expect(await run(['backup', next], env)).toMatchObject({ status: 0, stderr: '' });
    const { revision: first } = await client.organization();
    await restored.stop();
    const last = await target();
    expect(await restoreInto(next, last)).toMatchObject({ status: 0, stderr: '' });
    restored = await start(last);
    const { epoch } = await adminClient(restored).license(licenseId);
    await restored.stop();
    // The first backup again, which knows nothing of all that: nodes have seen nothing that is newer.
    const third = await target();
    expect(await restoreInto(backup, third)).toMatchObject({ status: 0, stderr: '' });
    restored = await start(third);
    expect((await adminClient(restored).organization()).revision).toBeGreaterThan(first);
    expect((await adminClient(restored).license(licenseId)).epoch).toBeGreaterThan(epoch);
  });

  /** The log goes on from where the backup was, and says what happened. */
  async function expectGenuineLog(client: ReturnType<typeof adminClient>): Promise<void> {
    await verifyAuditLog(client.auditEvents());
    const log = await auditLog(client);
    const at = log.findIndex(({ action }) => action === 'organization.restore');
    expect(log.slice(0, at)).toEqual(events.slice(0, at));
    expect(log.slice(0, at).map(({ action }) => action)).toContain('custody.backup');
    expect(log[at]?.detail).toMatchObject({ auditEvents: at });
    const { checkpoint } = await client.auditCheckpoint();
    expect(Number(checkpoint.split('\n')[1])).toBe((await auditLog(client)).length);
  }
});
