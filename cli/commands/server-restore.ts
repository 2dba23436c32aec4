/** `latchkey server restore`: makes a key server of a backup, before its first start. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import * as z from 'zod';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';
import { type TokenOptions, readProofInput, withTokenOptions } from '../root-key-input.ts';

const answerSchema = z.object({
  organizationId: z.string(),
  createdAtMs: z.int(),
  restored: z.boolean(),
  licenses: z.int(),
  nodes: z.int(),
  auditEvents: z.int(),
  slots: z.array(z.object({ label: z.string(), kind: z.string() })),
});

type Answer = z.infer<typeof answerSchema>;

interface RestoreOptions extends TokenOptions {
  readonly data?: string;
  readonly database?: string;
  readonly dryRun?: true;
}

export function registerServerRestore(server: Command, context: CommandContext): void {
  withTokenOptions(server.command('restore'))
    .description('make a key server of a backup, in an empty database')
    .argument('<file>', 'from `latchkey server backup`')
    .option('--data <directory>', 'as for `latchkey serve` (default: /var/lib/latchkey)')
    .option('--database <url>', 'as for `latchkey serve`')
    .option('--dry-run', 'read all of the backup, and restore nothing')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey server restore keys.backup --dry-run --root-key /media/safe/root.key' +
        '\n  latchkey server restore keys.backup --share-file /media/alice/share /media/bob/share /media/carol/share',
    )
    .action(async (file: string, options: RestoreOptions, command: Command) => {
      const input = await readProofInput(context, options);
      const { runJsonProgram } = await import('../run-program.ts');
      const args = [
        'restore',
        ...(options.data === undefined ? [] : [`--data=${options.data}`]),
        ...(options.database === undefined ? [] : [`--database=${options.database}`]),
        ...(options.rootKeyToken === undefined ? [] : [`--root-key-token=${options.rootKeyToken}`]),
        ...(options.dryRun === true ? ['--dry-run'] : []),
        ...['--', resolve(file)],
      ];
      const answer = answerSchema.parse(
        await runJsonProgram('keyserver/main.js', args, context.signal, input),
      );
      outputOf(context, command).result(answer, () => answerText(answer));
    });
}

function answerText(answer: Answer): string {
  const { organizationId, createdAtMs, restored, licenses, nodes, auditEvents, slots } = answer;
  const fields = formatFields([
    ['organization', organizationId],
    ['made at', new Date(createdAtMs).toISOString()],
    ['licenses', String(licenses)],
    ['nodes', String(nodes)],
    ['audit events', String(auditEvents)],
    ['opened by', slots.map(({ label, kind }) => `${label} (${kind})`).join(', ')],
  ]);
  return restored
    ? `${fields}\n${remains(auditEvents)}`
    : `${fields}\nthe backup is whole; nothing was restored`;
}

/** What the backup cannot know, and somebody has to do again. */
function remains(auditEvents: number): string {
  return (
    `restored. Before you start it: what was revoked, suspended, banned or destroyed after event ${auditEvents} of the\n` +
    'audit log is as it was before. Do it again, from a copy of the log if there is one.'
  );
}
