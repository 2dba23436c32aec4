/** The part of `latchkey node` that speaks to the key server: which nodes there are, and shutting one out. */
import { type Command, Option } from 'commander';
import { NODE_ACTIONS, NODE_STATES, type NodeAction, type NodeState } from '#src/licensing/node-state.ts';
import type { Node } from '#src/wire/admin/node.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser, parseName } from '../name-arguments.ts';
import { escapeLine, formatFields, formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

const DESCRIPTIONS = {
  ban: 'refuse a node; its seat becomes free',
  unban: 'let a banned node in again',
  retire: 'free the seat of a node that is gone; it may enrol anew',
  readmit: 'let a node in again that was found restored or copied',
} as const satisfies Record<NodeAction, string>;

interface NodeListOptions extends ListOptions {
  readonly state?: NodeState;
  readonly license?: string;
  readonly installation?: string;
}

/** @param node the `node` command, on which the agent's own verbs stand too */
export function registerNodeAdmin(node: Command, context: CommandContext): void {
  withListOptions(withAdminOptions(node.command('list')))
    .description('list the nodes that the key server knows')
    .addOption(new Option('--state <state>', 'that are in this state').choices(NODE_STATES))
    .option(
      '--license <id>',
      'that were activated with this license',
      idParser('lic', 'latchkey license list'),
    )
    .option('--installation <name>', 'that belong there', parseName)
    .addHelpText('after', '\nExample:\n  latchkey node list --state BANNED')
    .action(async (options: NodeListOptions, command: Command) => {
      const { state, license, installation } = options;
      const client = await adminClientOf(context, command);
      const nodes = await client.nodes({ ...listFilter(options), state, license, installation });
      outputOf(context, command).result(nodes, () => nodeTable(nodes));
    });
  withAdminOptions(node.command('show'))
    .description('show a node that the key server knows')
    .argument('<id>', 'of the node', idParser('node', 'latchkey node list'))
    .addHelpText('after', '\nExample:\n  latchkey node show node_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const shown = await (await adminClientOf(context, command)).node(id);
      outputOf(context, command).result(shown, () => nodeFields(shown));
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

function nodeFields(node: Node): string {
  return formatFields([
    ['node', node.id],
    ['name', node.name],
    ['state', node.state],
    ['installation', node.installation ?? undefined],
    ['licenses', node.licenseIds.join(', ') || undefined],
    ['key', node.keyThumbprint],
    ['activated', formatInstant(node.createdAtMs)],
    ['certificate', `until ${formatInstant(node.certificateExpiresAtMs)}`],
    ['last contact', formatLastContact(node)],
    ['changed', formatInstant(node.updatedAtMs)],
  ]);
}

function nodeTable(nodes: readonly Node[]): string {
  return formatTable(
    ['ID', 'NAME', 'STATE', 'INSTALLATION', 'LICENSES', 'ACTIVATED', 'LAST CONTACT', 'CERTIFICATE ENDS'],
    nodes.map((node) => [
      node.id,
      node.name,
      node.state,
      node.installation ?? '-',
      node.licenseIds.join(',') || '-',
      formatInstant(node.createdAtMs),
      formatLastContact(node),
      formatInstant(node.certificateExpiresAtMs),
    ]),
  );
}

function formatLastContact({ lastContactAtMs }: Node): string {
  return lastContactAtMs === null ? 'never' : formatInstant(lastContactAtMs);
}
