/**
 * Where the audit log is copied to: `syslog://`, `syslog+tls://`, `https://` or `file:`. What stands behind a `#` is for
 * us and is never sent: `token-file` and `ca-file`.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { isLoopbackHost } from '#src/registry/endpoint.ts';

interface NamedTarget {
  /** As it is shown and remembered: without what stands behind `?` and `#`. */
  readonly name: string;
}

export interface SyslogTarget extends NamedTarget {
  readonly kind: 'syslog';
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  readonly caFile: string | null;
}

export interface HttpTarget extends NamedTarget {
  readonly kind: 'http';
  readonly url: URL;
  readonly caFile: string | null;
  readonly tokenFile: string | null;
}

export interface FileTarget extends NamedTarget {
  readonly kind: 'file';
  readonly path: string;
}

export type ExportTarget = SyslogTarget | HttpTarget | FileTarget;

/** RFC 6587 names no port; this is what receivers listen on by custom. */
const SYSLOG_TCP_PORT = 514;
/** RFC 5425, section 4.1. */
const SYSLOG_TLS_PORT = 6514;

/** What each scheme may have behind the `#`. */
const SETTINGS: Readonly<Record<string, readonly string[]>> = {
  'syslog:': [],
  'syslog+tls:': ['ca-file'],
  'http:': ['token-file'],
  'https:': ['token-file', 'ca-file'],
};

const EXAMPLES =
  'syslog+tls://logs.acme.example, https://logs.acme.example/audit or file:/var/log/latchkey/audit.jsonl';

/**
 * Reads a target as it is given on the command line.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseExportTarget(text: string): ExportTarget {
  if (text.startsWith('file:')) return fileTarget(text);
  const url = URL.canParse(text) ? new URL(text) : null;
  const known = url === null ? undefined : SETTINGS[url.protocol];
  if (url === null || known === undefined || url.hostname === '')
    throw invalid(text, 'is no address of a log');
  if (url.username !== '' || url.password !== '') {
    // Not shown: it may hold a password.
    throw new LatchkeyError(
      'USAGE_INVALID',
      'an --audit-export holds a user or password, which every user of the machine can read',
      {
        hint: 'put a bearer token into a file: https://HOST/PATH#token-file=FILE',
      },
    );
  }
  const settings = readSettings(text, url.hash, known);
  url.hash = '';
  const name = `${url.origin}${url.pathname}`;
  const caFile = settings.get('ca-file') ?? null;
  if (url.protocol === 'http:' || url.protocol === 'https:') {
    if (url.protocol === 'http:' && !isLoopbackHost(url.hostname)) {
      throw invalid(text, 'would send the audit log without encryption');
    }
    return { kind: 'http', name, url, caFile, tokenFile: settings.get('token-file') ?? null };
  }
  if (!['', '/'].includes(url.pathname) || url.search !== '')
    throw invalid(text, 'has a path, which syslog has not');
  const isTls = url.protocol === 'syslog+tls:';
  const port = url.port === '' ? (isTls ? SYSLOG_TLS_PORT : SYSLOG_TCP_PORT) : Number(url.port);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { kind: 'syslog', name: `${url.protocol}//${url.hostname}:${port}`, host, port, isTls, caFile };
}

/**
 * Reads all targets of a command line.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseExportTargets(texts: readonly string[]): ExportTarget[] {
  const targets = texts.map(parseExportTarget);
  const twice = targets.find(({ name }, index) => targets.findIndex((other) => other.name === name) < index);
  if (twice === undefined) return targets;
  throw new LatchkeyError('USAGE_INVALID', `--audit-export ${twice.name} is given twice`, {
    hint: 'leave one out',
  });
}

function fileTarget(text: string): FileTarget {
  const path = text.slice('file:'.length).replace(/^\/\/(?=\/)/, '');
  if (!/^\/[^\0]*[^/\0]$/.test(path)) throw invalid(text, 'is no absolute path of a file');
  return { kind: 'file', name: `file:${path}`, path };
}

function readSettings(text: string, hash: string, known: readonly string[]): Map<string, string> {
  const settings = new Map<string, string>();
  for (const [key, value] of new URLSearchParams(hash.slice(1))) {
    if (!known.includes(key) || settings.has(key) || value === '') {
      throw invalid(text, `has a setting ${JSON.stringify(key)} that it cannot have, twice, or empty`);
    }
    settings.set(key, value);
  }
  return settings;
}

function invalid(text: string, what: string): LatchkeyError {
  return new LatchkeyError('USAGE_INVALID', `--audit-export ${JSON.stringify(text)} ${what}`, {
    hint: `give one like ${EXAMPLES}`,
  });
}
