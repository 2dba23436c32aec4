/** Who reads the whole database of a key server can act as nobody: what opens a door is not in it. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LICENSE_KEY_BYTES } from '#src/licensing/license-key.ts';
import { decodeSymbols } from '#src/base/base32.ts';
import { WebhookClient } from '../../cli/webhook-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { storedRows } from '../fakes/database-rows.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

const SECRETS = [
  'admin token',
  'API token',
  'join token',
  'license key',
  'webhook secret',
  'root key',
  'image key',
] as const;
type Secret = (typeof SECRETS)[number];

let server: TestKeyServer;
/** What each looks like, as it is shown and without what is the same in all of them. */
let forms: Readonly<Record<Secret, readonly (string | Uint8Array)[]>>;
let licenseId: string;
let stored: Buffer;

beforeAll(async () => {
  server = await startKeyServer();
  const sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  licenseId = license.id;
  const { token } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' });
  const { token: joinToken } = await sold.client.createJoinToken(license.id, {});
  const webhooks = new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
  const webhook = await webhooks.create({
    url: 'https://hooks.example/latchkey',
    events: ['license.revoke'],
  });
  const rootKey = (await readFile(join(server.dataDirectory, 'root.key'), 'utf8')).trim();
  // Used, too: what a use leaves behind is among the rows.
  for (const credential of [licenseKey, joinToken]) {
    const node = await activateNode(server, credential);
    await node.acquire(sold.image);
    node.close();
  }
  forms = {
    'admin token': tokenForms(server.adminToken),
    'API token': tokenForms(token),
    'join token': tokenForms(joinToken),
    'license key': licenseKeyForms(licenseKey),
    'webhook secret': [webhook.secret, Buffer.from(webhook.secret.replace('whsec_', ''), 'base64')],
    'root key': [rootKey, Buffer.from(rootKey, 'hex')],
    'image key': [sold.image.imageKey],
  };
  await server.stop();
  stored = contentOf(await storedRows(server.dataDirectory));
});

afterAll(() => server.dispose());

function tokenForms(token: string): (string | Uint8Array)[] {
  const random = token.slice(token.indexOf('_') + 1);
  return [token, random, Buffer.from(random, 'base64url')];
}

function licenseKeyForms(licenseKey: string): (string | Uint8Array)[] {
  const symbols = licenseKey.replace('LK-', '').replaceAll('-', '');
  const random = decodeSymbols(symbols.slice(0, (LICENSE_KEY_BYTES * 8) / 5));
  if (random === null) throw new TypeError('a license key is not of its symbols');
  return [licenseKey, symbols, random];
}

/** Texts and bytes of all rows, one after the other, each as it is. */
function contentOf(tables: Awaited<ReturnType<typeof storedRows>>): Buffer {
  const values = [...tables.values()].flat().flatMap((row) => Object.values(row));
  return Buffer.concat(
    values.flatMap((value) => [
      value instanceof Uint8Array ? value : Buffer.from(String(value)),
      Buffer.from('\n'),
    ]),
  );
}

/** As it is, and in each of the encodings that bytes are stored in. */
function spellings(form: string | Uint8Array): Buffer[] {
  const bytes = Buffer.from(form);
  const texts = (['base64', 'base64url', 'hex'] as const).map((encoding) =>
    // Whatever follows, but for the last characters, which depend on it.
    bytes.toString(encoding).replace(/.?=*$/u, ''),
  );
  return [bytes, ...texts.map((text) => Buffer.from(text)), Buffer.from(bytes.toString('hex').toUpperCase())];
}

it('has what they are known by', () => {
  const digest = (secret: Secret) => createHash('sha256').update(String(forms[secret][0])).digest('hex');
  for (const known of [licenseId, digest('admin token'), digest('API token'), digest('join token')]) {
    expect(stored.includes(known)).toBe(true);
  }
});

it.each(SECRETS)('has no %s in it, in whatever spelling', (secret) => {
  const found = forms[secret].flatMap(spellings).filter((spelling) => stored.includes(spelling));
  expect(forms[secret].every(({ length }) => length >= 20)).toBe(true);
  expect(found.map(String)).toEqual([]);
});
