import { chmod, copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { copyServerData, removeServerDatabase } from '../../lab/server-database.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';

let template: string;
let dataDirectory: string;
let licenseId: string;
const directories: string[] = [];

async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-start-'));
  directories.push(directory);
  return directory;
}

beforeAll(async () => {
  const server = await startKeyServer({ dataDirectory: await temporary() });
  const { license } = await (await createSoldProduct(server)).sell();
  licenseId = license.id;
  expect(await server.stop()).toBe(0);
  template = server.dataDirectory;
});

beforeEach(async () => {
  dataDirectory = await temporary();
  await copyServerData(template, dataDirectory);
});

afterAll(async () => {
  for (const directory of directories) {
    await removeServerDatabase(directory);
    await rm(directory, { recursive: true, force: true });
  }
});

async function failedStart(options: Parameters<typeof startKeyServer>[0] = {}): Promise<KeyServerExit> {
  const result = await startKeyServer({ dataDirectory, ...options }).catch((error: unknown) => error);
  if (result instanceof KeyServerExit) return result;
  await (result as TestKeyServer).stop();
  throw new Error('the key server started');
}

/** One clear line: code, what happened, what to do. */
function expectLine(failure: KeyServerExit, code: string, status: number): void {
  // What the log says about the set-up comes in JSON.
  const lines = failure.stderr
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('{'));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(new RegExp(`^latchkey: ${code}: .+; .+`, 'u'));
  expect(failure.status).toBe(status);
}

const rootKey = () => join(dataDirectory, 'root.key');

async function startsWithItsData(): Promise<void> {
  const server = await startKeyServer({ dataDirectory });
  const response = await fetch(`${server.adminUrl}/v1/licenses/${licenseId}`, {
    headers: { authorization: `Bearer ${server.adminToken}` },
  });
  expect(response.status).toBe(200);
  expect(await server.stop()).toBe(0);
}

describe('a start', () => {
  it('finds what was there before, and writes nothing that others can read', async () => {
    await startsWithItsData();
    for (const name of ['admin.token', 'root.key']) {
      expect((await stat(join(dataDirectory, name))).mode & 0o077).toBe(0);
    }
  });

  it('is repeated after one that died before it had made its organization', async () => {
    await removeServerDatabase(dataDirectory);
    await rm(join(dataDirectory, 'admin.token'));
    const before = await readFile(rootKey(), 'utf8');
    const server = await startKeyServer({ dataDirectory });
    expect(await readFile(rootKey(), 'utf8')).toBe(before);
    await server.stop();
  });

  it('may follow at once on one that was killed', async () => {
    await (await startKeyServer({ dataDirectory })).kill();
    await startsWithItsData();
  });

  it('refuses the root key of another database, one that others can read, and none', async () => {
    const right = `${rootKey()}.right`;
    await copyFile(rootKey(), right);
    await writeFile(rootKey(), `${'0'.repeat(64)}\n`);
    expectLine(await failedStart(), 'CONFIG_INVALID', 78);
    await writeFile(rootKey(), 'short');
    expectLine(await failedStart(), 'CONFIG_INVALID', 78);
    await copyFile(right, rootKey());
    await chmod(rootKey(), 0o644);
    const readable = await failedStart();
    expectLine(readable, 'CONFIG_INVALID', 78);
    expect(readable.stderr).toContain('chmod 600');
    await rm(rootKey());
    expectLine(await failedStart(), 'CONFIG_INVALID', 78);
    await copyFile(right, rootKey());
    await chmod(rootKey(), 0o600);
    await startsWithItsData();
  });

  it.each(['--admin-listen', '--node-listen', '--enroll-listen'])(
    'refuses a port in use (%s)',
    async (option) => {
      const other = createServer();
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
      const { port } = other.address() as { port: number };
      const failure = await failedStart({ args: [option, `127.0.0.1:${port}`] });
      expectLine(failure, 'STATE_PORT_IN_USE', 69);
      expect(failure.stderr).toContain(String(port));
      other.close();
      await startsWithItsData();
    },
  );

  it.each([
    [['--admin-listen', '0.0.0.0:0'], 'loopback'],
    [['--node-listen', 'nonsense'], 'not an address'],
    [['--unknown'], '--unknown'],
    [['--admin-tls-cert', 'x'], 'belong together'],
    [['--log-level', 'loud'], 'log-level'],
  ])('refuses %j', async (args, text) => {
    const failure = await failedStart({ args });
    expect(failure.status).toBe(2);
    expect(failure.stderr).toContain(text);
  });

  it.each([
    [['SIGTERM'], 0],
    [['SIGINT'], 0],
    [['SIGTERM', 'SIGINT'], 130],
    [['SIGINT', 'SIGTERM'], 130],
  ])('stops in its own way on %j while it says that it is ready', async (signals, status) => {
    const server = await startKeyServer({ dataDirectory, env: signalledWhenReady(signals) });
    expect(await server.ended()).toBe(status);
    expect(server.log()).toContain('"stopping"');
    await startsWithItsData();
  });
});

/** Signals go to the process before the line that says ready is out. */
function signalledWhenReady(signals: readonly string[]): NodeJS.ProcessEnv {
  const module = `
    const { stdout } = process;
    const write = stdout.write.bind(stdout);
    stdout.write = (text) => {
      if (String(text).includes('is ready')) for (const name of ${JSON.stringify(signals)}) process.kill(process.pid, name);
      return write(text);
    };`;
  return { ...process.env, NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(module)}` };
}
