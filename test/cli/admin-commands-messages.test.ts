import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import { writeAuditExport } from '../../cli/audit-export.ts';
import { run } from '../../cli/main.ts';
import { parseInstant } from '../../cli/time-arguments.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { readVectorKey } from '../fakes/ocicrypt-vector.ts';
import { adminClient, auditLog } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-messages-'));
  server = await startKeyServer({ dataDirectory: join(directory, 'data') });
});

afterAll(async () => {
  await server.stop();
  await rm(directory, { recursive: true, force: true });
});

const inDirectory = (name: string) => join(directory, name);

async function latchkey(args: readonly string[], env: Record<string, string> = {}) {
  const written = { stdout: '', stderr: '' };
  const status = await run(args, {
    stdout: { write: (text) => (written.stdout += text) },
    stderr: { write: (text) => (written.stderr += text) },
    env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken, ...env },
    clock: systemClock,
    hostLimit: new HostLimit(1),
    signal: new AbortController().signal,
  });
  return { status, ...written };
}

const TOKEN = ['token', 'create', 'x', '--permission-set', 'release'];
const CREATE = ['license', 'create', '--customer', 'c', '--product', 'p'];

describe('a command that cannot work says so in one line with a hint', () => {
  it.each([
    ['an empty name', ['customer', 'create', ''], '1 to 200 characters'],
    ['an empty customer', ['customer', 'block', ''], '1 to 200 characters'],
    ['a bad product code', ['product', 'create', 'Bad Code'], 'lower-case letters'],
    ['no license id', ['license', 'show', '..'], 'latchkey license list'],
    ['no node id', ['node', 'unban', ''], 'latchkey node list'],
    ['no token id', ['token', 'revoke', '../x'], 'latchkey token list'],
    ['a lease that is too long', [...CREATE, '--lease', '40d'], 'from 1s to 30d'],
    ['a lease that is too short', [...CREATE, '--lease', '0s'], 'from 1s to 30d'],
    ['too many nodes', [...CREATE, '--max-nodes', '1000001'], 'from 1 to 1000000'],
    ['a day that is none', [...CREATE, '--expires', '2027-02-31'], 'is invalid: give a date'],
    ['a day of before all times', [...CREATE, '--expires', '1960-01-01'], 'from 1970 on'],
    ['versions that are none', [...CREATE, '--versions', 'newest'], '--versions <range>'],
    ['a contact that is too long', [...CREATE, '--contact', 'x'.repeat(257)], 'at most 256 characters'],
    [
      'a reason that is too long',
      ['license', 'suspend', 'lic_x', '--reason', 'x'.repeat(501)],
      'at most 500',
    ],
    ['a join token for ever', ['license', 'join-token', 'lic_x', '--life', '400d'], 'from 1s to 366d'],
    ['a join token for no time', ['license', 'join-token', 'lic_x', '--life', '0s'], 'from 1s to 366d'],
    ['a token for a second', [...TOKEN, '--expires-in', '1s'], 'at least 1m'],
    ['a token for ever', [...TOKEN, '--expires-in', '400d'], '366 days at most'],
    ['a server with a path', ['product', 'list', '--server', 'http://127.0.0.1:9/v1'], 'without a path'],
    ['a server with a user', ['product', 'list', '--server', 'http://a:b@127.0.0.1:9'], 'without a path'],
  ])('%s', async (_name, args, says) => {
    const { status, stdout, stderr } = await latchkey(args);
    expect(stderr).toMatch(/^latchkey: USAGE_INVALID: [^\n]+; [^\n]+\n$/u);
    expect(stderr).toContain(says);
    expect(stdout).toBe('');
    expect(status).toBe(2);
  });

  it.each(['LATCHKEY_TOKEN_FILE', 'LATCHKEY_SERVER'])('%s set to nothing counts as not set', async (name) => {
    const server = name === 'LATCHKEY_SERVER' ? [] : ['--server', `http://127.0.0.1:9`];
    const { status, stderr } = await latchkey(['product', 'list', ...server], { [name]: '' });
    expect(stderr).not.toMatch(/USAGE_INVALID|in ;/);
    if (name === 'LATCHKEY_TOKEN_FILE') expect({ status, stderr }).toMatchObject({ status: 69 });
  });

  it('a key server whose certificate nobody trusts', async () => {
    const options = { key: readVectorKey('rsa.pem'), cert: readVectorKey('rsa.crt') };
    const other = createServer(options).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { status, stderr } = await latchkey(['product', 'list', '--server', `https://127.0.0.1:${port}`]);
    other.close();
    expect(stderr).toMatch(
      /^latchkey: NET_TLS: [^\n]+ 127\.0\.0\.1:\d+ [^\n]+; NODE_EXTRA_CA_CERTS[^\n]+\n$/,
    );
    expect(status).toBe(69);
  });

  it('a token file that holds something else, without showing it', async () => {
    for (const [name, content] of [
      ['junk', 'two lines\nof junk'],
      ['empty', ''],
      ['binary', '\u0000\u0001 secret'],
    ] as const) {
      await writeFile(inDirectory(name), content);
      const { status, stderr } = await latchkey(['product', 'list', '--token-file', inDirectory(name)]);
      expect(stderr).toMatch(/^latchkey: AUTH_REQUIRED: [^\n]+; [^\n]+\n$/u);
      expect(stderr).toContain(inDirectory(name));
      expect(stderr).not.toMatch(/junk\b.*junk|secret/u);
      expect(status).toBe(77);
    }
    expect((await latchkey(['product', 'list'], { LATCHKEY_TOKEN: 'a b' })).stderr).toContain(
      'AUTH_REQUIRED: what LATCHKEY_TOKEN holds',
    );
  });

  it('an audit log that is missing, a directory, or empty', async () => {
    await mkdir(inDirectory('folder'));
    for (const name of ['none.jsonl', 'folder']) {
      const { stderr } = await latchkey(['audit', 'verify', inDirectory(name)]);
      expect(stderr).toMatch(/^latchkey: STATE_NOT_FOUND: there is no audit export [^\n]+; [^\n]+\n$/u);
    }
    await writeFile(inDirectory('empty.jsonl'), '\n');
    const { status, stderr } = await latchkey(['audit', 'verify', inDirectory('empty.jsonl')]);
    expect(stderr).toMatch(/^latchkey: STATE_DAMAGED: [^\n]+organization\.create[^\n]+\n$/u);
    expect(status).toBe(65);
  });
});

