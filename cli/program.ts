/** The command tree. Command files are light; each loads the heavy parts when its action runs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { registerAudit } from './commands/audit.ts';
import { registerCustomer } from './commands/customer.ts';
import { registerLicense } from './commands/license.ts';
import { registerNodeAdmin } from './commands/node-admin.ts';
import { registerNode } from './commands/node.ts';
import { registerProduct } from './commands/product.ts';
import { registerRelease } from './commands/release.ts';
import { registerServe } from './commands/serve.ts';
import { registerToken } from './commands/token.ts';
import { registerDecrypt } from './commands/decrypt.ts';
import { registerEncrypt } from './commands/encrypt.ts';
import { registerInspect } from './commands/inspect.ts';
import { registerKeygen } from './commands/keygen.ts';
import type { CommandContext } from './context.ts';

/** Builds the `latchkey` program over a context. */
export function createProgram(context: CommandContext): Command {
  const program = new Command('latchkey')
    .description('Container images that run only with a license.')
    .version(packageVersion())
    .option('--json', 'print the result as JSON')
    .option('-q, --quiet', 'no progress and no remarks')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      // Shown by main, as one line with the same shape as every other error.
      outputError: () => undefined,
    })
    .exitOverride();
  registerEncrypt(program, context);
  registerDecrypt(program, context);
  registerInspect(program, context);
  registerKeygen(program, context);
  registerServe(program, context);
  registerProduct(program, context);
  registerCustomer(program, context);
  registerLicense(program, context);
  registerRelease(program, context);
  registerNodeAdmin(registerNode(program, context), context);
  registerAudit(program, context);
  registerToken(program, context);
  return program;
}

function packageVersion(): string {
  const text = readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
