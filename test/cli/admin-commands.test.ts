import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const COMMAND = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

let directory: string;
let serve: ChildProcess;
let serverUrl: string;
let readyLine: string;

const tokenFile = () => join(directory, 'data', 'admin.token');

interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function latchkey(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Result> {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LATCHKEY_SERVER: serverUrl, LATCHKEY_TOKEN_FILE: tokenFile(), ...env },
  });
  const closed = once(child, 'close');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = (await closed) as [number | null];
  return { status, stdout, stderr };
}

async function json(args: readonly string[]): Promise<Record<string, unknown>> {
  const result = await latchkey([...args, '--json']);
  expect(result.stderr).toBe('');
  return JSON.parse(result.stdout) as Record<string, unknown>;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-cli-'));
  serve = spawn(
    process.execPath,
    [
      ...[COMMAND, 'serve', '--data', join(directory, 'data'), '--organization', 'Acme'],
      ...['--admin-listen', '127.0.0.1:0', '--node-listen', '127.0.0.1:0', '--enroll-listen', '127.0.0.1:0'],
      ...['--hostname', 'keys.acme.example', '--hostname', '192.0.2.7', '--log-level', 'warn'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const [chunk] = (await once(serve.stdout!, 'data')) as [Buffer];
  readyLine = chunk.toString();
  serverUrl = /admin (\S+),/.exec(readyLine)?.[1] ?? '';
});

afterAll(async () => {
  if (serve.exitCode === null && serve.signalCode === null) serve.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true });
});

