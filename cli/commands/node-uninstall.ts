/** `latchkey node uninstall`: this machine as it was before. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { outputOf } from '../output.ts';
import { runJsonProgram } from '../run-program.ts';
import { DEFAULT_CONFIG_PATH } from './node-install.ts';
import { type Restart, confirmRestart, restartServices } from './node-restart.ts';

interface UninstallOptions {
  readonly config: string;
  readonly force?: boolean;
  readonly purge?: boolean;
  readonly dryRun?: boolean;
  readonly restart?: boolean;
}

interface UninstallAnswer {
  readonly files: readonly {
    readonly path: string;
    readonly change: keyof typeof OUTCOMES;
    readonly diff: string;
  }[];
  readonly notes: readonly string[];
  readonly next: readonly string[];
  readonly restart: Restart;
}

const OUTCOMES = {
  restored: 'restored, byte by byte',
  removed: 'removed',
  'ours-removed': 'changed since: only our lines were taken out',
  kept: 'kept, since you have changed it',
  unchanged: 'is as it was before',
} as const;

export function registerNodeUninstall(node: Command, context: CommandContext): void {
  node
    .command('uninstall')
    .description("take 'node install' back: every file as it was, no plaintext left")
    .option('--config <file>', "the agent's configuration", DEFAULT_CONFIG_PATH)
    .option('--purge', "remove the agent's state as well: identity, snapshots, settings")
    .option('--force', 'also when files were changed since, or containers of encrypted images run')
    .option('--restart', 'restart containerd afterwards, without asking')
    .option('--dry-run', 'show every change, make none')
    .addHelpText('after', '\nExample:\n  latchkey node uninstall --dry-run')
    .action(async ({ config, restart, ...flags }: UninstallOptions, command: Command) => {
      const request = { config: resolve(config), ...flags };
      const output = outputOf(context, command);
      const answer = (await runJsonProgram(
        'shim/install/main.js',
        ['uninstall', JSON.stringify(request)],
        context.signal,
      )) as UninstallAnswer;
      output.result(answer, () => describe(answer, flags.dryRun === true));
      if (flags.dryRun === true) return;
      if (restart === true || (await confirmRestart(context, output, answer.restart)))
        await restartServices(answer.restart, context, output);
    });
}

function describe({ files, notes, next }: UninstallAnswer, isDryRun: boolean): string {
  return [
    ...(isDryRun ? files.map(({ diff }) => diff).filter((diff) => diff !== '') : []),
    isDryRun ? 'would take these back:' : 'taken back:',
    ...files.map(({ path, change }) => `  ${path}: ${OUTCOMES[change]}`),
    ...notes.map((note) => `note: ${note}`),
    ...(next.length === 0 ? [] : [isDryRun ? 'then:' : 'now:', ...next.map((line) => `  ${line}`)]),
  ].join('\n');
}
