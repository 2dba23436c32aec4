/** `latchkey recipients`: who can open an encrypted image, shown and changed. */
import type { Command } from 'commander';
import type { NamedRecipient } from '#src/image/recipient-list.ts';
import { withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage } from '../image-location.ts';
import { append } from '../layer-options.ts';
import { formatTable, outputOf } from '../output.ts';
import { KEY_FORM, KEY_HELP, RECIPIENT_HELP } from '../recipient-help.ts';
import type { ChangeOptions, RemoveOptions } from '../recipient-change.ts';
import { withCarriedEntitlements } from '../required-entitlements.ts';

const DESTINATION_HELP = 'where the changed image goes; the same place is fine';

export function registerRecipients(program: Command, context: CommandContext): void {
  const recipients = program
    .command('recipients')
    .description('who can open an encrypted image: list, add, remove, re-wrap');
  registerList(recipients, context);
  registerAdd(recipients, context);
  registerRemove(recipients, context);
  registerRewrap(recipients, context);
}

function registerList(recipients: Command, context: CommandContext): void {
  recipients
    .command('list')
    .description('list the wrapped keys of every layer')
    .argument('<image>', LOCATION_HELP)
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText('after', '\nExample:\n  latchkey recipients list registry.acme.example/web:2.0')
    .action(async (image: string, options: { allowHttp?: boolean }, command: Command) => {
      const [{ readImageGraph }, { listRecipients }] = await Promise.all([
        import('#src/image/image-graph.ts'),
        import('#src/image/recipient-list.ts'),
      ]);
      const { store, reference } = await openImage(context, image, options.allowHttp);
      const graph = await readImageGraph(store, reference, { signal: context.signal });
      const layers = await listRecipients(graph);
      outputOf(context, command).result({ digest: graph.root.descriptor.digest, layers }, () =>
        formatTable(
          ['PLATFORM', 'LAYER', 'RECIPIENT', 'FOR'],
          layers.flatMap(({ platform, position, recipients: listed }) =>
            listed.map((recipient) => [platform, String(position), recipient.name, whom(recipient)]),
          ),
        ),
      );
    });
}

function whom({ imageKeyId, organizationId, keys, keyIds }: NamedRecipient): string {
  if (imageKeyId !== undefined) return `license holders of ${organizationId ?? ''}, image key ${imageKeyId}`;
  if (keyIds !== undefined) return keyIds.join(', ');
  return keys === undefined || keys === 1 ? 'a private key' : `${keys} private keys`;
}

function registerAdd(recipients: Command, context: CommandContext): void {
  withCarriedEntitlements(withChangeOptions(withAdminOptions(recipients.command('add'))), 'the source')
    .description('let more recipients open an image; no layer is changed or uploaded again')
    .option('--product <code>', 'let license holders of this product run it: registers the new image')
    .addHelpText(
      'after',
      `
${KEY_HELP}

Example:
  latchkey recipients add --key isv.pem --recipient jwe:customer.pub.pem \\
    registry.acme.example/web:2.0 registry.acme.example/web:2.0-customer`,
    )
    .action(async (source: string, destination: string, options: ChangeOptions, command: Command) => {
      const { addRecipients } = await import('../recipient-change.ts');
      await addRecipients({ context, command, sourceText: source, destinationText: destination }, options);
    });
}

function registerRemove(recipients: Command, context: CommandContext): void {
  withCarriedEntitlements(withChangeOptions(withAdminOptions(recipients.command('remove'))), 'the source')
    .description('give the layers new keys that a removed recipient does not get')
    .argument('<element...>', 'who goes, as `latchkey recipients list` shows it: jwe#2')
    .option('--product <code>', 'license holders of this product stay: registers the new image')
    .option('--keep-layer-keys', 'only drop the wrapped key: whoever has an older manifest can still decrypt')
    .addHelpText(
      'after',
      `
The recipients that stay are given again, for their public keys cannot be read from the image.
${KEY_HELP}

Example:
  latchkey recipients remove --key isv.pem --recipient jwe:isv.pub.pem \\
    registry.acme.example/web:2.0 registry.acme.example/web:2.0-new jwe#2`,
    )
    .action(
      async (
        source: string,
        destination: string,
        elements: readonly string[],
        options: RemoveOptions,
        command: Command,
      ) => {
        const { removeRecipients } = await import('../recipient-change.ts');
        const run = { context, command, sourceText: source, destinationText: destination };
        await removeRecipients(run, elements, options);
      },
    );
}

function registerRewrap(recipients: Command, context: CommandContext): void {
  withCarriedEntitlements(
    withPublicationOptions(withAdminOptions(recipients.command('rewrap'))),
    'the source',
  )
    .description('give license holders a new image key, so that the old release can be withdrawn')
    .requiredOption('--product <code>', 'whose release it is')
    .addHelpText(
      'after',
      `
Example:
  latchkey recipients rewrap --product acme-web registry.acme.example/web:2.0 registry.acme.example/web:2.0`,
    )
    .action(
      async (
        source: string,
        destination: string,
        options: Omit<ChangeOptions, 'key' | 'recipient'>,
        command: Command,
      ) => {
        const { rewrapImage } = await import('../recipient-change.ts');
        await rewrapImage({ context, command, sourceText: source, destinationText: destination }, options);
      },
    );
}

function withChangeOptions(command: Command): Command {
  return withPublicationOptions(command)
    .option(
      `--key <${KEY_FORM}>`,
      'private key of a present recipient, to open the layer keys; repeatable',
      append,
      [],
    )
    .option('--recipient <scheme:key>', RECIPIENT_HELP, append, []);
}

function withPublicationOptions(command: Command): Command {
  return command
    .argument('<source>', LOCATION_HELP)
    .argument('<destination>', DESTINATION_HELP)
    .option('--sign-key <file>', 'also sign the release statement with this private key (Ed25519 or P-256)')
    .option('--allow-http', 'plain HTTP also to registries on other hosts');
}