describe('latchkey serve and the commands that talk to it', () => {
  it('say where the server is and where its token lies', async () => {
    expect(readyLine).toContain('is ready');
    expect(readyLine).toContain(tokenFile());
    const endpoints = JSON.parse(await readFile(join(directory, 'data', 'endpoints.json'), 'utf8')) as object;
    expect(endpoints).toMatchObject({ adminUrl: serverUrl });
  });

  it('sell a license and show the line that the customer runs', async () => {
    expect((await latchkey(['product', 'create', 'acme-web', '--contact', 'help@acme.example'])).status).toBe(
      0,
    );
    await latchkey(['customer', 'create', 'Initech', '--external-id', 'crm-1']);
    const sold = await latchkey([
      ...['license', 'create', '--customer', 'crm-1', '--product', 'acme-web'],
      ...['--expires', '2099-12-31', '--lease', '90s', '--max-nodes', '2', '--on-revoke', 'stop'],
      ...[
        '--duration',
        '30d',
        '--duration-from',
        'lease',
        '--grace',
        '14d',
        '--on-expiry',
        'restrict-access',
      ],
      ...['--max-installations', '1', '--max-concurrent', '2', '--overage', '1.5x', '--entitlement', 'sso'],
    ]);
    expect(sold.status).toBe(0);
    expect(sold.stdout).toMatch(/^ {2}LK(-[0-9A-Z]{6}){6}$/mu);
    expect(sold.stdout).toMatch(/^ {2}latchkey node activate -$/mu);
    const id = /license (lic_\S+) created/.exec(sold.stdout)?.[1] ?? '';
    expect(await json(['license', 'show', id])).toMatchObject({
      expiresAtMs: Date.UTC(2099, 11, 31),
      leaseDurationMs: 90_000,
      ...{ maxNodes: 2, maxInstallations: 1, maxConcurrent: 2, overage: '1.5x', entitlements: ['sso'] },
      onRevoke: 'stop',
      ...{ durationMs: 30 * 86_400_000, expirationBasis: 'lease', expiryGraceMs: 14 * 86_400_000 },
      expirationStrategy: 'restrict-access',
      state: 'PENDING',
    });
    const shown = await latchkey(['license', 'show', id]);
    expect(shown.stdout).toMatch(/^lease +90s$/mu);
    expect(shown.stdout).toMatch(/^nodes at once +0 of 2$/mu);
    expect((await latchkey(['license', 'revoke', id, '--reason', 'refund'])).stdout).toBe(
      `license ${id} is REVOKED\n`,
    );
    expect((await latchkey(['license', 'list'])).stdout).toMatch(
      new RegExp(`^${id} +Initech +acme-web +REVOKED`, 'mu'),
    );
    const back = await latchkey(['license', 'reinstate', id]);
    expect(back.stderr).toMatch(/^latchkey: STATE_PRECONDITION: .*revoked.*\n$/u);
    expect(back.status).toBe(65);
  });

  it('sell under a policy, change and prolong', async () => {
    const created = await latchkey([
      ...['policy', 'create', 'pro', '--name', 'Pro', '--duration', '30d', '--max-concurrent', '4'],
      ...['--entitlement', 'sso', '--entitlement', 'audit'],
    ]);
    expect(created).toMatchObject({ status: 0, stdout: 'policy pro created\n' });
    const sold = await json([
      'license',
      'create',
      '--customer',
      'crm-1',
      '--product',
      'acme-web',
      '--policy',
      'pro',
    ]);
    const { id } = sold['license'] as { id: string };
    expect((await latchkey(['policy', 'list'])).stdout).toMatch(/^pro +Pro +30d +3 +- +1$/mu);
    expect((await latchkey(['policy', 'show', 'pro'])).stdout).toMatch(
      /^duration +30d after its creation$/mu,
    );
    expect((await latchkey(['policy', 'update', 'pro', '--max-nodes', '6'])).stdout).toBe(
      'policy pro changed; 1 licenses are under it\n',
    );
    const update = ['license', 'update', id, '--max-concurrent', 'unlimited', '--plan', 'gold'];
    expect((await latchkey([...update, '--expires', 'never'])).stdout).toBe(`license ${id} is at epoch 3\n`);
    expect(await json(['license', 'show', id])).toMatchObject({
      ...{ policyCode: 'pro', maxNodes: 6, maxConcurrent: null, plan: 'gold', expiresAtMs: null },
    });
    const back = [
      'license',
      'update',
      id,
      '--inherit',
      'max-concurrent',
      '--no-plan',
      '--expires',
      'inherit',
    ];
    expect((await latchkey(back)).status).toBe(0);
    const shown = await latchkey(['license', 'show', id]);
    expect(shown.stdout).toMatch(/^its own +nothing$/mu);
    expect(await json(['license', 'show', id])).toMatchObject({ maxConcurrent: 4, plan: null });
    expect((await latchkey(['license', 'renew', id, '--by', '90d'])).stdout).toMatch(
      new RegExp(`^license ${id} expires \\d{4}-`, 'u'),
    );
    expect((await latchkey(['license', 'show', id])).stdout).toMatch(/^its own +expiresAtMs$/mu);
  });

  it('block and unblock a customer by name', async () => {
    expect((await latchkey(['customer', 'block', 'Initech'])).stdout).toContain('is BLOCKED');
    expect((await latchkey(['customer', 'unblock', 'crm-1'])).stdout).toContain('is ACTIVE');
    expect((await latchkey(['customer', 'list'])).stdout).toMatch(/Initech +crm-1 +ACTIVE/u);
  });

  it('verify the audit log, and its export', async () => {
    const path = join(directory, 'audit.jsonl');
    const exported = await json(['audit', 'export', path]);
    expect(await json(['audit', 'verify', path])).toMatchObject({
      verified: true,
      events: exported['events'],
    });
    expect((await latchkey(['audit', 'verify'])).stdout).toContain('the audit log verifies');
    expect((await latchkey(['audit', 'list'])).stdout).toContain('organization.create');
    const again = await latchkey(['audit', 'export', path]);
    expect(again.stderr).toContain('exists');
    expect(again.status).toBe(65);
    const log = await readFile(path, 'utf8');
    await writeFile(path, log.replace('customer.block', 'customer.bless'));
    const forged = await latchkey(['audit', 'verify', path]);
    expect(forged.stderr).toMatch(/^latchkey: STATE_DAMAGED: .*event \d+ was changed.*\n$/u);
    expect(forged.status).toBe(65);
  });

  it('make and revoke tokens', async () => {
    const made = await json(['token', 'create', 'ci', '--permission-set', 'release']);
    const env = { LATCHKEY_TOKEN_FILE: undefined, LATCHKEY_TOKEN: made['token'] as string };
    expect((await latchkey(['product', 'list'], env)).status).toBe(0);
    const refused = await latchkey(['license', 'list'], env);
    expect(refused.stderr).toMatch(/^latchkey: AUTH_FORBIDDEN: /u);
    const { id } = made['apiToken'] as { id: string };
    expect((await latchkey(['token', 'revoke', id])).status).toBe(0);
    expect((await latchkey(['product', 'list'], env)).stderr).toMatch(/^latchkey: AUTH_REQUIRED: /u);
  });

  it.each([
    ['no server', ['product', 'list', '--server', 'http://127.0.0.1:9'], 'NET_UNREACHABLE', 69],
    ['no URL', ['product', 'list', '--server', 'nonsense'], 'USAGE_INVALID', 2],
    ['no token', ['product', 'list', '--token-file', '/nonexistent'], 'AUTH_REQUIRED', 77],
    ['no product', ['license', 'create', '--customer', 'crm-1', '--product', 'none'], 'STATE_NOT_FOUND', 66],
    [
      'a bad date',
      ['license', 'create', '--customer', 'c', '--product', 'p', '--expires', 'soon'],
      'USAGE_INVALID',
      2,
    ],
    [
      'a bad span',
      ['license', 'create', '--customer', 'c', '--product', 'p', '--lease', '1y'],
      'USAGE_INVALID',
      2,
    ],
    ['a term that is none', ['license', 'update', 'lic_1', '--inherit', 'price'], 'USAGE_INVALID', 2],
    [
      'a term set and given back',
      ['license', 'update', 'lic_1', '--renew-after', '50', '--inherit', 'renew-after'],
      'USAGE_INVALID',
      2,
    ],
    ['no such policy', ['policy', 'update', 'none', '--max-nodes', '4'], 'STATE_NOT_FOUND', 66],
    ['an end that is none', ['license', 'update', 'lic_1', '--expires', 'soon'], 'USAGE_INVALID', 2],
    ['a grace too long', ['policy', 'create', 'p', '--grace', '91d'], 'USAGE_INVALID', 2],
    ['a missing option', ['license', 'create', '--customer', 'c'], 'USAGE_INVALID', 2],
  ])('say in one line: %s', async (_name, args, code, status) => {
    const result = await latchkey(args);
    expect(result.stdout).toBe('');
    expect(result.stderr).toMatch(new RegExp(`^latchkey: ${code}: [^\\n]+\\n$`, 'u'));
    expect(result.status).toBe(status);
  });

  it.each([
    { command: ['serve'] },
    { command: ['product', 'create'] },
    { command: ['customer', 'block'] },
    { command: ['license', 'create'] },
    { command: ['release', 'list'] },
    { command: ['node', 'ban'] },
    { command: ['audit', 'verify'] },
    { command: ['token', 'create'] },
  ])('have help with an example: $command', async ({ command }) => {
    const { status, stdout } = await latchkey([...command, '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/Examples?:\n {2}latchkey /u);
  });

  it('stop cleanly on a signal to the process that was started', async () => {
    const closed = once(serve, 'close');
    serve.kill('SIGTERM');
    expect((await closed)[0]).toBe(0);
  });
});
