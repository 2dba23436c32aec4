/** `latchkey license join-token` and its kin: let machines in without the license key. */
import type { Command } from 'commander';
import type { CreatedJoinToken, JoinToken } from '#src/wire/admin/join-token.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant, parseJoinTokenLife, parseSeatCount } from '../time-arguments.ts';

/** @param license the `license` command, on which these verbs stand */
export function registerJoinTokens(license: Command, context: CommandContext): void {
  withAdminOptions(license.command('join-token'))
    .description('create a join token, with which machines are activated instead of the license key')
    .argument('<id>', 'of the license', idParser('lic', 'latchkey license list'))
    .option('--uses <count>', 'nodes it lets in (default: 1)', parseSeatCount)
    .option('--life <span>', 'how long it counts (default: 7d)', parseJoinTokenLife)
    .addHelpText('after', '\nExample:\n  latchkey license join-token lic_0191b2f0-... --uses 5 --life 24h')
    .action(async (id: string, options: { uses?: number; life?: number }, command: Command) => {
      const client = await adminClientOf(context, command);
      const created = await client.createJoinToken(id, { uses: options.uses, lifeMs: options.life });
      outputOf(context, command).result(created, () => createdText(created));
    });
  withListOptions(withAdminOptions(license.command('join-tokens')))
    .description('list join tokens')
    .option('--license <id>', 'for this license', idParser('lic', 'latchkey license list'))
    .addHelpText('after', '\nExample:\n  latchkey license join-tokens')
    .action(async (options: ListOptions & { license?: string }, command: Command) => {
      const client = await adminClientOf(context, command);
      const tokens = await client.joinTokens({ ...listFilter(options), license: options.license });
      outputOf(context, command).result(tokens, () => joinTokenTable(tokens));
    });
  withAdminOptions(license.command('revoke-join-token'))
    .description('end a join token; the nodes that it let in stay')
    .argument('<id>', 'of the join token', idParser('join', 'latchkey license join-tokens'))
    .addHelpText('after', '\nExample:\n  latchkey license revoke-join-token join_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const revoked = await (await adminClientOf(context, command)).revokeJoinToken(id);
      outputOf(context, command).result(revoked, () => `join token ${revoked.id} is revoked`);
    });
}

function createdText({ joinToken, token }: CreatedJoinToken): string {
  const { usesLeft, expiresAtMs } = joinToken;
  return [
    `join token ${joinToken.id} lets in ${usesLeft} node${usesLeft === 1 ? '' : 's'} until ${formatInstant(expiresAtMs)}`,
    '',
    'The token is shown this once:',
    '',
    `  ${token}`,
    '',
    'The customer runs on each node, and gives the token on standard input:',
    '',
    '  latchkey node activate -',
    '',
  ].join('\n');
}

function joinTokenTable(tokens: readonly JoinToken[]): string {
  return formatTable(
    ['ID', 'LICENSE', 'USES LEFT', 'EXPIRES', 'REVOKED'],
    tokens.map((token) => [
      token.id,
      token.licenseId,
      String(token.usesLeft),
      formatInstant(token.expiresAtMs),
      formatInstant(token.revokedAtMs),
    ]),
  );
}
