/** `latchkey keygen`: a key pair for a recipient, or for signing releases. */
import type { KeyObject } from 'node:crypto';
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { writeNewFile } from '../new-file.ts';
import { formatFields, outputOf } from '../output.ts';

/** NIST SP 800-57: 3072 bits are as strong as P-256. */
const RSA_BITS = 3072;
const PRIVATE_FILE_MODE = 0o600;
const PUBLIC_FILE_MODE = 0o644;
const TAKEN_HINT = 'choose another name, or move the old key away';

interface KeygenOptions {
  readonly type: string;
}

export function registerKeygen(program: Command, context: CommandContext): void {
  program
    .command('keygen')
    .description(
      'make a key pair for a recipient or for signing: NAME.pem (private) and NAME.pub.pem (public)',
    )
    .argument('<name>', 'path of the files without their endings')
    .option(
      '--type <type>',
      'ec (P-256) or rsa (3072 bits) for recipients, ed25519 for signing releases',
      'ec',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey keygen customer\n  latchkey keygen --type ed25519 acme-releases',
    )
    .action(async (name: string, options: KeygenOptions, command: Command) => {
      const { publicKey, privateKey } = await generate(options.type);
      const privatePath = `${name}.pem`;
      const publicPath = `${name}.pub.pem`;
      await writeNewFile(privatePath, privateKey.export({ format: 'pem', type: 'pkcs8' }), {
        mode: PRIVATE_FILE_MODE,
        hint: TAKEN_HINT,
      });
      try {
        await writeNewFile(publicPath, publicKey.export({ format: 'pem', type: 'spki' }), {
          mode: PUBLIC_FILE_MODE,
          hint: TAKEN_HINT,
        });
      } catch (error) {
        // Half a pair would be in the way of the next attempt.
        const { rm } = await import('node:fs/promises');
        await rm(privatePath);
        throw error;
      }
      const isSigning = options.type === 'ed25519';
      outputOf(context, command).result({ type: options.type, privatePath, publicPath }, () =>
        formatFields([
          ['private key', `${privatePath} (keep it; it ${isSigning ? 'signs releases' : 'opens images'})`],
          ['public key', `${publicPath} (give it to whoever ${isSigning ? 'verifies' : 'encrypts'})`],
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
    case 'ed25519':
      return generateKeyPairSync('ed25519');
    default:
      throw new LatchkeyError('USAGE_INVALID', `--type ${JSON.stringify(type)} is not a key type`, {
        hint: 'use ec, rsa or ed25519',
      });
  }
}
