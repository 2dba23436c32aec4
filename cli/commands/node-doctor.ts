/** `latchkey node doctor`: what is wrong with this machine, and how to mend it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { type Finding, showFindings } from '../doctor-findings.ts';
import { runJsonProgram } from '../run-program.ts';
import { DEFAULT_CONFIG_PATH } from './node-install.ts';

interface DoctorOptions {
  readonly config: string;
  readonly containerd?: string;
  readonly containerdConfig?: string;
  readonly rootKey?: string;
}

export function registerNodeDoctor(node: Command, context: CommandContext): void {
  node
    .command('doctor')
    .description('find what is wrong with this machine, and how to mend it')
    .option('--config <file>', "the agent's configuration", DEFAULT_CONFIG_PATH)
    .option(
      '--containerd <program>',
      'containerd’s program (default: the one that runs, or was installed into)',
    )
    .option('--containerd-config <file>', 'its configuration (default: that one’s)')
    .option('--root-key <file>', "a key server's root key on the same machine, to check who can read it")
    .addHelpText('after', '\nExample:\n  latchkey node doctor')
    .action(async (options: DoctorOptions, command: Command) => {
      const { containerdConfig } = options;
      const request = {
        ...options,
        config: resolve(options.config),
        // As the path of the containerd that runs, with which it is compared.
        ...(containerdConfig === undefined ? {} : { containerdConfig: resolve(containerdConfig) }),
      };
      const args = ['doctor', JSON.stringify(request)];
      const { findings } = (await runJsonProgram('shim/install/main.js', args, context.signal)) as {
        findings: Finding[];
      };
      showFindings(context, command, findings);
    });
}
