/** The command tree. Only the file of the command to run is loaded, and that loads the heavy parts when its action runs. */
import { Command, Help } from 'commander';
import { VERSION } from '#src/base/installation.ts';
import type { CommandContext } from './context.ts';

type Register = (program: Command, context: CommandContext) => unknown;

/** The commands, in the order of the help. */
const COMMANDS: Readonly<Record<string, () => Promise<Register>>> = {
  encrypt: async () => (await import('./commands/encrypt.ts')).registerEncrypt,
  decrypt: async () => (await import('./commands/decrypt.ts')).registerDecrypt,
  copy: async () => (await import('./commands/copy.ts')).registerCopy,
  inspect: async () => (await import('./commands/inspect.ts')).registerInspect,
  recipients: async () => (await import('./commands/recipients.ts')).registerRecipients,
  verify: async () => (await import('./commands/verify.ts')).registerVerify,
  keygen: async () => (await import('./commands/keygen.ts')).registerKeygen,
  'image-key': async () => (await import('./commands/image-key.ts')).registerImageKey,
  keyprovider: async () => (await import('./commands/keyprovider.ts')).registerKeyProvider,
  serve: async () => (await import('./commands/serve.ts')).registerServe,
  server: async () => (await import('./commands/server.ts')).registerServer,
  organization: async () => (await import('./commands/organization.ts')).registerOrganization,
  product: async () => (await import('./commands/product.ts')).registerProduct,
  customer: async () => (await import('./commands/customer.ts')).registerCustomer,
  policy: async () => (await import('./commands/policy.ts')).registerPolicy,
  license: async () => (await import('./commands/license.ts')).registerLicense,
  release: async () => (await import('./commands/release.ts')).registerRelease,
  node: async () => {
    const [{ registerNode }, { registerNodeAdmin }] = await Promise.all([
      import('./commands/node.ts'),
      import('./commands/node-admin.ts'),
    ]);
    return (program, context) => registerNodeAdmin(registerNode(program, context), context);
  },
  audit: async () => (await import('./commands/audit.ts')).registerAudit,
  webhook: async () => (await import('./commands/webhook.ts')).registerWebhook,
  token: async () => (await import('./commands/token.ts')).registerToken,
};

/**
 * Builds the `latchkey` program over a context.
 * @param args the command line; when it names a command, the program has that one only
 */
export async function createProgram(context: CommandContext, args: readonly string[] = []): Promise<Command> {
  const name = args.find((arg) => !arg.startsWith('-'));
  const named = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  const chosen = named === undefined ? Object.values(COMMANDS) : [named];
  const program = new Command('latchkey')
    .description('Container images that run only with a license.')
    .version(VERSION)
    .option('--json', 'print the result as JSON')
    .option('-q, --quiet', 'no progress and no remarks')
    .configureHelp({
      showGlobalOptions: true,
      optionDescription: (option) => {
        // Of an option that may be repeated, "default: []" says nothing.
        return Array.isArray(option.defaultValue) ? option.description : new Help().optionDescription(option);
      },
    })
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      // Shown by main, as one line with the same shape as every other error.
      outputError: () => undefined,
    })
    .exitOverride();
  for (const command of chosen) (await command())(program, context);
  return program;
}
