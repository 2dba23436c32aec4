import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';

let directory: string;
let dataDirectory: string;
let certFile: string;
let keyFile: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-configuration-'));
  [certFile, keyFile] = [join(directory, 'admin.pem'), join(directory, 'admin.key')];
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', '/CN=localhost', '-keyout', keyFile, '-out', certFile],
  ]);
});

beforeEach(async () => {
  dataDirectory = join(await mkdtemp(join(directory, 'start-')), 'data');
});

afterAll(() => rm(directory, { recursive: true, force: true }));

async function failedStart(args: readonly string[]): Promise<KeyServerExit> {
  const result = await startKeyServer({ dataDirectory, args }).catch((error: unknown) => error);
  if (result instanceof KeyServerExit) return result;
  await (result as TestKeyServer).stop();
  throw new Error('the key server started');
}

describe('a configuration that cannot work is named in one line, before anything is made', () => {
  it.each([
    ['a certificate that is missing', () => ['/nonexistent.pem', keyFile], '/nonexistent.pem'],
    ['a certificate that is none', () => [keyFile, keyFile], 'admin.key'],
    ['a key that is missing', () => [certFile, '/nonexistent.key'], '/nonexistent.key'],
    ['a key that is a directory', () => [certFile, directory], '--admin-tls-key'],
    ['a key that is none', () => [certFile, certFile], '--admin-tls-key'],
  ])('%s', async (_name, files, named) => {
    const [cert = '', key = ''] = files();
    const failure = await failedStart(['--admin-tls-cert', cert, '--admin-tls-key', key]);
    expect(failure.stderr).toMatch(/^latchkey: CONFIG_INVALID: [^\n]+; [^\n]+\n$/u);
    expect(failure.stderr).toContain(named);
    expect(failure.status).toBe(78);
    await expect(stat(dataDirectory)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it.each([
    [['--hostname', '']],
    [['--hostname', 'https://keys.acme.example']],
    [['--hostname', 'keys acme']],
    [['--hostname', 'keys.acme.example:7443']],
    [['--organization', ' ']],
    [['--data', '']],
    [['--root-key', '']],
  ])('%j', async (args) => {
    const failure = await failedStart(args);
    expect(failure.stderr).toMatch(/^latchkey: USAGE_INVALID: [^\n]+; [^\n]+\n$/u);
    expect(failure.stderr).toContain(args[0]);
    expect(failure.status).toBe(2);
  });

  it('a root key that is a directory, below a file, or in no directory', async () => {
    for (const path of [directory, join(certFile, 'root.key'), join(directory, 'none', 'root.key')]) {
      const failure = await failedStart(['--root-key', path]);
      expect(failure.stderr).toMatch(/^latchkey: CONFIG_INVALID: [^\n]+; [^\n]+\n$/u);
      expect(failure.stderr).toContain(path);
      expect(failure.stderr).not.toContain('chmod');
    }
  });

  it('a data directory that is a file', async () => {
    const failure = await failedStart(['--data', certFile]);
    expect(failure.stderr).toMatch(/^latchkey: CONFIG_INVALID: [^\n]+; [^\n]+\n$/u);
  });
});

it('the first start takes from others what they could read, and leaves nothing half-made', async () => {
  await mkdir(dataDirectory);
  const tokenFile = join(dataDirectory, 'admin.token');
  await writeFile(tokenFile, 'of before\n');
  await chmod(tokenFile, 0o644);
  const server = await startKeyServer({ dataDirectory });
  expect((await stat(tokenFile)).mode & 0o777).toBe(0o600);
  expect(await readFile(tokenFile, 'utf8')).not.toContain('of before');
  expect((await readdir(dataDirectory)).filter((name) => name.endsWith('.new'))).toEqual([]);
  expect(await server.stop()).toBe(0);
});

it('a request that never arrives whole does not keep the server from stopping', async () => {
  const server = await startKeyServer({ dataDirectory });
  const { hostname, port } = new URL(server.adminUrl);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(
    `POST /v1/products HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${server.adminToken}\r\n` +
      'content-type: application/json\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n',
  );
  // The server has read the head when it asks for the body.
  await once(socket, 'data');
  socket.write('{');
  expect(await server.stop()).toBe(0);
  socket.destroy();
});
