/** `latchkey server rotate`: new keys for a key server that does not run. */
import type { Command } from 'commander';
import * as z from 'zod';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';
import { type RootKeyOptions, readProof, withRootKeyOptions } from '../root-key-input.ts';
import { sharesText } from '../share-terms.ts';

const answerSchema = z.object({
  organizationId: z.string(),
  imageKeys: z.int(),
  slots: z.array(z.object({ label: z.string(), threshold: z.int(), shares: z.array(z.string()) })),
});

interface RotateOptions extends RootKeyOptions {
  readonly data?: string;
  readonly database?: string;
  readonly root?: true;
}

export function registerServerRotate(server: Command, context: CommandContext): void {
  withRootKeyOptions(server.command('rotate'))
    .description('draw a new organization key while the key server is stopped, and wrap every key with it')
    .option('--data <directory>', 'as for `latchkey serve` (default: /var/lib/latchkey)')
    .option('--database <url>', 'as for `latchkey serve`')
    .option('--root', 'draw a new root key too, and print new shares of every slot, once')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey server rotate' +
        '\n  latchkey server rotate --root --share-file /media/alice/share /media/bob/share /media/carol/share > shares.txt',
    )
    .action(async (options: RotateOptions, command: Command) => {
      const proof = await readProof(context, options);
      const { runJsonProgram } = await import('../run-program.ts');
      const args = [
        'rotate',
        ...(options.data === undefined ? [] : [`--data=${options.data}`]),
        ...(options.database === undefined ? [] : [`--database=${options.database}`]),
        ...(options.root === true ? ['--root'] : []),
      ];
      const input = JSON.stringify(proof);
      const answer = answerSchema.parse(
        await runJsonProgram('keyserver/main.js', args, context.signal, input),
      );
      outputOf(context, command).result(answer, () =>
        [
          formatFields([
            ['organization', answer.organizationId],
            ['image keys', String(answer.imageKeys)],
          ]),
          ...answer.slots.map(({ label, threshold, shares }) => sharesText(label, threshold, shares)),
        ].join('\n'),
      );
    });
}
