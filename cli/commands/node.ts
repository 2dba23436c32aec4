/** `latchkey node`: what the operator of a customer's machine does. */
import type { Command } from 'commander';
import { agentEnvironment } from '../agent-environment.ts';
import type { CommandContext } from '../context.ts';
import { nodeStatusText } from '../node-status-text.ts';
import { outputOf } from '../output.ts';
import { becomeProgram } from '../run-program.ts';
import { type SocketOptions, readLine, withAgent, withSocket } from './agent-socket.ts';
import { registerNodeDoctor } from './node-doctor.ts';
import { DEFAULT_CONFIG_PATH, registerNodeInstall } from './node-install.ts';
import { registerNodePreflight } from './node-preflight.ts';
import { registerNodeOffline } from './node-offline.ts';
import { registerNodeUsage } from './node-usage.ts';
import { registerNodeUninstall } from './node-uninstall.ts';

/** Adds the group and gives it, so that other verbs about nodes can join. */
export function registerNode(program: Command, context: CommandContext): Command {
  const node = program
    .command('node')
    .description('the agent on this machine, and the nodes a key server knows');
  registerRun(node, context);
  registerActivate(node, context);
  registerNodeOffline(node, context);
  registerStatus(node, context);
  registerNodePreflight(node, context);
  registerNodeUsage(node, context);
  registerDrop(node, context);
  registerNodeInstall(node, context);
  registerNodeUninstall(node, context);
  registerNodeDoctor(node, context);
  return node;
}

function registerRun(node: Command, context: CommandContext): void {
  node
    .command('run')
    .description('run the node agent in the foreground (as root)')
    .option('--config <file>', "the agent's configuration", DEFAULT_CONFIG_PATH)
    .addHelpText('after', '\nExample:\n  latchkey node run --config /etc/latchkey/node.toml')
    .action((options: { config: string }) => {
      becomeProgram('shim/agent/main.js', [options.config], agentEnvironment(context.env));
    });
}

function registerActivate(node: Command, context: CommandContext): void {
  withSocket(node.command('activate', { isDefault: false }), context)
    .description('activate this machine with a license key or a join token')
    .argument('<key-or-token>', 'the license key or join token, or - to read it from standard input')
    .addHelpText('after', '\nExample:\n  latchkey node activate LK-XXXXXX-XXXXXX-XXXXXX-XXXXXX-XXXXXX-XXXXXX')
    .action(async (argument: string, options: SocketOptions, command: Command) => {
      const licenseKey = argument === '-' ? await readLine() : argument;
      const answer = await withAgent(options, (agent) => agent.activate(licenseKey));
      outputOf(context, command).result(answer, () =>
        [
          `activated: license ${answer.licenseId} for product ${answer.productCode}, node ${answer.nodeId}`,
          `the node certificate is valid until ${new Date(answer.certificateExpiresAtMs).toISOString()}`,
        ].join('\n'),
      );
    });
}

function registerStatus(node: Command, context: CommandContext): void {
  withSocket(node.command('status'), context)
    .description('licenses, leases, images, containers and plaintext of this machine')
    .addHelpText('after', '\nExample:\n  latchkey node status --json')
    .action(async (options: SocketOptions, command: Command) => {
      const status = await withAgent(options, (agent) => agent.status());
      outputOf(context, command).result(status, () => nodeStatusText(status, context.clock.nowMs()));
    });
}

function registerDrop(node: Command, context: CommandContext): void {
  withSocket(node.command('drop'), context)
    .description('drop decrypted layers that no running container uses')
    .addHelpText('after', '\nExample:\n  latchkey node drop')
    .action(async (options: SocketOptions, command: Command) => {
      const answer = await withAgent(options, (agent) => agent.dropPlaintext());
      outputOf(context, command).result(
        answer,
        () => `dropped ${answer.droppedLayers} layers, kept ${answer.keptLayers}`,
      );
    });
}
