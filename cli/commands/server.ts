/** `latchkey server`: who can open the key server's keys, and whether it can. */
import type { Command } from 'commander';
import type { RootKeySlotInfo, SealStatus } from '#src/wire/admin/seal.ts';
import { adminClientOf, sealClientOf, withAdminOptions, withServerOption } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { idParser, parseName } from '../name-arguments.ts';
import { formatFields, formatTable, outputOf } from '../output.ts';
import {
  type RootKeyOptions,
  givenShares,
  readProof,
  readRootKey,
  withRootKeyOptions,
} from '../root-key-input.ts';
import { checkShareTerms, sharesOption, sharesText, thresholdOption } from '../share-terms.ts';
import { registerServerAddToken } from './server-add-token.ts';
import { registerServerBackup } from './server-backup.ts';
import { registerServerDoctor } from './server-doctor.ts';
import { registerServerInit } from './server-init.ts';
import { registerServerRestore } from './server-restore.ts';
import { registerServerRotate } from './server-rotate.ts';

export function registerServer(program: Command, context: CommandContext): void {
  const server = program.command('server').description('the key server itself: its root key, sealed or not');
  registerServerInit(server, context);
  withServerOption(server.command('status'))
    .description('show whether the key server is sealed, and what opens it; takes no token')
    .addHelpText('after', '\nExample:\n  latchkey server status')
    .action(async (_options: unknown, command: Command) => {
      const status = await (await sealClientOf(context, command)).status();
      outputOf(context, command).result(status, () => statusText(status));
    });
  withRootKeyOptions(withServerOption(server.command('unseal')))
    .description('open the keys of a sealed key server with its root key or with shares; takes no token')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey server unseal' +
        '\n  latchkey server unseal --share-file /media/alice/share /media/bob/share /media/carol/share' +
        '\n  latchkey server unseal --root-key /media/safe/root.key',
    )
    .action(async (options: RootKeyOptions, command: Command) => {
      const client = await sealClientOf(context, command);
      const output = outputOf(context, command);
      let status = await client.status();
      if (options.rootKey !== undefined) {
        status = await client.unseal({ rootKey: await readRootKey(options.rootKey) });
      } else if (status.isSealed) {
        for await (const share of givenShares(context, options)) {
          status = await client.unseal({ share });
          if (!status.isSealed) break;
          output.note(status.slots.flatMap(givenText).join('; '));
        }
      }
      output.result(status, () => statusText(status));
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
  withRootKeyOptions(withAdminOptions(server.command('add-shares')))
    .description('share the root key among people and print the shares, once')
    .argument('<label>', 'of the slot, such as emergency', parseName)
    .addOption(sharesOption())
    .addOption(thresholdOption())
    .option('--replace', 'in place of the shares with this label, which open nothing any more')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey server add-shares emergency --root-key /var/lib/latchkey/root.key' +
        '\n  latchkey server add-shares primary --replace --shares 7 --threshold 4',
    )
    .action(async (label: string, options: AddOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const { shares, threshold, replace: replaces = false } = options;
      checkShareTerms(options);
      const proof = await readProof(context, options);
      const added = await client.addSharedSlot({ label, shares, threshold, replaces, proof });
      outputOf(context, command).result(added, () => sharesText(label, threshold, added.shares));
      // Once the new ones are out: who loses them still has the old ones.
      if (added.replacedSlotId !== null) await client.removeSlot(added.replacedSlotId, proof);
    });
  withRootKeyOptions(withAdminOptions(server.command('remove-slot')))
    .description('remove a slot: its shares, or the root key file, open nothing any more')
    .argument('<id>', 'of the slot', idParser('slot', 'latchkey server status'))
    .addHelpText('after', '\nExample:\n  latchkey server remove-slot slot_0191b2f0-...')
    .action(async (id: string, options: RootKeyOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      await client.removeSlot(id, await readProof(context, options));
      outputOf(context, command).result({ removed: id }, () => `slot ${id} removed`);
    });
  registerServerAddToken(server, context);
  registerServerRotate(server, context);
  registerServerDoctor(server, context);
  registerServerBackup(server, context);
  registerServerRestore(server, context);
}

interface AddOptions extends RootKeyOptions {
  readonly shares: number;
  readonly threshold: number;
  readonly replace?: true;
}

function statusText(status: SealStatus): string {
  const fields = formatFields([
    ['organization', status.organizationId],
    ['state', status.isSealed ? 'sealed' : 'unsealed'],
  ]);
  const rows = status.slots.map((slot) => [
    slot.id,
    slot.label,
    slot.kind,
    slot.shares === null ? '' : `${slot.shares.threshold} of ${slot.shares.count}`,
    slot.shares === null || !status.isSealed ? '' : String(slot.shares.given),
  ]);
  return `${fields}\n${formatTable(['SLOT', 'LABEL', 'KIND', 'OPENED BY', 'GIVEN'], rows)}`;
}

function givenText({ label, shares }: RootKeySlotInfo): string[] {
  return shares === null || shares.given === 0
    ? []
    : [`${shares.given} of ${shares.threshold} shares of ${label} given`];
}
