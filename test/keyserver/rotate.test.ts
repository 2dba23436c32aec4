/** New keys at each level: everything is wrapped anew, and nothing that was encrypted or signed changes. */
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { SealClient } from '../../cli/seal-client.ts';
import { WebhookClient } from '../../cli/webhook-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { databaseKind, openServerStore, serverDatabaseUrl } from '../../lab/server-database.ts';
import { type CommandPlace, runLatchkey, runLatchkeyInto } from '../fakes/command-line.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { runKilledAt } from '../fakes/killed-program.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let directory: string;
let sold: SoldProduct;
let node: LicensedNode;
let rootKey: string;
const SHARES = { label: 'people', shares: 3, threshold: 2, replaces: false };

async function rotate(...args: string[]) {
  return runLatchkey(...(await rotation(args)));
}

async function rotation(args: readonly string[]): Promise<[string[], CommandPlace]> {
  const url = await serverDatabaseUrl(directory);
  return [
    ['server', 'rotate', '--data', directory, ...args],
    { directory, ...(url === null ? {} : { env: { LATCHKEY_DATABASE: url } }) },
  ];
}

/** Every column that holds something wrapped, of every table, whoever adds one. */
async function wrapped(): Promise<Map<string, string>> {
  const store = await openServerStore(directory);
  try {
    const found = new Map<string, string>();
    for (const table of await store.read.introspection.getTables()) {
      const columns = table.columns.map(({ name }) => name).filter((name) => name.startsWith('wrapped_'));
      for (const column of columns) {
        const { rows } = await sql<Record<string, Buffer | null>>`
          select ${sql.ref(column)} as value from ${sql.table(table.name)}
        `.execute(store.read);
        const secrets = rows.flatMap(({ value }) => (value == null || value.length === 0 ? [] : [value]));
        // PostgreSQL gives rows in any order; nothing here has two.
        for (const [index, secret] of secrets.entries())
          found.set(`${table.name}.${column}.${index}`, Buffer.from(secret).toString('hex'));
      }
    }
    return found;
  } finally {
    await store.close();
  }
}

async function start(shares: readonly string[] = []): Promise<void> {
  server = await startKeyServer({ dataDirectory: directory });
  const client = new SealClient(server.adminUrl, new AbortController().signal);
  for (const share of shares) await client.unseal({ share });
  const endpoints = JSON.parse(await readFile(join(directory, 'endpoints.json'), 'utf8')) as object;
  server = { ...server, ...endpoints };
}

/** The node of before gets the image key of before, and a new license can be sold and used. */
async function expectEverythingWorks(): Promise<void> {
  const again = new LicensedNode(server, node.key, node.activation);
  const answer = await again.acquire(sold.image);
  expect(Buffer.from(await again.openImageKey(answer))).toEqual(Buffer.from(sold.image.imageKey));
  again.close();
  const product = await createSoldProduct(server);
  (await activateNode(server, (await product.sell()).licenseKey)).close();
  sold = { ...product, image: sold.image };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-rotate-'));
  await start();
  sold = await createSoldProduct(server);
  node = await activateNode(server, (await sold.sell()).licenseKey);
  node.close();
  const webhooks = new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
  await webhooks.create({ url: 'https://crm.acme.example/hook', events: ['license.revoke'] });
  const { webhookEndpoint } = await webhooks.create({ url: 'https://crm.acme.example/', events: ['*'] });
  await webhooks.delete(webhookEndpoint.id);
  rootKey = join(directory, 'root.key');
});

afterAll(async () => {
  await server.dispose();
});

it('is refused while a key server runs', async () => {
  const refused = await rotate('--root-key', rootKey);
  expect(refused).toMatchObject({ status: 65, stdout: '' });
  expect(refused.stderr).toMatch(/^latchkey: STATE_CONFLICT: .+; .+\n$/);
  await server.stop();
});

it('is refused without what opens the root key, and changes nothing then', async () => {
  const before = await wrapped();
  const wrong = join(directory, 'wrong');
  await writeFile(wrong, `${'0'.repeat(64)}\n`, { mode: 0o600 });
  expect((await rotate('--root-key', wrong)).stderr).toContain('KEY_INVALID');
  await writeFile(wrong, 'no key at all\n');
  expect((await rotate('--root-key', wrong)).stderr).toMatch(
    /^latchkey: KEY_INVALID: .+ 64 hex digits; .+\n$/,
  );
  await chmod(wrong, 0o644);
  expect((await rotate('--root-key', wrong)).stderr).toContain('CONFIG_INVALID');
  expect(await wrapped()).toEqual(before);
});

