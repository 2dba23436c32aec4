/** `latchkey server add-token`: a PKCS#11 token as one more way to the root key of a key server that does not run. */
import type { Command } from 'commander';
import * as z from 'zod';
import type { CommandContext } from '../context.ts';
import { parseName } from '../name-arguments.ts';
import { outputOf } from '../output.ts';
import { type RootKeyOptions, readProof, withRootKeyOptions } from '../root-key-input.ts';

const answerSchema = z.object({ slotId: z.string(), label: z.string() });

interface AddTokenOptions extends RootKeyOptions {
  readonly data?: string;
  readonly database?: string;
  readonly rootKeyToken: string;
}

export function registerServerAddToken(server: Command, context: CommandContext): void {
  withRootKeyOptions(server.command('add-token'))
    .description('let a PKCS#11 token open the root key too, while the key server is stopped')
    .argument('<label>', 'of the slot, such as hsm', parseName)
    .requiredOption('--root-key-token <uri>', 'the RSA key on the token, with pin-source=')
    .option('--data <directory>', 'as for `latchkey serve` (default: /var/lib/latchkey)')
    .option('--database <url>', 'as for `latchkey serve`')
    .addHelpText(
      'after',
      '\nExample:\n  latchkey server add-token hsm --root-key /var/lib/latchkey/root.key --root-key-token "pkcs11:token=acme;object=root?module-name=softhsm2&pin-source=file:/etc/latchkey/pin"',
    )
    .action(async (label: string, options: AddTokenOptions, command: Command) => {
      const input = JSON.stringify(await readProof(context, options));
      const { runJsonProgram } = await import('../run-program.ts');
      const args = [
        ...['add-token', `--root-key-token=${options.rootKeyToken}`],
        ...(options.data === undefined ? [] : [`--data=${options.data}`]),
        ...(options.database === undefined ? [] : [`--database=${options.database}`]),
        ...['--', label],
      ];
      const answer = answerSchema.parse(
        await runJsonProgram('keyserver/main.js', args, context.signal, input),
      );
      outputOf(context, command).result(
        answer,
        () => `slot ${answer.slotId} (${label}) added; give \`latchkey serve\` the same --root-key-token`,
      );
    });
}
