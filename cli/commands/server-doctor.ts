/** `latchkey server doctor`: what is wrong with how this key server is set up, and how to mend it. */
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { type Finding, showFindings } from '../doctor-findings.ts';
import { runJsonProgram } from '../run-program.ts';

export function registerServerDoctor(server: Command, context: CommandContext): void {
  server
    .command('doctor')
    .description('find what is wrong with how this key server is set up, running or not, and how to mend it')
    .option('--data <directory>', 'as for `latchkey serve` (default: /var/lib/latchkey)')
    .option('--database <url>', 'as for `latchkey serve`')
    .option('--root-key <file>', 'as for `latchkey serve`')
    .option('--root-key-token <uri>', 'as for `latchkey serve`')
    .option('--audit-checkpoints <directory>', 'as for `latchkey serve`')
    .addHelpText('after', '\nExample:\n  latchkey server doctor')
    .action(async (options: Readonly<Record<string, string>>, command: Command) => {
      const args = command.options.flatMap((option) => {
        const value = options[option.attributeName()];
        return value === undefined ? [] : [`${option.long ?? ''}=${value}`];
      });
      const answer = await runJsonProgram('keyserver/main.js', ['doctor', ...args], context.signal);
      showFindings(context, command, (answer as { findings: Finding[] }).findings);
    });
}