it('changes nothing when one key of many cannot be wrapped anew', async () => {
  const before = await wrapped();
  const store = await openServerStore(directory);
  const [row] = await store.read.selectFrom('image_key').select(['id', 'wrapped_key']).execute();
  const damaged = Buffer.from(row?.wrapped_key ?? []).map((byte, index) => (index === 20 ? byte ^ 1 : byte));
  await store.write((writer) => writer.updateTable('image_key').set({ wrapped_key: damaged }).execute());
  await store.close();
  const failed = await rotate('--root-key', rootKey);
  expect(failed.stderr).toContain('CRYPTO_AUTHENTICATION_FAILED');
  const after = await wrapped();
  for (const [name, hex] of before)
    if (!name.startsWith('image_key')) expect(after.get(name), name).toBe(hex);
  const mended = await openServerStore(directory);
  const original = row?.wrapped_key ?? new Uint8Array();
  await mended.write((writer) => writer.updateTable('image_key').set({ wrapped_key: original }).execute());
  await mended.close();
});

it('wraps every key anew under a new organization key, and everything works as before', async () => {
  const before = await wrapped();
  const rotated = await rotate('--root-key', rootKey);
  expect(rotated).toMatchObject({ status: 0, stderr: '' });
  expect(rotated.stdout).toMatch(/image keys +1/);
  const after = await wrapped();
  expect([...after.keys()]).toEqual([...before.keys()]);
  for (const [name, hex] of after) expect(hex, name).not.toBe(before.get(name));
  expect(after.size).toBeGreaterThan(7);
  if (databaseKind() === 'SQLite') {
    // Not in free pages either.
    const file = await readFile(join(directory, 'latchkey.db'));
    for (const [name, hex] of before) expect(file.includes(Buffer.from(hex, 'hex')), name).toBe(false);
  }
  await start();
  await expectEverythingWorks();
  const rotation = (await auditLog(sold.client)).find(({ action }) => action === 'custody.rotate');
  expect(rotation?.detail).toEqual({ level: 'organization', imageKeys: 1 });
});

it('puts a new root key into its file, whenever a rotation was cut off', async () => {
  const old = await readFile(rootKey, 'utf8');
  await server.stop();
  expect(await rotate('--root', '--root-key', rootKey)).toMatchObject({ status: 0, stderr: '' });
  const next = await readFile(rootKey, 'utf8');
  expect(next).not.toBe(old);
  expect((await stat(rootKey)).mode & 0o777).toBe(0o600);
  // As it is when the rotation dies between the database and the file; the next start finishes it.
  await writeFile(rootKey, old, { mode: 0o600 });
  await writeFile(`${rootKey}.new`, next, { mode: 0o600 });
  await start();
  expect(await readFile(rootKey, 'utf8')).toBe(next);
  expect(await readdir(directory)).not.toContain('root.key.new');
  await expectEverythingWorks();
  const withOld = adminClient(server).addSharedSlot({ ...SHARES, proof: { rootKey: old.trim() } });
  await expect(withOld).rejects.toMatchObject({ code: 'KEY_INVALID' });
});

it('finds no secret of a webhook endpoint that was deleted, and needs none', async () => {
  await server.stop();
  const store = await openServerStore(directory);
  try {
    const query = store.read.selectFrom('webhook_endpoint').select(['state', 'wrapped_secret']).orderBy('id');
    const rows = await query.execute();
    expect(rows.map(({ state, wrapped_secret: secret }) => [state, secret.length > 0])).toEqual([
      ['ENABLED', true],
      ['DELETED', false],
    ]);
  } finally {
    await store.close();
  }
  await start();
});

/** That were committed so far. */
async function rotations(): Promise<number> {
  const store = await openServerStore(directory);
  try {
    const rows = await store.read
      .selectFrom('audit_event')
      .select('sequence')
      .where('action', '=', 'custody.rotate')
      .execute();
    return rows.length;
  } finally {
    await store.close();
  }
}

