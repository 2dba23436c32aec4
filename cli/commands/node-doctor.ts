/** `latchkey node doctor`: what is wrong with this machine, and how to mend it. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { outputOf } from '../output.ts';
import { runJsonProgram } from '../run-program.ts';
import { DEFAULT_CONFIG_PATH } from './node-install.ts';

export function registerNodeDoctor(node: Command, context: CommandContext): void {
  node
    .command('doctor')
    .description('find what is wrong with this machine, and how to mend it')
    .option('--config <file>', "the agent's configuration", DEFAULT_CONFIG_PATH)
    .option('--containerd-config <file>', "containerd's configuration", '/etc/containerd/config.toml')
    .addHelpText('after', '\nExample:\n  latchkey node doctor')
    .action(async (options: { config: string; containerdConfig: string }, command: Command) => {
      const args = ['doctor', JSON.stringify(options)];
      const answer = (await runJsonProgram('shim/install/main.js', args, context.signal)) as {
        findings: { check: string; ok: boolean; detail: string; mend?: string }[];
      };
      outputOf(context, command).result(answer, () =>
        answer.findings
          .map(({ check, ok, detail, mend }) => {
            const advice = mend === undefined ? '' : `\n      ${mend}`;
            return `${ok ? 'ok  ' : 'BAD '}  ${check}: ${detail}${advice}`;
          })
          .join('\n'),
      );
      const bad = answer.findings.filter(({ ok }) => !ok);
      if (bad.length > 0) {
        throw new LatchkeyError(
          'CONFIG_INVALID',
          `${bad.length} of ${answer.findings.length} checks found something`,
          {
            hint: bad[0]?.mend,
          },
        );
      }
    });
}
