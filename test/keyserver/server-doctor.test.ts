/** What the doctor of the key server finds, on a real one and on facts that are hard to bring about. */
import { chmod, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerFacts, diagnoseServer } from '../../keyserver/doctor/findings.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { databaseKind, serverDatabaseUrl } from '../../lab/server-database.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { adminClient } from '../fakes/sold-product.ts';

const WELL: ServerFacts = {
  nowMs: 1_796_000_000_000,
  slots: [
    { kind: 'pkcs11', label: 'primary' },
    { kind: 'shamir', label: 'emergency' },
  ],
  hasDatabase: true,
  rootKey: undefined,
  isRootKeyOnDataDisk: false,
  pin: { path: '/etc/latchkey/pin', mode: 0o100600 },
  dataDirectory: { path: '/var/lib/latchkey', mode: 0o40700 },
  adminTokenPath: undefined,
  fileSystem: 0xef53,
  postgres: undefined,
  checkpoints: { path: '/mnt/checkpoints', isOnDataDisk: false },
  lastBackupMs: 1_795_999_000_000,
};
const POSTGRES = {
  fsync: 'on',
  synchronousCommit: 'on',
  fullPageWrites: 'on',
  standbyNames: '',
  hosts: 1,
  isLineOpen: false,
};
const postgres = (change: Partial<typeof POSTGRES>) => ({ postgres: { ...POSTGRES, ...change } });

function faults(change: Partial<ServerFacts>): string[] {
  return diagnoseServer({ ...WELL, ...change }).flatMap(({ id, severity, mend }) => {
    if (severity === 'ok') return [];
    expect(mend).toBeDefined();
    return [`${severity} ${id}`];
  });
}

describe('the doctor of the key server', () => {
  it.each<[string, Partial<ServerFacts>, string[]]>([
    ['nothing where all is well', {}, []],
    ['nothing on a PostgreSQL that is well', postgres({}), []],
    ['one slot', { slots: [{ kind: 'shamir', label: 'primary' }] }, ['warning emergency-slot']],
    ['slots that nobody tells', { slots: undefined }, ['info slots-unknown']],
    ['a PIN for everybody', { pin: { path: '/pin', mode: 0o644 } }, ['bad token-pin-readable']],
    [
      'a data directory for its group',
      { dataDirectory: { path: '/d', mode: 0o750 } },
      ['bad data-directory-readable'],
    ],
    ['a database in memory', { fileSystem: 0x01021994 }, ['bad database-volatile']],
    ['a database on NFS', { fileSystem: 0x6969 }, ['warning database-on-network']],
    ['fsync off', postgres({ fsync: 'off' }), ['bad database-durable']],
    ['synchronous_commit off', postgres({ synchronousCommit: 'off' }), ['warning database-durable']],
    ['standbys that confirm nothing', postgres({ hosts: 2 }), ['warning database-standbys']],
    ['local commits', postgres({ synchronousCommit: 'local' }), ['warning database-durable']],
    ['standbys that confirm', postgres({ hosts: 2, standbyNames: '*' }), []],
    ['a line that anybody reads', postgres({ isLineOpen: true }), ['warning database-plain-line']],
    [
      'checkpoints beside the database',
      { checkpoints: { path: '/c', isOnDataDisk: true } },
      ['warning checkpoints'],
    ],
    ['no checkpoints', { checkpoints: undefined }, ['info checkpoints']],
    ['no backup', { lastBackupMs: null }, ['warning backup']],
    ['an old backup', { lastBackupMs: 1_795_000_000_000 }, ['warning backup']],
  ])('finds %s', (_name, change, expected) => {
    expect(faults(change)).toEqual(expected);
  });
});

describe('latchkey server doctor', () => {
  let server: TestKeyServer;

  async function doctor(...args: string[]) {
    const { dataDirectory } = server;
    const url = await serverDatabaseUrl(dataDirectory);
    const outcome = await runLatchkey(['server', 'doctor', '--data', dataDirectory, ...args], {
      directory: dataDirectory,
      ...(url === null ? {} : { env: { LATCHKEY_DATABASE: url } }),
    });
    const found = [...outcome.stdout.matchAll(/^(ok|info|WARN|BAD) +([a-z-]+):/gmu)].map(
      ([, label = '', id = '']) => `${label} ${id}`,
    );
    return { ...outcome, found };
  }

  beforeAll(async () => {
    server = await startKeyServer();
  });

  afterAll(() => server.dispose());

  it('finds a root key in a file, as the start says, and no second slot', async () => {
    const warnings = server
      .log()
      .split('\n')
      .filter((line) => line.includes('latchkey server doctor'));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('the root key is in a file, which is for development');
    const { found, status, stderr } = await doctor();
    expect((await doctor('--json')).stdout).toContain('"findings": [');
    expect(found, stderr).toEqual(
      expect.arrayContaining(['WARN root-key-file', 'ok root-key-readable', 'WARN emergency-slot']),
    );
    // The tests' PostgreSQL forgets at a power cut, and the doctor sees it.
    const isForgetful = databaseKind() === 'PostgreSQL';
    expect(found).toContain(isForgetful ? 'BAD database-durable' : 'WARN root-key-beside-database');
    expect(status).toBe(isForgetful ? 78 : 0);
  });

  it('sees on a running one that there is a second slot now, and what others can read', async () => {
    const rootKey = join(server.dataDirectory, 'root.key');
    const client = adminClient(server);
    const key = (await readFile(rootKey, 'utf8')).trim();
    const terms = { label: 'emergency', shares: 3, threshold: 2, replaces: false };
    await client.addSharedSlot({ ...terms, proof: { rootKey: key } });
    await chmod(rootKey, 0o644);
    const checkpoints = join(server.dataDirectory, 'checkpoints');
    const { found, status, stderr } = await doctor('--audit-checkpoints', checkpoints);
    await chmod(rootKey, 0o600);
    expect(found).toEqual(
      expect.arrayContaining(['ok emergency-slot', 'BAD root-key-readable', 'WARN checkpoints']),
    );
    expect(status).toBe(78);
    expect(stderr).toMatch(/^latchkey: CONFIG_INVALID: \d of \d+ checks found something; first: .+\n$/);
  });

  it('looks at a stopped one, and says of no backup at all', async () => {
    await server.stop();
    expect((await doctor()).found).toEqual(expect.arrayContaining(['ok emergency-slot', 'WARN backup']));
  });

  it('says in one line where there is nothing to look at', async () => {
    const empty = join(server.dataDirectory, 'empty');
    const nothing = await runLatchkey(['server', 'doctor', '--data', empty], {
      directory: server.dataDirectory,
    });
    expect(nothing).toMatchObject({ stdout: '' });
    expect(nothing.stderr).toMatch(/^latchkey: STATE_NOT_FOUND: .+; .+\n$/);
    const file = join(server.dataDirectory, 'authority.pem');
    expect((await doctor('--data', file)).stderr).toContain('STATE_NOT_FOUND');
    await mkdir(empty, { mode: 0o700 });
    const { stdout } = await runLatchkey(['server', 'doctor', '--data', empty], {
      directory: server.dataDirectory,
    });
    expect(stdout).toContain('there is no database in the data directory');
    expect(await readdir(empty)).toEqual([]);
    await rm(empty, { recursive: true });
  });
});
