/** `latchkey token`: API tokens for people and for CI. */
import { type Command, Option } from 'commander';
import { TOKEN_SCOPES, type ApiToken, type TokenScope } from '#src/wire/admin/api-token.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { idParser, parseName } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

export function registerToken(program: Command, context: CommandContext): void {
  const token = program.command('token').description('API tokens of the key server');
  withAdminOptions(token.command('create'))
    .description('create a token and print it, once')
    .argument('<name>', 'who or what uses it', parseName)
    .addOption(
      new Option('--scope <scope>', 'admin: everything; release: CI, which may only register releases')
        .choices(TOKEN_SCOPES)
        .makeOptionMandatory(),
    )
    .addHelpText('after', '\nExample:\n  latchkey token create ci --scope release > ci.token')
    .action(async (name: string, options: { scope: TokenScope }, command: Command) => {
      const client = await adminClientOf(context, command);
      const created = await client.createToken({ name, scope: options.scope });
      outputOf(context, command).result(created, () => created.token);
    });
  withAdminOptions(token.command('list'))
    .description('list tokens (not the tokens themselves)')
    .addHelpText('after', '\nExample:\n  latchkey token list')
    .action(async (_options: unknown, command: Command) => {
      const tokens = await (await adminClientOf(context, command)).tokens();
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
    ['ID', 'NAME', 'SCOPE', 'CREATED'],
    tokens.map(({ id, name, scope, createdAtMs }) => [id, name, scope, formatInstant(createdAtMs)]),
  );
}
