/** `latchkey product`: what licenses are sold for. */
import type { Command } from 'commander';
import type { Product } from '#src/wire/admin/product.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { parseContact, parseName, parseProductCode } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';

export function registerProduct(program: Command, context: CommandContext): void {
  const product = program.command('product').description('products that licenses are sold for');
  withAdminOptions(product.command('create'))
    .description('create a product')
    .argument(
      '<code>',
      'short name used in commands: lower-case letters, digits, dots, dashes',
      parseProductCode,
    )
    .option('--name <name>', 'name for people (default: the code)', parseName)
    .option('--contact <line>', 'whom customers ask when a start is refused', parseContact)
    .addHelpText('after', '\nExample:\n  latchkey product create acme-web --contact help@acme.example')
    .action(async (code: string, options: { name?: string; contact?: string }, command: Command) => {
      const client = await adminClientOf(context, command);
      const { name = code, contact } = options;
      const created = await client.createProduct({ code, name, contact });
      outputOf(context, command).result(created, () => `product ${created.code} created`);
    });
  withListOptions(withAdminOptions(product.command('list')))
    .description('list products')
    .addHelpText('after', '\nExample:\n  latchkey product list --json')
    .action(async (options: ListOptions, command: Command) => {
      const products = await (await adminClientOf(context, command)).products(listFilter(options));
      outputOf(context, command).result(products, () => productTable(products));
    });
}

function productTable(products: readonly Product[]): string {
  return formatTable(
    ['CODE', 'NAME', 'CONTACT', 'ID'],
    products.map(({ code, name, contact, id }) => [code, name, contact ?? '-', id]),
  );
}
