/** `latchkey server rotate`: new keys for a key server that does not run. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import * as z from 'zod';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';
import { type TokenOptions, readProofInput, withTokenOptions } from '../root-key-input.ts';
import { sharesText } from '../share-terms.ts';

const answerSchema = z.object({
  organizationId: z.string(),
  imageKeys: z.int(),
  slots: z.array(z.object({ label: z.string(), threshold: z.int(), shares: z.array(z.string()) })),
});

interface RotateOptions extends TokenOptions {
  readonly data?: string;
  readonly database?: string;
  readonly root?: true;
}

export function registerServerRotate(server: Command, context: CommandContext): void {
  withTokenOptions(server.command('rotate'))
    .description('draw a new organization key while the key server is stopped, and wrap every key with it')
    .option('--data <directory>', 'as for `latchkey serve` (default: /var/lib/latchkey)')
    .option('--database <url>', 'as for `latchkey serve`')
    .option(
      '--root',
      'draw a new root key too, put it into its file or behind its token, and print new shares, once',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey server rotate' +
        '\n  latchkey server rotate --root --share-file /media/alice/share /media/bob/share /media/carol/share > shares.txt',
    )
    .action(async (options: RotateOptions, command: Command) => {
      const input = await readProofInput(context, options);
      const { runJsonProgram, runProgramThatTells } = await import('../run-program.ts');
      const args = [
        'rotate',
        ...(options.data === undefined ? [] : [`--data=${options.data}`]),
        ...(options.database === undefined ? [] : [`--database=${options.database}`]),
        ...(options.rootKeyToken === undefined ? [] : [`--root-key-token=${options.rootKeyToken}`]),
        ...(options.rootKey === undefined ? [] : [`--root-key=${resolve(options.rootKey)}`]),
        ...(options.root === true ? ['--root'] : []),
      ];
      const output = outputOf(context, command);
      const show = (value: unknown): void => {
        const answer = answerSchema.parse(value);
        output.result(answer, () =>
          [
            formatFields([
              ['organization', answer.organizationId],
              ['image keys', String(answer.imageKeys)],
            ]),
            ...answer.slots.map(({ label, threshold, shares }) => sharesText(label, threshold, shares)),
          ].join('\n'),
        );
      };
      if (options.root !== true) {
        show(await runJsonProgram('keyserver/main.js', args, context.signal, input));
        return;
      }
      const progress = { isShown: false };
      // The new shares are out before they count: a command that dies in between leaves the old ones in force.
      const taken = (value: unknown): void => {
        show(value);
        progress.isShown = true;
      };
      try {
        await runProgramThatTells('keyserver/main.js', args, context.signal, { input, taken });
      } catch (error) {
        throw progress.isShown ? uncertain(error) : undone(error);
      }
    });
}

function undone(cause: unknown): LatchkeyError {
  const { code, message, hint } = toLatchkeyError(cause);
  const again = code.startsWith('STORAGE_') ? 'make room, and run it again; the keys are as they were' : hint;
  return new LatchkeyError(code, message, { hint: again, cause });
}

function uncertain(cause: unknown): LatchkeyError {
  const { code, message } = toLatchkeyError(cause);
  return new LatchkeyError(code, `it is not certain that the new root key is in force: ${message}`, {
    hint: 'what opened the old one most likely does so still: try it, and keep the new shares until you know',
    cause,
  });
}
