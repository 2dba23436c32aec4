/** `latchkey customer`: who holds licenses. */
import type { Command } from 'commander';
import type { Customer } from '#src/wire/admin/customer.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { parseName } from '../name-arguments.ts';
import { escapeLine, formatTable, outputOf } from '../output.ts';

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
  withAdminOptions(customer.command('list'))
    .description('list customers')
    .addHelpText('after', '\nExample:\n  latchkey customer list')
    .action(async (_options: unknown, command: Command) => {
      const customers = await (await adminClientOf(context, command)).customers();
      outputOf(context, command).result(customers, () => customerTable(customers));
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

function customerTable(customers: readonly Customer[]): string {
  return formatTable(
    ['ID', 'NAME', 'EXTERNAL ID', 'STATE'],
    customers.map(({ id, name, externalId, state }) => [id, name, externalId ?? '-', state]),
  );
}
