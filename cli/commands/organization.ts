/** `latchkey organization`: who this key server works for, and the key by which others know its releases. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';

export function registerOrganization(program: Command, context: CommandContext): void {
  const organization = program.command('organization').description('the organization of the key server');
  withAdminOptions(organization.command('show'))
    .description('show the organization')
    .addHelpText('after', '\nExample:\n  latchkey organization show')
    .action(async (_options: unknown, command: Command) => {
      const shown = await (await adminClientOf(context, command)).organization();
      outputOf(context, command).result(shown, () =>
        formatFields([
          ['id', shown.id],
          ['name', shown.name],
          ['contact', shown.contact === '' ? undefined : shown.contact],
        ]),
      );
    });
  withAdminOptions(organization.command('release-key'))
    .description('print the public key that verifies releases, for `latchkey verify --key`')
    .addHelpText('after', '\nExample:\n  latchkey organization release-key > acme.pub.pem')
    .action(async (_options: unknown, command: Command) => {
      const { releaseVerificationJwk } = await (await adminClientOf(context, command)).organization();
      const shown = await describeKey(releaseVerificationJwk);
      outputOf(context, command).result(shown, () => shown.pem);
    });
}

async function describeKey(jwk: Record<string, unknown>): Promise<{ keyId: string; pem: string }> {
  const { keyThumbprint, parseVerificationKey } = await import('#src/crypto/signing-key.ts');
  try {
    const key = parseVerificationKey(Buffer.from(JSON.stringify(jwk)), 'the release key');
    return { keyId: keyThumbprint(key), pem: key.export({ format: 'pem', type: 'spki' }).toString() };
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the key server gave no usable release key', {
      hint: 'use the same version of Latchkey on both sides',
      cause: error,
    });
  }
}
