/** Which key server a command talks to and with which token: options, environment, defaults. */
import type { Command } from 'commander';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { MAX_TOKEN_FILE_BYTES } from '#src/base/limits.ts';
import { isLoopbackHost } from '#src/registry/endpoint.ts';
import type { AdminClient } from './admin-client.ts';
import type { AdminClientOptions } from './admin-request.ts';
import type { BackupClient } from './backup-client.ts';
import type { ConcealmentClient } from './concealment-client.ts';
import type { SealClient } from './seal-client.ts';
import type { WebhookClient } from './webhook-client.ts';
import { type CommandContext, variable } from './context.ts';

const DEFAULT_SERVER = 'http://127.0.0.1:7440';
/** Where `latchkey serve` leaves the first token unless told otherwise. */
const DEFAULT_TOKEN_FILE = '/var/lib/latchkey/admin.token';

export interface AdminOptions {
  readonly server?: string;
  readonly tokenFile?: string;
}

/** Declares `--server` and `--token-file`; the token itself is never an argument, where others could see it. */
export function withAdminOptions(command: Command): Command {
  return withServerOption(command).option(
    '--token-file <file>',
    `file with an API token (LATCHKEY_TOKEN_FILE, or LATCHKEY_TOKEN itself)`,
  );
}

/** Declares `--server` alone, for what takes no token. */
export function withServerOption(command: Command): Command {
  return command.option('--server <url>', `key server (LATCHKEY_SERVER; default ${DEFAULT_SERVER})`);
}

/**
 * The client for a command that takes no token.
 * @throws LatchkeyError USAGE_INVALID for a bad URL
 */
export async function sealClientOf(context: CommandContext, command: Command): Promise<SealClient> {
  const serverUrl = serverUrlOf(context, command, 'key');
  const { SealClient } = await import('./seal-client.ts');
  return new SealClient(serverUrl, context.signal);
}

/**
 * The client for a command that has the admin options.
 * @throws LatchkeyError USAGE_INVALID for a bad URL, AUTH_REQUIRED when there is no token
 */
export async function adminClientOf(context: CommandContext, command: Command): Promise<AdminClient> {
  const options = await clientOptionsOf(context, command);
  const { AdminClient } = await import('./admin-client.ts');
  return new AdminClient(options);
}

/** The client for a command about what the audit log conceals. It @throws like the one before. */
export async function concealmentClientOf(
  context: CommandContext,
  command: Command,
): Promise<ConcealmentClient> {
  const options = await clientOptionsOf(context, command);
  const { ConcealmentClient } = await import('./concealment-client.ts');
  return new ConcealmentClient(options);
}

/** The client for a command about webhooks. It @throws like the one before. */
export async function webhookClientOf(context: CommandContext, command: Command): Promise<WebhookClient> {
  const options = await clientOptionsOf(context, command);
  const { WebhookClient } = await import('./webhook-client.ts');
  return new WebhookClient(options);
}

/** The client for a command that fetches a backup. It @throws like the one before. */
export async function backupClientOf(context: CommandContext, command: Command): Promise<BackupClient> {
  const options = await clientOptionsOf(context, command);
  const { BackupClient } = await import('./backup-client.ts');
  return new BackupClient(options);
}

async function clientOptionsOf(context: CommandContext, command: Command): Promise<AdminClientOptions> {
  const serverUrl = serverUrlOf(context, command, 'API token');
  const token = await readToken(context, command.optsWithGlobals<AdminOptions>());
  return { serverUrl, token, signal: context.signal };
}

function serverUrlOf(context: CommandContext, command: Command, secret: string): string {
  const options = command.optsWithGlobals<AdminOptions>();
  const serverUrl = options.server ?? variable(context, 'LATCHKEY_SERVER') ?? DEFAULT_SERVER;
  if (!isOrigin(serverUrl)) {
    throw new LatchkeyError('USAGE_INVALID', `${JSON.stringify(serverUrl)} is not the URL of a key server`, {
      hint: `give one like ${DEFAULT_SERVER}, without a path`,
    });
  }
  requireSecrecy(new URL(serverUrl), secret);
  return serverUrl;
}

/** The server itself answers beyond loopback only with TLS. */
function requireSecrecy({ protocol, hostname, host }: URL, secret: string): void {
  if (protocol === 'https:' || isLoopbackHost(hostname)) return;
  throw new LatchkeyError('USAGE_INVALID', `the ${secret} would go to ${host} without encryption`, {
    hint: `give the key server as https://${host}; it needs --admin-tls-cert and --admin-tls-key for that`,
  });
}

function isOrigin(text: string): boolean {
  if (!URL.canParse(text) || !/^https?:/.test(text)) return false;
  const { href, origin } = new URL(text);
  return href === `${origin}/`;
}

async function readToken(context: CommandContext, options: AdminOptions): Promise<string> {
  const file = options.tokenFile ?? variable(context, 'LATCHKEY_TOKEN_FILE');
  if (file !== undefined) return readTokenFile(file);
  const token = variable(context, 'LATCHKEY_TOKEN');
  if (token !== undefined) return checkToken(token, 'LATCHKEY_TOKEN');
  return readTokenFile(DEFAULT_TOKEN_FILE);
}

/** A token as a header can carry it (RFC 6750, section 2.1). */
function checkToken(token: string, source: string): string {
  if (/^[\w~+/.=-]{1,512}$/.test(token)) return token;
  throw new LatchkeyError('AUTH_REQUIRED', `what ${source} holds is not an API token`, {
    hint: 'a token is one line like the one in DATA/admin.token; make one with `latchkey token create`',
  });
}

async function readTokenFile(path: string): Promise<string> {
  try {
    const bytes = await readBoundedFile(path, MAX_TOKEN_FILE_BYTES);
    return checkToken((bytes ?? '').toString().trim(), path);
  } catch (error) {
    if (!['ENOENT', 'EACCES', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('AUTH_REQUIRED', `there is no API token in ${path}`, {
      hint: 'name its file with --token-file; the key server writes the first one to DATA/admin.token',
      cause: error,
    });
  }
}
