/** `latchkey keygen`: a key pair for a recipient. */
import type { KeyObject } from 'node:crypto';
import type { Command } from 'commander';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';

/** NIST SP 800-57: 3072 bits are as strong as P-256. */
const RSA_BITS = 3072;
const PRIVATE_FILE_MODE = 0o600;
const PUBLIC_FILE_MODE = 0o644;

interface KeygenOptions {
  readonly type: string;
}

export function registerKeygen(program: Command, context: CommandContext): void {
  program
    .command('keygen')
    .description('make a key pair for a recipient: NAME.pem (private) and NAME.pub.pem (public)')
    .argument('<name>', 'path of the files without their endings')
    .option('--type <type>', 'ec (P-256) or rsa (3072 bits)', 'ec')
    .addHelpText('after', '\nExample:\n  latchkey keygen customer')
    .action(async (name: string, options: KeygenOptions, command: Command) => {
      const { publicKey, privateKey } = await generate(options.type);
      const privatePath = `${name}.pem`;
      const publicPath = `${name}.pub.pem`;
      await writeNew(privatePath, privateKey.export({ format: 'pem', type: 'pkcs8' }), PRIVATE_FILE_MODE);
      try {
        await writeNew(publicPath, publicKey.export({ format: 'pem', type: 'spki' }), PUBLIC_FILE_MODE);
      } catch (error) {
        // Half a pair would be in the way of the next attempt.
        const { rm } = await import('node:fs/promises');
        await rm(privatePath);
        throw error;
      }
      outputOf(context, command).result({ type: options.type, privatePath, publicPath }, () =>
        formatFields([
          ['private key', `${privatePath} (keep it; it opens images)`],
          ['public key', `${publicPath} (give it to whoever encrypts)`],
        ]),
      );
    });
}

async function generate(type: string): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  const { generateKeyPairSync } = await import('node:crypto');
  switch (type) {
    case 'ec':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' });
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: RSA_BITS });
    default:
      throw new LatchkeyError('USAGE_INVALID', `--type ${JSON.stringify(type)} is not a key type`, {
        hint: 'use ec or rsa',
      });
  }
}

async function writeNew(path: string, content: string | Buffer, mode: number): Promise<void> {
  const { open } = await import('node:fs/promises');
  try {
    const file = await open(path, 'wx', mode);
    await file.writeFile(content);
    await file.sync();
    await file.close();
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw new LatchkeyError('STATE_CONFLICT', `${path} exists already and is not overwritten`, {
      hint: 'choose another name, or move the old key away',
      cause: error,
    });
  }
}
