/** Debian's rsyslog, unpacked without installing it, as a receiver on free ports of the loopback. */
import { type ChildProcess, execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { spawnDependent } from './dependent-process.ts';
import { unpackDebianPackages } from './debian-files.ts';
import { freePort } from './free-port.ts';
import { PACKAGE_CACHE } from './site.ts';

const PACKAGES = ['rsyslog', 'rsyslog-openssl', 'libestr0', 'libfastjson4', 'liblognorm5'];
const START_POLL_MS = 50;
const run = promisify(execFile);

export interface Rsyslog {
  readonly tcpPort: number;
  readonly tlsPort: number;
  /** The certificate that it shows on the TLS port, for `localhost`. */
  readonly certificateFile: string;
  /** What it has understood of each message: JSON with `app`, `msgid`, `pri`, `sd`, `msg`. */
  messages(): Promise<Record<string, string>[]>;
  stop(): Promise<void>;
}

/** Starts it and waits until it listens. */
export async function startRsyslog(): Promise<Rsyslog> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-rsyslog-'));
  const root = join(directory, 'root');
  await unpackDebianPackages(PACKAGES, PACKAGE_CACHE, root);
  const [certificateFile, keyFile] = [join(directory, 'tls.pem'), join(directory, 'tls.key')];
  await run('openssl', [
    ...[
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=localhost',
    ],
    ...['-addext', 'subjectAltName=DNS:localhost', '-keyout', keyFile, '-out', certificateFile],
  ]);
  const [tcpPort, tlsPort] = [await freePort(), await freePort()];
  const output = join(directory, 'messages');
  const libraries = await libraryDirectory(root);
  const configuration = join(directory, 'rsyslog.conf');
  const listen = `type="imtcp" address="127.0.0.1" ruleset="keep"`;
  await writeFile(
    configuration,
    [
      `global(workDirectory="${directory}" defaultNetstreamDriverCAFile="${certificateFile}" defaultNetstreamDriverCertFile="${certificateFile}" defaultNetstreamDriverKeyFile="${keyFile}")`,
      'module(load="imtcp")',
      'template(name="parts" type="list" option.jsonf="on") {',
      ...[
        ['pri', 'pri'],
        ['app', 'app-name'],
        ['msgid', 'msgid'],
        ['sd', 'structured-data'],
        ['time', 'timestamp:::date-rfc3339'],
        ['msg', 'msg'],
      ].map(([name = '', property = '']) => {
        const [field = '', format] = property.split(':::');
        const date = format === undefined ? '' : ` dateformat="rfc3339"`;
        return `  property(outname="${name}" name="${field}"${date} format="jsonf")`;
      }),
      '}',
      `ruleset(name="keep") { action(type="omfile" file="${output}" template="parts") }`,
      `input(${listen} port="${tcpPort}")`,
      `input(${listen} port="${tlsPort}" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")`,
      '',
    ].join('\n'),
  );
  const child = spawnDependent(
    join(root, 'usr/sbin/rsyslogd'),
    ['-n', '-f', configuration, '-i', join(directory, 'pid'), '-M', join(libraries, 'rsyslog')],
    { stdio: 'ignore', env: { ...process.env, LD_LIBRARY_PATH: libraries } },
  );
  await listening(child, tcpPort);
  await listening(child, tlsPort);
  return {
    tcpPort,
    tlsPort,
    certificateFile,
    messages: async () => {
      const text = await readFile(output, 'utf8').catch(() => '');
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, string>);
    },
    stop: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      if (child.exitCode === null) child.kill('SIGTERM');
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Debian keeps libraries by architecture, and this is the one place that differs. */
async function libraryDirectory(root: string): Promise<string> {
  const { stdout } = await run('dpkg-architecture', ['-qDEB_HOST_MULTIARCH']).catch(() => ({
    stdout: process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu',
  }));
  return join(root, 'usr/lib', stdout.trim());
}

async function listening(child: ChildProcess, port: number): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`rsyslogd ended with ${child.exitCode}`);
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => {
        resolve(false);
      });
    });
    if (isOpen) return;
    await sleep(START_POLL_MS);
  }
}
