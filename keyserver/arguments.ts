/** The command line of the key server. */
import { isIP } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';
import { type ExportTarget, parseExportTargets } from './audit/export/export-target.ts';
import { CONNECTION_LIMITS, type ConnectionLimits } from './connection-limits.ts';
import { type RootKeyTokenUri, readTokenOption } from './custody/root-key-token.ts';
import { hasPassword } from './database-url.ts';
import { SECOND_MS } from '#src/base/units.ts';
import { MAX_DRAIN_SECONDS, NODE_CERTIFICATE_LIFETIME_MS } from './limits.ts';
import { type Rates, parseRates } from './rates.ts';

export interface ServeOptions {
  /** Directory of the database and of what belongs to it. */
  readonly dataDirectory: string;
  /** URL of a PostgreSQL database, or a file that holds it; null = SQLite in the data directory. */
  readonly database: string | null;
  readonly rootKeyFile: string;
  /** The token with the key of a slot; null = none. */
  readonly rootKeyToken: RootKeyTokenUri | null;
  /** Wait to be unsealed, although the root key is there. */
  readonly startsSealed: boolean;
  readonly organizationName: string;
  readonly contact: string;
  readonly adminListen: string;
  readonly nodeListen: string;
  readonly enrollListen: string;
  readonly hostnames: readonly string[];
  readonly adminTls: { readonly certFile: string; readonly keyFile: string } | null;
  /** How long a node certificate lives; nodes renew theirs after two thirds of it. */
  readonly nodeCertificateLifetimeMs: number;
  /** The database was restored from an older copy on purpose. */
  readonly afterRestore: boolean;
  /** Nobody has an admin token that works: make one. */
  readonly recoversAdmin: boolean;
  /** Where checkpoints of the audit log are kept, away from the database. */
  readonly auditCheckpointDirectory: string | null;
  readonly rates: Rates;
  /** Of the listeners for nodes; no option changes them. */
  readonly connections: ConnectionLimits;
  /** Where copies of the audit log go. */
  readonly auditExports: readonly ExportTarget[];
  /** From the signal to stop on, until nobody is listened to any more. */
  readonly drainMs: number;
  /** Where Prometheus reads, `host:port`; null = nowhere. */
  readonly metricsListen: string | null;
  /** Webhooks may go over http and into private networks. */
  readonly allowsPrivateWebhooks: boolean;
  readonly logLevel: string;
}

export const DEFAULT_DATA_DIRECTORY = '/var/lib/latchkey';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  'root-key': { type: 'string' },
  'root-key-token': { type: 'string' },
  sealed: { type: 'boolean', default: false },
  organization: { type: 'string', default: 'Latchkey' },
  contact: { type: 'string', default: '' },
  'admin-listen': { type: 'string', default: '127.0.0.1:7440' },
  'node-listen': { type: 'string', default: '127.0.0.1:7443' },
  'enroll-listen': { type: 'string', default: '127.0.0.1:7444' },
  hostname: { type: 'string', multiple: true, default: [] as string[] },
  'admin-tls-cert': { type: 'string' },
  'admin-tls-key': { type: 'string' },
  'node-certificate-life': { type: 'string' },
  'after-restore': { type: 'boolean', default: false },
  'new-admin-token': { type: 'boolean', default: false },
  'audit-checkpoints': { type: 'string' },
  'rate-limit': { type: 'string', multiple: true, default: [] as string[] },
  'audit-export': { type: 'string', multiple: true, default: [] as string[] },
  'webhook-allow-private': { type: 'boolean', default: false },
  'metrics-listen': { type: 'string' },
  'drain-seconds': { type: 'string', default: '0' },
  'log-level': { type: 'string', default: 'info' },
} as const;

const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'];

