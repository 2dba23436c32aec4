/** The part of `latchkey node` that speaks to the key server: which nodes there are, and shutting one out. */
import type { Command } from 'commander';
import type { Node } from '#src/wire/admin-api.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { idParser } from '../name-arguments.ts';
import { escapeLine, formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

/** @param node the `node` command, on which the agent's own verbs stand too */
export function registerNodeAdmin(node: Command, context: CommandContext): void {
  withAdminOptions(node.command('list'))
    .description('list the nodes that the key server knows')
    .addHelpText('after', '\nExample:\n  latchkey node list')
    .action(async (_options: unknown, command: Command) => {
      const nodes = await (await adminClientOf(context, command)).nodes();
      outputOf(context, command).result(nodes, () => nodeTable(nodes));
    });
  for (const verb of ['ban', 'unban'] as const) {
    withAdminOptions(node.command(verb))
      .description(verb === 'ban' ? 'refuse a node; its seat becomes free' : 'let a banned node in again')
      .argument('<id>', 'of the node', idParser('node', 'latchkey node list'))
      .addHelpText('after', `\nExample:\n  latchkey node ${verb} node_0191b2f0-...`)
      .action(async (id: string, _options: unknown, command: Command) => {
        const changed = await (await adminClientOf(context, command)).changeNode(id, verb);
        outputOf(context, command).result(
          changed,
          () => `node ${changed.id} (${escapeLine(changed.name)}) is ${changed.state}`,
        );
      });
  }
}

function nodeTable(nodes: readonly Node[]): string {
  return formatTable(
    ['ID', 'NAME', 'STATE', 'LICENSES', 'ACTIVATED', 'CERTIFICATE ENDS'],
    nodes.map((node) => [
      node.id,
      node.name,
      node.state,
      node.licenseIds.join(',') || '-',
      formatInstant(node.createdAtMs),
      formatInstant(node.certificateExpiresAtMs),
    ]),
  );
}
