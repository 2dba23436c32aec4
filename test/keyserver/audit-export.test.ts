import { once } from 'node:events';
import { appendFile, mkdtemp, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { type Server, createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readAuditFile, verifyAuditLog } from '../../cli/audit-log.ts';
import { parseArguments } from '../../keyserver/arguments.ts';
import { fileSink } from '../../keyserver/audit/export/file-sink.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { type SyslogReceiver, startSyslogReceiver } from '../fakes/syslog-receiver.ts';

/** For machines that are busy with other tests. */
const PATIENTLY = { timeout: 60_000 };

interface Received {
  readonly authorization: string | undefined;
  readonly body: string;
}

let directory: string;
let file: string;
let tokenFile: string;
let syslog: SyslogReceiver;
let collector: Server;
/** What the collector answers with. */
let answer: { status: number; location?: string } = { status: 204 };
const received: Received[] = [];
let server: TestKeyServer;
let sold: SoldProduct;
let args: string[];

const lastSequence = async () => (await auditLog(sold.client)).at(-1)?.sequence ?? 0;
const exports = () => adminClient(server).auditExports();
const allDelivered = async () => (await exports()).every(({ behind }) => behind === 0);
const posted = () =>
  received.flatMap(({ body }) =>
    body
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { sequence: number }),
  );

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-audit-export-'));
  file = join(directory, 'audit.jsonl');
  tokenFile = join(directory, 'collector.token');
  await writeFile(tokenFile, 'first-token\n');
  syslog = await startSyslogReceiver();
  collector = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { status, location } = answer;
      if (status < 300) {
        const { authorization } = request.headers;
        received.push({ authorization, body: Buffer.concat(chunks).toString() });
      }
      response.writeHead(status, location === undefined ? {} : { location }).end();
    });
  }).listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const { port } = collector.address() as { port: number };
  args = [
    `--audit-export=file:${file}`,
    `--audit-export=syslog://127.0.0.1:${syslog.port}`,
    `--audit-export=http://127.0.0.1:${port}/audit?channel=1#token-file=${tokenFile}`,
  ];
  server = await startKeyServer({ args });
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  await server.dispose();
  await syslog.close();
  collector.close();
  await rm(directory, { recursive: true, force: true });
});

