/** A PKCS#11 token in software (SoftHSM), in a directory of its own, with the key of the pkcs11 vectors. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { vectorKeyPath } from './ocicrypt-vector.ts';

const run = promisify(execFile);
const UTILITY = '/usr/bin/softhsm2-util';

export const TOKEN_PIN = '1234';

export interface SoftToken {
  readonly slotId: number;
  readonly modulePath: string;
  readonly moduleEnvironment: Readonly<Record<string, string>>;
  /** Names the key; without PIN and module. */
  readonly path: string;
  /** The key file in which peers and we find the key. */
  readonly keyFile: string;
}

/** Why there is no token here; empty when there is one. */
export function softTokenSkipReason(): string {
  if (!existsSync(UTILITY)) return ` (skipped: needs ${UTILITY}: apt-get install softhsm2)`;
  try {
    createRequire(import.meta.url)('graphene-pk11');
    return '';
  } catch {
    return ' (skipped: the optional package graphene-pk11 is not built: npm rebuild pkcs11js)';
  }
}

/** A token without a key: makes one, and its configuration. */
export async function createEmptyToken(
  directory: string,
): Promise<Pick<SoftToken, 'slotId' | 'modulePath' | 'moduleEnvironment'>> {
  const configuration = join(directory, 'softhsm2.conf');
  const moduleEnvironment = { SOFTHSM2_CONF: configuration };
  const env = { ...process.env, ...moduleEnvironment };
  await mkdir(join(directory, 'tokens'));
  await writeFile(configuration, `directories.tokendir = ${join(directory, 'tokens')}\n`);
  const pins = ['--pin', TOKEN_PIN, '--so-pin', TOKEN_PIN];
  const made = await run(UTILITY, ['--init-token', '--free', '--label', 'acme', ...pins], { env });
  const slotId = Number(/reassigned to slot (\d+)/.exec(made.stdout)?.[1]);
  return { slotId, modulePath: '/usr/lib/softhsm/libsofthsm2.so', moduleEnvironment };
}

export async function createSoftToken(directory: string): Promise<SoftToken> {
  const token = await createEmptyToken(directory);
  const env = { ...process.env, ...token.moduleEnvironment };
  const pkcs8 = join(directory, 'token.pkcs8');
  await run('openssl', ['pkcs8', '-topk8', '-nocrypt', '-in', vectorKeyPath('token.pem'), '-out', pkcs8]);
  const key = ['--import', pkcs8, '--token', 'acme', '--label', 'layers', '--id', 'a1'];
  await run(UTILITY, [...key, '--pin', TOKEN_PIN], { env });
  const path = 'pkcs11:token=acme;object=layers;id=%A1';
  const keyFile = join(directory, 'token.yaml');
  await writeFile(
    keyFile,
    [
      'pkcs11:',
      `  uri: ${path}?pin-value=${TOKEN_PIN}&module-name=softhsm2`,
      'module:',
      '  env:',
      `    SOFTHSM2_CONF: ${token.moduleEnvironment['SOFTHSM2_CONF']}`,
      '',
    ].join('\n'),
  );
  return { ...token, path, keyFile };
}
