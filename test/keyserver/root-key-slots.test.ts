/** A root key behind shares: made, opened, shared anew, and what opens nothing any more. */
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { formatKeyShare, parseKeyShare } from '#src/crypto/key-share.ts';
import { SealClient } from '../../cli/seal-client.ts';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { removeServerDatabase, serverDatabaseUrl } from '../../lab/server-database.ts';
import { type CommandPlace, runLatchkey, runLatchkeyInto } from '../fakes/command-line.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

interface Slots {
  readonly slots: readonly { readonly label: string; readonly shares: readonly string[] }[];
}

let directory: string;
let server: TestKeyServer;
let adminUrl = '';
let sold: SoldProduct;
let primary: readonly string[];
let emergency: readonly string[];

const signal = new AbortController().signal;
const client = () => new SealClient(server.adminUrl, signal);
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'OK',
    (error: unknown) => (error as LatchkeyError).code,
  );

async function place(): Promise<CommandPlace> {
  const url = await serverDatabaseUrl(directory);
  return {
    directory,
    env: {
      LATCHKEY_SERVER: adminUrl,
      LATCHKEY_TOKEN_FILE: join(directory, 'admin.token'),
      ...(url === null ? {} : { LATCHKEY_DATABASE: url }),
    },
  };
}

async function latchkey(...args: string[]) {
  return runLatchkey(['server', ...args], await place());
}

async function unsealWith(shares: readonly string[]): Promise<boolean> {
  let isSealed = true;
  for (const share of shares) ({ isSealed } = await client().unseal({ share }));
  return !isSealed;
}

async function given(): Promise<Record<string, number | undefined>> {
  const { slots } = await client().status();
  return Object.fromEntries(slots.map(({ label, shares }) => [label, shares?.given]));
}

async function seal(): Promise<void> {
  const { organizationId } = await client().status();
  await adminClient(server).seal({ organizationId, reason: 'a test' });
}

async function shareFiles(shares: readonly string[]): Promise<string[]> {
  const files = shares.map((_, index) => join(directory, `share-${index}`));
  for (const [index, share] of shares.entries()) {
    await writeFile(files[index] ?? '', `${share}\n`, { mode: 0o600 });
  }
  return files;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-slots-'));
  const made = await latchkey('init', '--data', directory, '--organization', 'Acme', '--json');
  expect(made.stderr).toBe('');
  const { slots } = JSON.parse(made.stdout) as Slots;
  expect(slots.map(({ label, shares }) => [label, shares.length])).toEqual([
    ['primary', 5],
    ['emergency', 5],
  ]);
  [primary, emergency] = slots.map(({ shares }) => shares) as [string[], string[]];
  server = await startKeyServer({ dataDirectory: directory });
  ({ adminUrl } = server);
});

afterAll(async () => {
  await server.dispose();
});

