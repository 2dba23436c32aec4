/** `latchkey customer`: who holds licenses. */
import { type Command, Option } from 'commander';
import type { Customer } from '#src/wire/admin/customer.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { parseName } from '../name-arguments.ts';
import { escapeLine, formatFields, formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

export function registerCustomer(program: Command, context: CommandContext): void {
  const customer = program.command('customer').description('customers that hold licenses');
  withAdminOptions(customer.command('create'))
    .description('create a customer')
    .argument('<name>', 'for people', parseName)
    .option('--external-id <id>', 'its id in your own system, usable wherever a customer is named', parseName)
    .addHelpText('after', '\nExample:\n  latchkey customer create "Initech GmbH" --external-id crm-4711')
    .action(async (name: string, options: { externalId?: string }, command: Command) => {
      const created = await (
        await adminClientOf(context, command)
      ).createCustomer({ name, externalId: options.externalId });
      outputOf(context, command).result(created, () => `customer ${created.id} created`);
    });
  withListOptions(withAdminOptions(customer.command('list')))
    .description('list customers')
    .addOption(new Option('--state <state>', 'that are in this state').choices(['ACTIVE', 'BLOCKED']))
    .addHelpText('after', '\nExample:\n  latchkey customer list --state BLOCKED')
    .action(async (options: ListOptions & { state?: Customer['state'] }, command: Command) => {
      const client = await adminClientOf(context, command);
      const customers = await client.customers({ ...listFilter(options), state: options.state });
      outputOf(context, command).result(customers, () => customerTable(customers));
    });
  withAdminOptions(customer.command('show'))
    .description('show a customer')
    .argument('<customer>', 'id, external id or name', parseName)
    .addHelpText('after', '\nExample:\n  latchkey customer show crm-4711')
    .action(async (reference: string, _options: unknown, command: Command) => {
      const shown = await (await adminClientOf(context, command)).customer(reference);
      outputOf(context, command).result(shown, () => customerFields(shown));
    });
  for (const verb of ['block', 'unblock'] as const) {
    withAdminOptions(customer.command(verb))
      .description(
        verb === 'block'
          ? 'refuse starts under all licenses of a customer'
          : 'allow a blocked customer again',
      )
      .argument('<customer>', 'id, external id or name', parseName)
      .addHelpText('after', `\nExample:\n  latchkey customer ${verb} crm-4711`)
      .action(async (reference: string, _options: unknown, command: Command) => {
        const changed = await (await adminClientOf(context, command)).changeCustomer(reference, verb);
        outputOf(context, command).result(
          changed,
          () => `customer ${changed.id} (${escapeLine(changed.name)}) is ${changed.state}`,
        );
      });
  }
}

function customerFields(customer: Customer): string {
  return formatFields([
    ['customer', customer.id],
    ['name', customer.name],
    ['external id', customer.externalId ?? undefined],
    ['state', customer.state],
    ['created', formatInstant(customer.createdAtMs)],
    ['changed', formatInstant(customer.updatedAtMs)],
  ]);
}

function customerTable(customers: readonly Customer[]): string {
  return formatTable(
    ['ID', 'NAME', 'EXTERNAL ID', 'STATE'],
    customers.map(({ id, name, externalId, state }) => [id, name, externalId ?? '-', state]),
  );
}
