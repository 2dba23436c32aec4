/** `latchkey server init`: makes a key server whose root key is shared among people from the first day. */
import { type Command, Option } from 'commander';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { parseName } from '../name-arguments.ts';
import { formatFields, outputOf } from '../output.ts';
import { checkShareTerms, sharesOption, sharesText, thresholdOption } from '../share-terms.ts';

const answerSchema = z.object({
  organizationId: z.string(),
  adminTokenFile: z.string(),
  rootKeyFile: z.string().nullable(),
  slots: z.array(z.object({ label: z.string(), threshold: z.int(), shares: z.array(z.string()) })),
});

type Answer = z.infer<typeof answerSchema>;

interface InitOptions {
  readonly data?: string;
  readonly database?: string;
  readonly rootKey?: string;
  readonly organization?: string;
  readonly contact?: string;
  readonly custody: 'shamir' | 'pkcs11' | 'file';
  readonly rootKeyToken?: string;
  readonly shares: number;
  readonly threshold: number;
  readonly emergencySlot: boolean;
}

export function registerServerInit(server: Command, context: CommandContext): void {
  server
    .command('init')
    .description('make a key server before its first start, and print the shares of its root key, once')
    .option('--data <directory>', 'as for `latchkey serve` (default: /var/lib/latchkey)')
    .option('--database <url>', 'as for `latchkey serve`')
    .option('--organization <name>', 'name for the certificates', parseName)
    .option('--contact <line>', 'whom customers ask when a start is refused')
    .addOption(
      new Option(
        '--custody <kind>',
        'what opens the root key: shares, a PKCS#11 token, or a file (for development)',
      )
        .choices(['shamir', 'pkcs11', 'file'])
        .default('shamir'),
    )
    .option('--root-key <file>', 'with --custody file (default: DATA/root.key)')
    .option('--root-key-token <uri>', 'with --custody pkcs11: the RSA key on the token, with pin-source=')
    .addOption(sharesOption())
    .addOption(thresholdOption())
    .option('--no-emergency-slot', 'no second set of shares, for when the first way is lost')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey server init --organization Acme > shares.txt' +
        '\n  latchkey server init --custody pkcs11 --root-key-token "pkcs11:token=acme;object=root?module-name=softhsm2&pin-source=file:/etc/latchkey/pin"' +
        '\n  latchkey server init --custody file --shares 3 --threshold 2',
    )
    .action(async (options: InitOptions, command: Command) => {
      checkShareTerms(options);
      if (options.rootKey !== undefined && options.custody !== 'file') {
        throw new LatchkeyError('USAGE_INVALID', '--root-key goes with --custody file', {
          hint: 'shares need no file; leave one of the two out',
        });
      }
      if ((options.rootKeyToken !== undefined) !== (options.custody === 'pkcs11')) {
        throw new LatchkeyError('USAGE_INVALID', '--root-key-token and --custody pkcs11 belong together', {
          hint: 'give both, or neither',
        });
      }
      const { runJsonProgram } = await import('../run-program.ts');
      const args = ['init', ...programArguments(options)];
      const answer = answerSchema.parse(await runJsonProgram('keyserver/main.js', args, context.signal));
      outputOf(context, command).result(answer, () => answerText(answer));
    });
}

function programArguments(options: InitOptions): string[] {
  const { data, database, organization, contact, custody, shares, threshold } = options;
  const keys = { 'root-key': options.rootKey, 'root-key-token': options.rootKeyToken };
  const given = { data, database, ...keys, organization, contact, custody, shares, threshold };
  return [
    ...Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`])),
    ...(options.emergencySlot ? [] : ['--no-emergency-slot']),
  ];
}

function answerText({ organizationId, adminTokenFile, rootKeyFile, slots }: Answer): string {
  const fields = formatFields([
    ['organization', organizationId],
    ['admin token', adminTokenFile],
    ['root key', rootKeyFile ?? undefined],
  ]);
  const sets = slots.map(({ label, threshold, shares }) => sharesText(label, threshold, shares));
  return [fields, ...sets].join('\n');
}