it.each(['organization', 'root'])(
  'opens everything after a rotation of the %s key that was killed at any write',
  async (level) => {
    await server.stop();
    const args = ['rotate', `--data=${directory}`, ...(level === 'root' ? ['--root'] : [])];
    const proofs = async () => {
      const files = [rootKey, `${rootKey}.new`].filter((file) => existsSync(file));
      return Promise.all(files.map(async (file) => (await readFile(file, 'utf8')).trim()));
    };
    const url = await serverDatabaseUrl(directory);
    const env = url === null ? {} : { LATCHKEY_DATABASE: url };
    const attempt = async (killAt: number, more: readonly string[] = args) => {
      for (const key of await proofs()) {
        const { answer, moments } = await runKilledAt(
          killAt,
          more,
          `${JSON.stringify({ rootKey: key })}\ntaken\n`,
          env,
        );
        if (!answer.includes('KEY_INVALID')) return { answer, moments };
      }
      throw new Error('nothing opens the database');
    };
    // What a new root key comes to is said before it counts.
    const hasEnded = (answer: string) => answer.split('\n').length > (level === 'root' ? 2 : 1);
    const { moments, answer } = await attempt(0);
    expect(hasEnded(answer)).toBe(true);
    const done = new Set<number>();
    // From behind the commit to before it.
    let earlier = await rotations();
    for (const before of [0, 2, 3, 8]) {
      expect(hasEnded((await attempt(moments - before)).answer)).toBe(false);
      const now = await rotations();
      done.add(now - earlier);
      earlier = now;
      // It finishes what was cut off.
      await start();
      await server.stop();
    }
    expect([...done].toSorted()).toEqual([0, 1]);
    // Opens every wrapped key that there is, or fails.
    expect((await attempt(0, args.slice(0, 2))).answer).toContain('"imageKeys":');
    await start();
    await expectEverythingWorks();
  },
);

it('takes the root key out of its file, and makes the file and all older shares worthless', async () => {
  const key = (await readFile(rootKey, 'utf8')).trim();
  const { client } = sold;
  const added = await client.addSharedSlot({ ...SHARES, proof: { rootKey: key } });
  const { slots } = await new SealClient(server.adminUrl, new AbortController().signal).status();
  const file = slots.find(({ kind }) => kind === 'file')?.id ?? '';
  await client.removeSlot(file, { shares: added.shares.slice(0, 2) });
  await server.stop();
  const files = added.shares.slice(0, 2).map((_, index) => join(directory, `share-${index}`));
  for (const [index, path] of files.entries()) {
    await writeFile(path, added.shares[index] ?? '', { mode: 0o600 });
  }
  const before = await rotations();
  // Whoever could not be told the new shares keeps the old ones.
  const unwritten = await runLatchkeyInto(
    '/dev/full',
    ...(await rotation(['--root', '--share-file', ...files])),
  );
  expect(unwritten.stderr).toMatch(/^latchkey: STORAGE_FULL: .+; the keys are as they were\n$/);
  const proof = `${JSON.stringify({ shares: added.shares.slice(0, 2) })}\n`;
  const url = await serverDatabaseUrl(directory);
  const env = url === null ? {} : { LATCHKEY_DATABASE: url };
  const untaken = await runKilledAt(0, ['rotate', `--data=${directory}`, '--root'], proof, env);
  expect(untaken.answer).toContain('INTERRUPTED');
  expect(await rotations()).toBe(before);
  const rotated = await rotate('--root', '--json', '--share-file', ...files);
  expect(await rotations()).toBe(before + 1);
  const [people] = (JSON.parse(rotated.stdout) as { slots: { label: string; shares: string[] }[] }).slots;
  expect(people).toMatchObject({ label: 'people' });
  await rm(rootKey);
  await start();
  const sealClient = new SealClient(server.adminUrl, new AbortController().signal);
  const codeOf = (input: Parameters<SealClient['unseal']>[0]) =>
    sealClient.unseal(input).then(
      () => 'OK',
      (error: unknown) => (error as LatchkeyError).code,
    );
  expect(await codeOf({ rootKey: key })).toBe('KEY_INVALID');
  expect(await codeOf({ share: added.shares[0] ?? '' })).toBe('KEY_INVALID');
  for (const share of people?.shares.slice(1) ?? []) await sealClient.unseal({ share });
  expect(await sealClient.status()).toMatchObject({ isSealed: false });
  await expectEverythingWorks();
});
