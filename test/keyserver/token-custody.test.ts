/** The root key behind a key on a PKCS#11 token, with shares for when the token is gone. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SealClient } from '../../cli/seal-client.ts';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { removeServerDatabase, serverDatabaseUrl } from '../../lab/server-database.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { TOKEN_PIN, createEmptyToken, softTokenSkipReason } from '../fakes/soft-token.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

const run = promisify(execFile);
const skipReason = softTokenSkipReason();

describe.skipIf(skipReason !== '')(`custody by a token${skipReason}`, () => {
  let directory: string;
  let data: string;
  let env: Record<string, string>;
  let emergency: readonly string[];

  const uri = (object: string) =>
    `pkcs11:token=acme;object=${object}?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:${join(directory, 'pin')}`;

  async function importKey(label: string, id: string, bits: number): Promise<void> {
    const file = join(directory, `${label}.pem`);
    await run('openssl', [
      'genpkey',
      '-algorithm',
      'RSA',
      '-pkeyopt',
      `rsa_keygen_bits:${bits}`,
      '-out',
      file,
    ]);
    const key = ['--import', file, '--token', 'acme', '--label', label, '--id', id, '--pin', TOKEN_PIN];
    await run('/usr/bin/softhsm2-util', key, { env: { ...process.env, ...env } });
    await rm(file);
  }

  async function init(object: string) {
    const url = await serverDatabaseUrl(data);
    const args = ['--data', data, '--custody', 'pkcs11', '--root-key-token', uri(object), '--json'];
    return runLatchkey(['server', 'init', ...args], {
      directory,
      env: { ...env, ...(url === null ? {} : { LATCHKEY_DATABASE: url }) },
    });
  }

  async function latchkey(place: string, ...args: string[]) {
    const url = await serverDatabaseUrl(place);
    return runLatchkey(['server', ...args, '--data', place], {
      directory,
      env: { ...env, ...(url === null ? {} : { LATCHKEY_DATABASE: url }) },
    });
  }

  const start = (object: string) =>
    startKeyServer({
      dataDirectory: data,
      args: ['--root-key-token', uri(object)],
      env: { ...process.env, ...env },
    });

  const isSealed = async (server: TestKeyServer) =>
    (await new SealClient(server.adminUrl, new AbortController().signal).status()).isSealed;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-token-'));
    data = join(directory, 'data');
    env = { ...(await createEmptyToken(directory)).moduleEnvironment };
    await writeFile(join(directory, 'pin'), `${TOKEN_PIN}\n`, { mode: 0o600 });
    await importKey('root', 'a1', 3072);
    await importKey('other', 'a2', 3072);
    await importKey('short', 'a3', 2048);
  });

  afterAll(async () => {
    await removeServerDatabase(data);
    await rm(directory, { recursive: true, force: true });
  });

  it('is not begun with a key that is too short or not there', async () => {
    for (const [object, code] of [
      ['short', 'KEY_INVALID'],
      ['none', 'KEY_NOT_FOUND'],
    ] as const) {
      const refused = await init(object);
      expect(refused.stdout + refused.stderr).toContain(code);
      expect(refused.status).not.toBe(0);
    }
  });

  it('opens the key server at its start, and the root key is in no file', async () => {
    const made = await init('root');
    expect(made).toMatchObject({ status: 0, stderr: '' });
    const { slots } = JSON.parse(made.stdout) as { slots: { label: string; shares: string[] }[] };
    expect(slots.map(({ label }) => label)).toEqual(['emergency']);
    emergency = slots[0]?.shares ?? [];
    const server = await start('root');
    expect(await isSealed(server)).toBe(false);
    const sold = await createSoldProduct(server);
    const node = await activateNode(server, (await sold.sell()).licenseKey);
    const answer = await node.acquire(sold.image);
    expect(Buffer.from(await node.openImageKey(answer))).toEqual(Buffer.from(sold.image.imageKey));
    node.close();
    expect(await server.stop()).toBe(0);
  });

  it('opens a new root key after a rotation, and the shares of before nothing', async () => {
    const before = emergency;
    const rotate = (...args: string[]) => latchkey(data, 'rotate', '--root', '--json', ...args);
    const other = await rotate('--root-key-token', uri('other'));
    expect(other.stdout + other.stderr).toContain('KEY_INVALID');
    const rotated = await rotate('--root-key-token', uri('root'));
    expect(rotated).toMatchObject({ status: 0, stderr: '' });
    const { slots } = JSON.parse(rotated.stdout) as { slots: { label: string; shares: string[] }[] };
    expect(slots.map(({ label }) => label)).toEqual(['emergency']);
    emergency = slots[0]?.shares ?? [];
    const server = await start('root');
    expect(await isSealed(server)).toBe(false);
    expect(await server.stop()).toBe(0);
    const shares = await Promise.all(
      before.slice(0, 3).map(async (share, index) => {
        const file = join(directory, `share-${index}`);
        await writeFile(file, share, { mode: 0o600 });
        return file;
      }),
    );
    const withOld = await rotate('--root-key-token', uri('root'), '--share-file', ...shares);
    expect(withOld.stdout + withOld.stderr).toContain('KEY_INVALID');
  });

  it('is added to a key server that has its root key in a file, and opens it when the file is gone', async () => {
    const own = join(directory, 'own');
    expect(await latchkey(own, 'init', '--custody', 'file', '--no-emergency-slot')).toMatchObject({
      status: 0,
    });
    const rootKey = join(own, 'root.key');
    const add = (object: string, label = 'hsm') =>
      latchkey(own, 'add-token', label, '--root-key-token', uri(object), '--root-key', rootKey);
    expect((await add('short')).stderr).toMatch(/^latchkey: KEY_INVALID: .+; .+\n$/);
    expect((await add('root', 'primary')).stderr).toMatch(/^latchkey: STATE_CONFLICT: .+; .+\n$/);
    expect(await add('root')).toMatchObject({ status: 0, stderr: '' });
    await rm(rootKey);
    const args = ['--root-key-token', uri('root')];
    const server = await startKeyServer({ dataDirectory: own, args, env: { ...process.env, ...env } });
    expect(await isSealed(server)).toBe(false);
    await server.stop();
    await removeServerDatabase(own);
  });

  it.each([
    ['another key', () => start('other')],
    [
      'a wrong PIN',
      async () => {
        await writeFile(join(directory, 'pin'), '9999', { mode: 0o600 });
        return start('root');
      },
    ],
    [
      'no token',
      async () => {
        await rm(join(directory, 'tokens'), { recursive: true });
        return start('root');
      },
    ],
  ])('starts sealed with %s, and the emergency shares open it', async (_name, begin) => {
    const server = await begin();
    expect(await isSealed(server)).toBe(true);
    expect(server.log()).toContain('the token does not open the root key');
    expect(server.log()).not.toContain(TOKEN_PIN);
    const client = new SealClient(server.adminUrl, new AbortController().signal);
    for (const share of emergency.slice(0, 3)) await client.unseal({ share });
    expect(await isSealed(server)).toBe(false);
    await server.stop();
  });

  it.each([
    ['pkcs11:token=acme;object=root?module-name=softhsm2&pin-value=1234', 'no PIN'],
    ['pkcs11:token=acme', 'names no key'],
  ])('refuses %s', async (text, reason) => {
    const failed = await startKeyServer({ dataDirectory: data, args: ['--root-key-token', text] }).catch(
      (error: unknown) => error,
    );
    expect(failed).toBeInstanceOf(KeyServerExit);
    const { status, stderr } = failed as KeyServerExit;
    expect(status).toBe(2);
    expect(stderr).toContain(reason);
    expect(stderr).not.toContain('1234');
  });
});
