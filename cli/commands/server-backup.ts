/** `latchkey server backup`: everything in a key server that runs, in a file that only the root key opens. */
import type { Command } from 'commander';
import { backupClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { outputOf } from '../output.ts';
import { writeWholeFile } from '../whole-file.ts';

export function registerServerBackup(server: Command, context: CommandContext): void {
  withAdminOptions(server.command('backup'))
    .description('write everything in the key server, while it runs, to a file that only its root key opens')
    .argument('<file>', 'a new one')
    .addHelpText('after', '\nExample:\n  latchkey server backup /mnt/backup/keys-2026-11-30.backup')
    .action(async (path: string, _options: unknown, command: Command) => {
      const client = await backupClientOf(context, command);
      const sizeBytes = await writeWholeFile(path, async (file) => {
        let written = 0;
        for await (const bytes of client.backup()) {
          await file.writeFile(bytes);
          written += bytes.length;
        }
        return written;
      });
      outputOf(context, command).result(
        { file: path, sizeBytes },
        () => `${sizeBytes} bytes written to ${path}; only the root key of now opens it`,
      );
    });
}