/**
 * @param environment - LATCHKEY_DATABASE counts when there is no --database
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseArguments(args: readonly string[], environment: NodeJS.ProcessEnv = {}): ServeOptions {
  const { values } = parse(args);
  const { 'root-key-token': token, 'admin-tls-cert': certFile, 'admin-tls-key': keyFile } = values;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new LatchkeyError('USAGE_INVALID', '--admin-tls-cert and --admin-tls-key belong together');
  }
  for (const name of ['admin-listen', 'node-listen', 'enroll-listen'] as const) {
    parseListen(values[name], name);
  }
  const metricsListen = values['metrics-listen'] ?? null;
  if (metricsListen !== null) parseListen(metricsListen, 'metrics-listen');
  const adminTls = certFile === undefined || keyFile === undefined ? null : { certFile, keyFile };
  if (adminTls === null && !isLoopback(parseListen(values['admin-listen'], 'admin-listen').host)) {
    throw new LatchkeyError('USAGE_INVALID', 'the admin API is plain HTTP and may only listen on loopback', {
      hint: 'give --admin-tls-cert and --admin-tls-key to listen elsewhere',
    });
  }
  if (!LOG_LEVELS.includes(values['log-level'])) {
    throw new LatchkeyError('USAGE_INVALID', `--log-level is one of ${LOG_LEVELS.join(', ')}`);
  }
  for (const name of ['data', 'organization', 'root-key', 'database', 'audit-checkpoints'] as const) {
    if (values[name]?.trim() !== '') continue;
    throw new LatchkeyError('USAGE_INVALID', `--${name} is empty`, { hint: 'give a value or leave it out' });
  }
  for (const hostname of values.hostname) checkHostname(hostname);
  return {
    dataDirectory: values.data,
    database: databaseOf(values.database, environment),
    rootKeyFile: values['root-key'] ?? join(values.data, 'root.key'),
    rootKeyToken: token === undefined ? null : readTokenOption(token),
    startsSealed: values.sealed,
    organizationName: values.organization,
    contact: values.contact,
    adminListen: values['admin-listen'],
    nodeListen: values['node-listen'],
    enrollListen: values['enroll-listen'],
    hostnames: values.hostname,
    adminTls,
    afterRestore: values['after-restore'],
    recoversAdmin: values['new-admin-token'],
    nodeCertificateLifetimeMs: parseLife(values['node-certificate-life']),
    auditCheckpointDirectory: values['audit-checkpoints'] ?? null,
    rates: parseRates(values['rate-limit']),
    connections: CONNECTION_LIMITS,
    auditExports: parseExportTargets(values['audit-export']),
    allowsPrivateWebhooks: values['webhook-allow-private'],
    metricsListen,
    drainMs: parseDrain(values['drain-seconds']),
    logLevel: values['log-level'],
  };
}

/**
 * @param environment - LATCHKEY_DATABASE counts when there is no argument
 * @throws LatchkeyError USAGE_INVALID for a password in the argument
 */
export function databaseOf(argument: string | undefined, environment: NodeJS.ProcessEnv): string | null {
  if (argument !== undefined && hasPassword(argument)) {
    throw new LatchkeyError(
      'USAGE_INVALID',
      '--database holds a password, which every user of the machine can read',
      {
        hint: 'give the URL in LATCHKEY_DATABASE, or name a file that holds it',
      },
    );
  }
  const database = argument ?? environment['LATCHKEY_DATABASE'] ?? '';
  return database === '' ? null : database;
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, strict: true, allowPositionals: false });
  } catch (error) {
    throw new LatchkeyError('USAGE_INVALID', error instanceof Error ? error.message : String(error), {
      hint: 'see `latchkey serve --help`',
      cause: error,
    });
  }
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A span like `30d`, at most as long as the default: a node that was given up should not stay a node for longer. */
function parseLife(text: string | undefined): number {
  if (text === undefined) return NODE_CERTIFICATE_LIFETIME_MS;
  const match = /^([1-9]\d{0,8})([smhd])$/.exec(text);
  const lifeMs = Number(match?.[1]) * (UNIT_MS[match?.[2] ?? ''] ?? Number.NaN);
  if (lifeMs <= NODE_CERTIFICATE_LIFETIME_MS) return lifeMs;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `--node-certificate-life ${text} is not a span of at most 365 days`,
    {
      hint: 'give a number and a unit: 12h or 30d',
    },
  );
}

/** Whole seconds; whoever stops a service kills it after a while. */
function parseDrain(text: string): number {
  const seconds = /^\d{1,3}$/.test(text) ? Number(text) : Number.NaN;
  if (seconds <= MAX_DRAIN_SECONDS) return seconds * SECOND_MS;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `--drain-seconds ${text} is not a number up to ${MAX_DRAIN_SECONDS}`,
    {
      hint: 'give the seconds that your load balancer needs to see that /readyz says no',
    },
  );
}

/**
 * Splits `host:port` (`[::1]:7440` for IPv6).
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseListen(
  address: string,
  option: string,
): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new LatchkeyError('USAGE_INVALID', `--${option} ${address} is not an address`, {
      hint: 'give HOST:PORT, for example 127.0.0.1:7440',
    });
  }
  return { host, port };
}

/** RFC 1123, section 2.1, or an IP address. */
function checkHostname(hostname: string): void {
  const label = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?';
  const isName = hostname.length <= 253 && new RegExp(`^${label}(\\.${label})*$`, 'i').test(hostname);
  if (isName || isIP(hostname) !== 0) return;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `--hostname ${JSON.stringify(hostname)} is not a name or address`,
    {
      hint: 'give one like keys.acme.example or 192.0.2.7, without scheme and port',
    },
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}
