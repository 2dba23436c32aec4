/** `latchkey node install`: sets this machine up. */
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { outputOf } from '../output.ts';
import { runJsonProgram } from '../run-program.ts';

export const DEFAULT_CONFIG_PATH = '/etc/latchkey/node.toml';

interface InstallOptions {
  readonly config: string;
  readonly containerdConfig: string;
  readonly containerd: string;
  readonly dryRun?: boolean;
}

export function registerNodeInstall(node: Command, context: CommandContext): void {
  node
    .command('install')
    .description("set up this machine's containerd for the agent")
    .option('--config <file>', "the agent's configuration", DEFAULT_CONFIG_PATH)
    .option('--containerd-config <file>', "containerd's configuration", '/etc/containerd/config.toml')
    .option('--containerd <program>', 'the containerd to detect the version of', 'containerd')
    .option('--dry-run', 'show the configuration, change nothing')
    .addHelpText('after', '\nExample:\n  latchkey node install --dry-run')
    .action(async (options: InstallOptions, command: Command) => {
      const args = ['install', '--config', options.config, '--containerd-config', options.containerdConfig];
      args.push('--containerd', options.containerd, ...(options.dryRun === true ? ['--dry-run'] : []));
      const answer = (await runJsonProgram('shim/install/main.js', args, context.signal)) as {
        containerdVersion: string;
        configPath: string;
        changed: boolean;
        backupPath?: string;
        configuration: string;
      };
      outputOf(context, command).result(answer, () => {
        if (!answer.changed)
          return `${answer.configPath} is set up already (containerd ${answer.containerdVersion})`;
        if (options.dryRun === true) return answer.configuration;
        const backup = answer.backupPath === undefined ? '' : `; the one before is ${answer.backupPath}`;
        return `wrote ${answer.configPath} for containerd ${answer.containerdVersion}${backup}\nrestart containerd to use it`;
      });
    });
}
