/** Opens what a target of the audit log names. */
import { hostname } from 'node:os';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { MAX_TOKEN_FILE_BYTES } from '#src/base/limits.ts';
import { MAX_CERTIFICATE_FILE_BYTES } from '../../limits.ts';
import type { ExportTarget } from './export-target.ts';
import { fileSink } from './file-sink.ts';
import { httpSink } from './http-sink.ts';
import type { AuditSink } from './sink.ts';
import { syslogSink } from './syslog-sink.ts';

/**
 * Opens a sink. Only what belongs to its configuration is looked at: the other side may be away.
 * @throws LatchkeyError CONFIG_INVALID for a file of it that cannot be read
 */
export async function openSink(target: ExportTarget): Promise<AuditSink> {
  if (target.kind === 'file') return fileSink(target);
  const ca =
    target.caFile === null ? null : await readFileOf(target, target.caFile, MAX_CERTIFICATE_FILE_BYTES);
  if (target.kind === 'syslog') return syslogSink(target, hostname(), ca);
  const { tokenFile } = target;
  if (tokenFile === null) return httpSink(target, ca, null);
  const readToken = () => readTokenOf(target, tokenFile);
  await readToken();
  return httpSink(target, ca, readToken);
}

async function readTokenOf(target: ExportTarget, path: string): Promise<string> {
  const token = (await readFileOf(target, path, MAX_TOKEN_FILE_BYTES)).toString().trim();
  // RFC 6750, section 2.1.
  if (/^[\w~+/.-]+=*$/.test(token)) return token;
  throw new LatchkeyError('CONFIG_INVALID', `${path} holds no bearer token for ${target.name}`, {
    hint: 'write the token into it, in one line',
  });
}

async function readFileOf(target: ExportTarget, path: string, limitBytes: number): Promise<Buffer> {
  const bytes = await readBoundedFile(path, limitBytes).catch((error: unknown) => {
    if (systemErrorCode(error) === undefined) throw error;
    throw new LatchkeyError('CONFIG_INVALID', `${path}, which ${target.name} needs, cannot be read`, {
      hint: 'check what stands behind the # of --audit-export',
      cause: error,
    });
  });
  if (bytes !== undefined) return bytes;
  throw new LatchkeyError('CONFIG_INVALID', `${path}, which ${target.name} needs, is too large for that`);
}