describe('the audit log is copied', () => {
  it('whole and in order to a file, a syslog receiver and an HTTP address', async () => {
    await expect.poll(allDelivered, PATIENTLY).toBe(true);
    const events = await auditLog(sold.client);
    expect(await verifyAuditLog(readAuditFile(file))).toMatchObject({ sequence: events.length });
    const text = events.map((event) => JSON.stringify(event));
    expect(syslog.faults).toEqual([]);
    expect(syslog.messages.map((message) => message.text)).toEqual(text);
    expect(posted()).toEqual(events);
    expect(new Set(received.map(({ authorization }) => authorization))).toEqual(
      new Set(['Bearer first-token']),
    );
    expect((await exports()).map(({ name }) => name)).toEqual([
      `file:${file}`,
      expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/audit$/u),
      `syslog://127.0.0.1:${syslog.port}`,
    ]);
    expect(events.filter(({ action }) => action === 'audit-export.add')).toHaveLength(3);
  });

  it('onto a new file when the old one is moved away', async () => {
    const before = await lastSequence();
    const rotated = join(directory, 'audit.1');
    await rename(file, rotated);
    await sold.sell();
    await expect.poll(allDelivered, PATIENTLY).toBe(true);
    const [first] = (await readFile(file, 'utf8')).split('\n');
    expect(JSON.parse(first ?? '')).toMatchObject({ sequence: before + 1 });
    await appendFile(rotated, await readFile(file));
    await rename(rotated, file);
    expect(await verifyAuditLog(readAuditFile(file))).toMatchObject({ sequence: await lastSequence() });
  });

  it('while receivers are away or stuck no release waits, and all arrives afterwards', async () => {
    const { port } = syslog;
    await syslog.close();
    answer = { status: 503 };
    const { licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    await node.acquire(sold.image);
    await expect
      .poll(async () => (await exports()).map(({ failure }) => failure), PATIENTLY)
      .toEqual([
        null,
        expect.stringContaining('answered with status 503'),
        expect.stringContaining('ECONNREFUSED'),
      ]);
    // It takes the connection and never reads: the hardest to tell from one that works.
    const earlier = syslog.messages;
    syslog = await startSyslogReceiver(port);
    syslog.messages.push(...earlier);
    syslog.isStuck = true;
    for (let count = 0; count < 20; count += 1) await node.acquire(sold.image);
    const [, http, behind] = await exports();
    expect(http?.behind).toBeGreaterThan(20);
    expect(behind?.behind).toBeGreaterThan(20);
    expect(behind?.waitingSinceMs).not.toBeNull();
    answer = { status: 204 };
    await syslog.close();
    const stuck = syslog.messages;
    syslog = await startSyslogReceiver(port);
    syslog.messages.push(...stuck);
    await expect.poll(allDelivered, PATIENTLY).toBe(true);
    expect((await exports()).map(({ failure }) => failure)).toEqual([null, null, null]);
    const events = await auditLog(sold.client);
    expect(syslog.messages.map(({ text }) => text)).toEqual(events.map((event) => JSON.stringify(event)));
    expect(posted()).toEqual(events);
    node.close();
  });

  it('from where it was after kill -9, with a token that was renewed, and no redirect is followed', async () => {
    answer = { status: 307, location: '/elsewhere' };
    for (let count = 0; count < 5; count += 1) await sold.sell();
    await server.kill();
    // As if the crash had come in the middle of a write.
    const lines = await readFile(file, 'utf8');
    await truncate(file, lines.length - 20);
    await writeFile(tokenFile, 'second-token\n');
    const { dataDirectory } = server;
    server = await startKeyServer({ dataDirectory, args });
    sold = { ...sold, client: adminClient(server) };
    await expect
      .poll(async () => (await exports())[1]?.failure, PATIENTLY)
      .toContain('answered with status 307');
    answer = { status: 204 };
    await expect.poll(allDelivered, PATIENTLY).toBe(true);
    expect(received.at(-1)?.authorization).toBe('Bearer second-token');
    const events = await auditLog(sold.client);
    // At least once: some may have come twice, none is missing, and none comes before its time.
    expect(new Set(posted().map(({ sequence }) => sequence)).size).toBe(events.length);
    expect(new Set(syslog.messages.map(({ text }) => text)).size).toBe(events.length);
  });

  it('no longer to a target that is left out, which the log says', async () => {
    await server.stop();
    server = await startKeyServer({ dataDirectory: server.dataDirectory, args: args.slice(0, 1) });
    sold = { ...sold, client: adminClient(server) };
    expect((await exports()).map(({ name }) => name)).toEqual([`file:${file}`]);
    const removed = (await auditLog(sold.client)).filter(({ action }) => action === 'audit-export.remove');
    expect(removed.map(({ target }) => target)).toContain(`syslog://127.0.0.1:${syslog.port}`);
    expect(removed).toHaveLength(2);
  });
});

describe('a file of the audit log', () => {
  let path: string;
  const send = async () =>
    fileSink({ kind: 'file', name: `file:${path}`, path }).send(
      (await auditLog(sold.client)).slice(0, 4),
      AbortSignal.timeout(60_000),
    );
  const text = async () => readFile(path, 'utf8');

  beforeEach(() => {
    path = join(directory, `file-${Math.random()}.jsonl`);
  });

  it('gets every event once, however often a crash makes them come, and wherever it cut the file', async () => {
    await send();
    const whole = await text();
    expect(whole.split('\n')).toHaveLength(5);
    for (let length = whole.length; length >= 0; length -= 97) {
      await truncate(path, length);
      await send();
      expect(await text()).toBe(whole);
    }
  });

  it('that ends with something else is left as it is', async () => {
    await writeFile(path, 'somebody else wrote this');
    await expect(send()).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    expect(await text()).toBe('somebody else wrote this');
  });

  it('that is none is said', async () => {
    path = '/dev/null';
    await expect(send()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});

describe('a target that cannot be', () => {
  it.each([
    'syslog://',
    'ftp://logs.acme.example',
    'http://logs.acme.example/audit',
    'https://user:secret@logs.acme.example/',
    'file:relative',
    'file:/',
    'syslog://logs.acme.example/path',
    'syslog://logs.acme.example#ca-file=/x',
    'https://logs.acme.example/#token-file=',
  ])('is refused: %s', (target) => {
    let refusal: unknown;
    try {
      parseArguments([`--audit-export=${target}`]);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toMatchObject({ code: 'USAGE_INVALID', hint: expect.any(String) as string });
    expect((refusal as Error).message).not.toContain('secret');
  });

  it('because it is there twice, or its token is not', async () => {
    const twice = ['--audit-export=file:/tmp/a', '--audit-export=file:///tmp/a'];
    expect(() => parseArguments(twice)).toThrow(/twice/u);
    await expect(
      startKeyServer({ args: ['--audit-export=https://logs.acme.example/#token-file=/none'] }),
    ).rejects.toThrow(/CONFIG_INVALID: \/none/u);
  });
});
