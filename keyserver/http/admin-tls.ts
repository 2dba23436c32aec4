/** Certificate and key of the admin API. */
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { LatchkeyError } from '#src/base/errors.ts';

export interface AdminTls {
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface AdminTlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** @throws LatchkeyError CONFIG_INVALID naming the file that cannot be used */
export async function readAdminTls({ certFile, keyFile }: AdminTlsFiles): Promise<AdminTls> {
  const cert = await usable(certFile, '--admin-tls-cert', (bytes) => createSecureContext({ cert: bytes }));
  const key = await usable(keyFile, '--admin-tls-key', (bytes) => createSecureContext({ cert, key: bytes }));
  return { cert, key };
}

async function usable(file: string, option: string, use: (bytes: Buffer) => unknown): Promise<Buffer> {
  try {
    const bytes = await readFile(file);
    use(bytes);
    return bytes;
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'unreadable';
    throw new LatchkeyError('CONFIG_INVALID', `${option} ${file} cannot be used (${reason})`, {
      hint: 'give a PEM certificate with --admin-tls-cert and the PEM key that belongs to it with --admin-tls-key',
      cause: error,
    });
  }
}
