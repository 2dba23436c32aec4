/** `latchkey server`: whether the key server can open keys. */
import type { Command } from 'commander';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { MAX_TOKEN_FILE_BYTES } from '#src/base/limits.ts';
import type { SealStatus } from '#src/wire/admin/seal.ts';
import { adminClientOf, sealClientOf, withAdminOptions, withServerOption } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';

export function registerServer(program: Command, context: CommandContext): void {
  const server = program.command('server').description('seal and unseal the key server');
  withServerOption(server.command('status'))
    .description('show whether the key server is sealed; takes no token')
    .addHelpText('after', '\nExample:\n  latchkey server status')
    .action(async (_options: unknown, command: Command) => {
      const status = await (await sealClientOf(context, command)).status();
      outputOf(context, command).result(status, () => statusText(status));
    });
  withServerOption(server.command('unseal'))
    .description('open the keys of a sealed key server; takes no token')
    .requiredOption('--root-key <file>', 'the root key file')
    .addHelpText('after', '\nExample:\n  latchkey server unseal --root-key /media/safe/root.key')
    .action(async (options: { readonly rootKey: string }, command: Command) => {
      const client = await sealClientOf(context, command);
      const status = await client.unseal({ rootKey: await readRootKey(options.rootKey) });
      outputOf(context, command).result(status, () => statusText(status));
    });
  withAdminOptions(server.command('seal'))
    .description('forget the keys: none leaves the key server before it is unsealed')
    .requiredOption('--reason <text>', 'for the audit log')
    .addHelpText('after', '\nExample:\n  latchkey server seal --reason "break-in at the data center"')
    .action(async ({ reason }: { readonly reason: string }, command: Command) => {
      const { organizationId } = await (await sealClientOf(context, command)).status();
      const status = await (await adminClientOf(context, command)).seal({ organizationId, reason });
      outputOf(context, command).result(status, () => statusText(status));
    });
}

function statusText({ organizationId, isSealed }: SealStatus): string {
  return formatFields([
    ['organization', organizationId],
    ['state', isSealed ? 'sealed' : 'unsealed'],
  ]);
}

async function readRootKey(path: string): Promise<string> {
  try {
    return ((await readBoundedFile(path, MAX_TOKEN_FILE_BYTES)) ?? '').toString().trim();
  } catch (error) {
    if (!['ENOENT', 'EACCES', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('KEY_NOT_FOUND', `there is no root key in ${path}`, {
      hint: 'name the file that the key server was made with',
      cause: error,
    });
  }
}
