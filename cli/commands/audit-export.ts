/** `latchkey audit export`: the audit log as a file, whole or what was chosen with proofs. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import { writeAuditExport } from '../audit-export.ts';
import type { CommandContext } from '../context.ts';
import { parseName } from '../name-arguments.ts';
import { outputOf } from '../output.ts';

interface ExportOptions {
  readonly withProofs?: true;
  readonly since?: string;
  readonly target?: string;
  readonly actor?: string;
  readonly action?: string;
}

/** @param audit the `audit` command, on which it stands */
export function registerAuditExport(audit: Command, context: CommandContext): void {
  withAdminOptions(audit.command('export'))
    .description('write all events to a new file, one JSON document a line')
    .argument('<file>')
    .option('--with-proofs', 'each event with the proof that it is under a signed checkpoint')
    .option(
      '--since <path>',
      'prove too that the log goes on from a checkpoint that you kept, or a directory',
    )
    .option('--target <id>', 'with proofs: only what happened to this object', parseName)
    .option('--actor <who>', 'with proofs: only what this one did', parseName)
    .option('--action <name>', 'with proofs: only this action, such as license.revoke', parseName)
    .addHelpText(
      'after',
      [
        '',
        'Examples:',
        '  latchkey audit export audit.jsonl',
        '  latchkey audit export one.jsonl --with-proofs --target lic_... --since 2026-11-30.checkpoint',
      ].join('\n'),
    )
    .action(async (path: string, options: ExportOptions, command: Command) => {
      const { target, actor, action, since } = options;
      const chosen = Object.entries({ target, actor, action }).filter(([, value]) => value !== undefined);
      if (options.withProofs !== true && (since !== undefined || chosen.length > 0)) {
        const [first = 'since'] = chosen.map(([name]) => name);
        throw new LatchkeyError('USAGE_INVALID', `--${first} is for an export with proofs`, {
          hint: 'a part of the log verifies with proofs alone: add --with-proofs',
        });
      }
      const client = await adminClientOf(context, command);
      const output = outputOf(context, command);
      if (options.withProofs !== true) {
        const events = await writeAuditExport(path, client.auditEvents());
        output.result({ file: path, events }, () => `${events} events written to ${path}`);
        return;
      }
      const { provenExport } = await import('../audit-proof-export.ts');
      // The first line is about the checkpoint.
      const events =
        (await writeAuditExport(path, provenExport(client, Object.fromEntries(chosen), since))) - 1;
      output.result({ file: path, events }, () => `${events} events written to ${path}, each with its proof`);
    });
}