describe('dates', () => {
  it.each(['2027-02-31', '2027-02-29', '2027-04-31T00:00:00Z', '2027-13-01', '2027-00-10'])(
    '%s is none',
    (text) => {
      expect(() => parseInstant(text)).toThrow('Give a date');
    },
  );

  it('are read with their zone', () => {
    expect(parseInstant('2028-02-29')).toBe(Date.UTC(2028, 1, 29));
    expect(parseInstant('2027-01-01T00:30:00+02:00')).toBe(Date.UTC(2026, 11, 31, 22, 30));
  });
});

describe('an audit export', () => {
  async function* broken(): AsyncGenerator<AuditEvent> {
    yield* await auditLog(adminClient(server));
    throw new LatchkeyError('NET_UNREACHABLE', 'gone');
  }

  it('that fails leaves nothing behind', async () => {
    const folder = await mkdtemp(inDirectory('failed-'));
    await expect(writeAuditExport(join(folder, 'audit.jsonl'), broken())).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
    });
    expect(await readdir(folder)).toEqual([]);
  });

  it('never overwrites, not even a file that appears while it is written', async () => {
    const path = join(await mkdtemp(inDirectory('taken-')), 'audit.jsonl');
    const events = await auditLog(adminClient(server));
    async function* slow(): AsyncGenerator<AuditEvent> {
      yield* events;
      await writeFile(path, 'evidence');
    }
    const conflict = { code: 'STATE_CONFLICT', hint: expect.stringContaining('new file') as string };
    await expect(writeAuditExport(path, slow())).rejects.toMatchObject(conflict);
    await expect(writeAuditExport(path, slow())).rejects.toMatchObject(conflict);
    expect(await readdir(join(path, '..'))).toEqual(['audit.jsonl']);
  });
});

it('names of others cannot steer the terminal', async () => {
  const name = 'Evil\u001b[2J\u009b31m\nINITECH';
  await adminClient(server).createCustomer({ name, externalId: 'evil' });
  for (const args of [
    ['customer', 'list'],
    ['customer', 'block', 'evil'],
    ['customer', 'list', '--json'],
  ]) {
    const { stdout } = await latchkey(args);
    expect(stdout).toContain(String.raw`Evil\u001b[2J\u009b31m`);
    expect(stdout).not.toMatch(/(?!\n)\p{Cc}/u);
    expect(stdout).not.toMatch(/^INITECH/mu);
  }
  const { stderr } = await latchkey(['customer', 'block', 'gone\u009b31m']);
  expect(stderr).toContain(String.raw`gone\u009b31m`);
});
