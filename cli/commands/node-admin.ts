/** The part of `latchkey node` that speaks to the key server: which nodes there are, and shutting one out. */
import type { Command } from 'commander';
import { NODE_ACTIONS, type NodeAction } from '#src/licensing/node-state.ts';
import type { Node } from '#src/wire/admin/node.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { idParser } from '../name-arguments.ts';
import { escapeLine, formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

const DESCRIPTIONS = {
  ban: 'refuse a node; its seat becomes free',
  unban: 'let a banned node in again',
  retire: 'free the seat of a node that is gone; it may enrol anew',
  readmit: 'let a node in again that was found restored or copied',
} as const satisfies Record<NodeAction, string>;

/** @param node the `node` command, on which the agent's own verbs stand too */
export function registerNodeAdmin(node: Command, context: CommandContext): void {
  withAdminOptions(node.command('list'))
    .description('list the nodes that the key server knows')
    .addHelpText('after', '\nExample:\n  latchkey node list')
    .action(async (_options: unknown, command: Command) => {
      const nodes = await (await adminClientOf(context, command)).nodes();
      outputOf(context, command).result(nodes, () => nodeTable(nodes));
    });
  for (const verb of NODE_ACTIONS) {
    withAdminOptions(node.command(verb))
      .description(DESCRIPTIONS[verb])
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
    ['ID', 'NAME', 'STATE', 'INSTALLATION', 'LICENSES', 'ACTIVATED', 'CERTIFICATE ENDS'],
    nodes.map((node) => [
      node.id,
      node.name,
      node.state,
      node.installation ?? '-',
      node.licenseIds.join(',') || '-',
      formatInstant(node.createdAtMs),
      formatInstant(node.certificateExpiresAtMs),
    ]),
  );
}
