/** `latchkey token`: API tokens for people and for CI. */
import { type Command, Option } from 'commander';
import { API_TOKEN_STATES, type ApiToken, type ApiTokenState } from '#src/wire/admin/api-token.ts';
import { PERMISSION_SET_NAMES, type PermissionSet } from '#src/wire/admin/permission.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser, parseName, parseProductCode } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant, parseApiTokenLife } from '../time-arguments.ts';

interface CreateOptions {
  readonly permissionSet: PermissionSet;
  readonly expiresIn?: number;
  readonly product?: string;
  readonly customer?: string;
}

interface TokenListOptions extends ListOptions {
  readonly permissionSet?: PermissionSet;
  readonly state?: ApiTokenState;
  readonly product?: string;
  readonly customer?: string;
}

export function registerToken(program: Command, context: CommandContext): void {
  const token = program.command('token').description('API tokens of the key server');
  withAdminOptions(token.command('create'))
    .description('create a token and print it, once')
    .argument('<name>', 'who or what uses it', parseName)
    .addOption(
      new Option('--permission-set <name>', 'what the token may do; release is for CI')
        .choices(PERMISSION_SET_NAMES)
        .makeOptionMandatory(),
    )
    .option('--expires-in <span>', 'how long it is valid, at most 366d (default: 90d)', parseApiTokenLife)
    .option('--product <code>', 'the token sees and changes this product alone')
    .option('--customer <customer>', 'the token sees and changes this customer alone')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey token create ci --permission-set release --product web > ci.token' +
        '\n  latchkey token create desk --permission-set customer-support --expires-in 30d > desk.token',
    )
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const created = await client.createToken({
        name,
        permissionSet: options.permissionSet,
        ...(options.expiresIn === undefined ? {} : { lifetimeMs: options.expiresIn }),
        ...(options.product === undefined ? {} : { product: options.product }),
        ...(options.customer === undefined ? {} : { customer: options.customer }),
      });
      outputOf(context, command).result(created, () => created.token);
    });
  withListOptions(withAdminOptions(token.command('list')))
    .description('list tokens (not the tokens themselves)')
    .addOption(new Option('--permission-set <name>', 'with this set').choices(PERMISSION_SET_NAMES))
    .addOption(new Option('--state <state>', 'that are in this state now').choices(API_TOKEN_STATES))
    .option('--product <code>', 'for this product alone', parseProductCode)
    .option('--customer <customer>', 'for this customer alone: id, external id or name', parseName)
    .addHelpText('after', '\nExample:\n  latchkey token list --permission-set admin')
    .action(async (options: TokenListOptions, command: Command) => {
      const { permissionSet, state, product, customer } = options;
      const client = await adminClientOf(context, command);
      const tokens = await client.tokens({
        ...listFilter(options),
        ...{ permissionSet, state, product, customer },
      });
      outputOf(context, command).result(tokens, () => tokenTable(tokens));
    });
  withAdminOptions(token.command('revoke'))
    .description('revoke a token at once')
    .argument('<id>', 'of the token', idParser('token', 'latchkey token list'))
    .addHelpText('after', '\nExample:\n  latchkey token revoke token_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      await (await adminClientOf(context, command)).revokeToken(id);
      outputOf(context, command).result({ revoked: id }, () => `token ${id} revoked`);
    });
}

function tokenTable(tokens: readonly ApiToken[]): string {
  return formatTable(
    ['ID', 'NAME', 'PERMISSION SET', 'FOR', 'STATE', 'CREATED', 'LAST USED', 'EXPIRES', 'REVOKED'],
    tokens.map((token) => [
      token.id,
      token.name,
      token.permissionSet,
      [token.productId, token.customerId].filter((owner) => owner !== null).join(' ') || 'all',
      token.state,
      formatInstant(token.createdAtMs),
      formatInstant(token.lastUsedAtMs),
      formatInstant(token.expiresAtMs),
      formatInstant(token.revokedAtMs),
    ]),
  );
}