describe('a key server made with shares', () => {
  it('starts sealed, and nothing on its disk opens it', async () => {
    expect(await client().status()).toMatchObject({ isSealed: true });
    expect(await codeOf(client().unseal({ rootKey: '0'.repeat(64) }))).toBe('KEY_INVALID');
  });

  it('tells a typing error, a foreign share and one that was tampered with apart, and each at once', async () => {
    const typo = primary[0]?.replace(/.$/, (last) => (last === '7' ? '8' : '7')) ?? '';
    await expect(client().unseal({ share: typo })).rejects.toThrow('a character is wrong');
    const share = parseKeyShare(primary[0] ?? '');
    const foreign = formatKeyShare({ ...share, setId: '000000000000' });
    await expect(client().unseal({ share: foreign })).rejects.toThrow('another key server');
    const forged = formatKeyShare({ ...share, share: share.share.map((byte) => byte ^ 1) });
    await expect(client().unseal({ share: forged })).rejects.toThrow('not genuine');
    await expect(client().unseal({ share: formatKeyShare({ ...share, threshold: 2 }) })).rejects.toThrow(
      'not genuine',
    );
    // None of them stands in the way of the genuine ones, and giving one twice changes nothing.
    expect(await unsealWith([primary[0]!, primary[0]!])).toBe(false);
    expect(await given()).toEqual({ primary: 1, emergency: 0 });
  });

  it('does not mix two sets, and opens for any three of one', async () => {
    expect(await unsealWith([emergency[4]!, emergency[0]!])).toBe(false);
    expect(await unsealWith([primary[4]!])).toBe(false);
    expect(await unsealWith([primary[2]!])).toBe(true);
    // Nodes are listened to from now on.
    const endpoints = JSON.parse(await readFile(join(directory, 'endpoints.json'), 'utf8')) as object;
    server = { ...server, ...endpoints };
    sold = await createSoldProduct(server);
    const { licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    const answer = await node.acquire(sold.image);
    expect(Buffer.from(await node.openImageKey(answer))).toEqual(Buffer.from(sold.image.imageKey));
    node.close();
  });

  it('forgets the shares it was given once it is open', async () => {
    await seal();
    expect(await given()).toEqual({ primary: 0, emergency: 0 });
    expect(await unsealWith(emergency.slice(1, 3))).toBe(false);
    expect(await unsealWith(emergency.slice(3, 4))).toBe(true);
  });

  it('shows no share anywhere but once', async () => {
    const log = JSON.stringify(await auditLog(sold.client)) + server.log();
    expect(log).toContain('server.unseal');
    expect(log).not.toContain('LKS-');
    expect(JSON.stringify(await client().status())).not.toContain('LKS-');
  });
});

describe('shares that are made anew', () => {
  it('take a quorum of the old ones besides the token', async () => {
    const admin = adminClient(server);
    const terms = { label: 'primary', shares: 3, threshold: 2, replaces: true };
    const without = admin.addSharedSlot({ ...terms, proof: { shares: primary.slice(0, 2) } });
    expect(await codeOf(without)).toBe('KEY_INVALID');
    const mixed = { shares: [...primary.slice(0, 2), emergency[2]!] };
    expect(await codeOf(admin.addSharedSlot({ ...terms, proof: mixed }))).toBe('KEY_INVALID');
    const label = { ...terms, replaces: false, proof: { shares: primary.slice(0, 3) } };
    expect(await codeOf(admin.addSharedSlot(label))).toBe('STATE_CONFLICT');
  });

  it('leave the old ones in force until they are out', async () => {
    const files = await shareFiles(primary.slice(0, 3));
    const args = ['primary', '--replace', '--shares', '3', '--threshold', '2', '--share-file', ...files];
    const full = await runLatchkeyInto('/dev/full', ['server', 'add-shares', ...args], await place());
    expect(full.stderr).toMatch(/^latchkey: STORAGE_FULL: .+\n$/);
    const { slots } = await client().status();
    const old = slots.find(({ label }) => label.startsWith('replaced slot_'));
    expect(old).toMatchObject({ shares: { count: 5, threshold: 3 } });
    await seal();
    expect(await unsealWith(primary.slice(1, 4))).toBe(true);
    // Whoever tries again ends with the newest.
    await adminClient(server).removeSlot(slots.find(({ label }) => label === 'primary')?.id ?? '', {
      shares: primary.slice(0, 3),
    });
    const again = { label: 'primary', shares: 5, threshold: 3, replaces: false };
    const added = await adminClient(server).addSharedSlot({
      ...again,
      proof: { shares: primary.slice(0, 3) },
    });
    expect(added.replacedSlotId).toBe(null);
    await adminClient(server).removeSlot(old?.id ?? '', { shares: added.shares.slice(0, 3) });
    primary = added.shares;
  });

  it('open the key server, and the old ones nothing any more', async () => {
    const files = await shareFiles(primary.slice(0, 3));
    const args = ['primary', '--replace', '--shares', '3', '--threshold', '2', '--share-file', ...files];
    const added = await latchkey('add-shares', ...args);
    expect(added.stderr).toBe('');
    const shares = added.stdout.match(/LKS-[0-9A-Z-]+/g) ?? [];
    expect(shares).toHaveLength(3);
    await seal();
    expect(await codeOf(client().unseal({ share: primary[0]! }))).toBe('KEY_INVALID');
    const unsealed = await latchkey('unseal', '--share-file', ...(await shareFiles(shares.slice(1))));
    expect(unsealed.stdout).toMatch(/state +unsealed/);
    expect(unsealed.stderr).toContain('1 of 2 shares of primary given');
    primary = shares;
  });

  it('are removed, but for the last slot', async () => {
    const { slots } = await client().status();
    const emergencySlot = slots.find(({ label }) => label === 'emergency')?.id ?? '';
    const primarySlot = slots.find(({ label }) => label === 'primary')?.id ?? '';
    const proof = { shares: primary.slice(0, 2) };
    expect(await codeOf(adminClient(server).removeSlot('slot_none', proof))).toBe('STATE_NOT_FOUND');
    const removed = await latchkey(
      'remove-slot',
      emergencySlot,
      '--share-file',
      ...(await shareFiles(proof.shares)),
    );
    expect(removed.stdout).toBe(`slot ${emergencySlot} removed\n`);
    expect(await codeOf(adminClient(server).removeSlot(primarySlot, proof))).toBe('STATE_PRECONDITION');
    await seal();
    expect(await codeOf(client().unseal({ share: emergency[0]! }))).toBe('KEY_INVALID');
    expect(await unsealWith(proof.shares)).toBe(true);
    const actions = (await auditLog(sold.client)).map(({ action }) => action);
    expect(actions).toEqual(expect.arrayContaining(['custody.add-slot', 'custody.remove-slot']));
  });
});

describe('latchkey server init', () => {
  it.each([
    [['--shares', '2', '--threshold', '3'], 'can never come together'],
    [['--shares', '1'], 'from 2 to 32'],
    [['--custody', 'paper'], 'shamir, pkcs11, file'],
    [['--root-key', 'x'], '--custody file'],
  ])('refuses %j', async (args, text) => {
    const refused = await latchkey('init', '--data', join(directory, 'other'), ...args);
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain(text);
  });

  it('is not repeated on the same data', async () => {
    await server.stop();
    const again = await latchkey('init', '--data', directory);
    expect(again).toMatchObject({ status: 65, stdout: '' });
    expect(again.stderr).toMatch(/^latchkey: STATE_CONFLICT: .+; .+\n$/);
  });
});

describe('a root key file with an emergency slot', () => {
  it('opens by itself; without the file the server starts sealed, and shares open it', async () => {
    const dataDirectory = await mkdtemp(join(tmpdir(), 'latchkey-slots-'));
    const url = await serverDatabaseUrl(dataDirectory);
    const made = await runLatchkey(
      ['server', 'init', '--data', dataDirectory, '--custody', 'file', '--json'],
      {
        directory: dataDirectory,
        ...(url === null ? {} : { env: { LATCHKEY_DATABASE: url } }),
      },
    );
    const { slots } = JSON.parse(made.stdout) as Slots;
    expect(slots.map(({ label }) => label)).toEqual(['emergency']);
    const own = await startKeyServer({ dataDirectory });
    expect((await fetch(`${own.adminUrl}/readyz`)).status).toBe(200);
    await own.stop();
    await rename(join(dataDirectory, 'root.key'), join(dataDirectory, 'safe'));
    const sealed = await startKeyServer({ dataDirectory });
    expect((await fetch(`${sealed.adminUrl}/readyz`)).status).toBe(503);
    for (const share of slots[0]?.shares.slice(0, 3) ?? []) {
      await new SealClient(sealed.adminUrl, signal).unseal({ share });
    }
    expect((await fetch(`${sealed.adminUrl}/readyz`)).status).toBe(200);
    await sealed.stop();
    // A wrong file is a mistake, not a reason to ask for shares.
    await copyFile(join(dataDirectory, 'safe'), join(dataDirectory, 'root.key'));
    await writeFile(join(dataDirectory, 'root.key'), `${'0'.repeat(64)}\n`);
    const failed = await startKeyServer({ dataDirectory }).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(KeyServerExit);
    expect((failed as KeyServerExit).stderr).toContain('CONFIG_INVALID');
    await removeServerDatabase(dataDirectory);
    await rm(dataDirectory, { recursive: true });
  });
});
