/** `latchkey license update` and `renew`: what a license says, changed after it was sold. */
import { type Command, InvalidArgumentError } from 'commander';
import type { MetadataChange } from '#src/licensing/license-labels.ts';
import { NEVER } from '#src/wire/admin/license.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type InheritOptions, changedTerms, withInheritOption } from '../inherit-option.ts';
import { idParser, parseContact, parseName, parseProductCode } from '../name-arguments.ts';
import { parseMetadata, parseTags } from '../label-arguments.ts';
import { outputOf } from '../output.ts';
import { parseRenewal } from '../term-arguments.ts';
import { type TermOptions, withTermOptions } from '../term-options.ts';
import { formatInstant, parseInstant } from '../time-arguments.ts';

interface UpdateOptions extends TermOptions, InheritOptions {
  readonly policy?: string | false;
  readonly plan?: string | false;
  readonly starts?: number | false;
  readonly expires?: number | typeof NEVER | typeof INHERIT;
  readonly maintenanceUntil?: number | false;
  readonly contact?: string | false;
  readonly tag?: readonly string[] | false;
  readonly metadata?: MetadataChange | false;
}

/** In place of an end: as the duration says. */
const INHERIT = 'inherit';

const parseLicenseId = idParser('lic', 'latchkey license list');

export function registerLicenseUpdate(license: Command, context: CommandContext): void {
  withInheritOption(withTermOptions(withAdminOptions(license.command('update'))), 'its policy')
    .description(
      'change what a license says; its nodes ask again, unless it is about tags and metadata alone',
    )
    .argument('<id>', 'of the license', parseLicenseId)
    .option('--policy <code>', 'put it under this policy', parseProductCode)
    .option('--no-policy', 'take it from under its policy')
    .option('--plan <name>', 'what was sold, for your own books', parseName)
    .option('--no-plan', 'forget what was sold')
    .option('--starts <time>', 'first moment of validity', parseInstant)
    .option('--no-starts', 'valid at once')
    .option('--expires <time>', 'end of validity; `never`, or `inherit` for what its duration gives', readEnd)
    .option('--maintenance-until <time>', 'releases published later are not covered', parseInstant)
    .option('--no-maintenance-until', 'all releases are covered')
    .option('--contact <line>', 'whom this customer asks when a start is refused', parseContact)
    .option('--no-contact', "the product's contact again")
    .option('--tag <tag>', 'its tags from now on; repeatable', parseTags)
    .option('--no-tag', 'take all its tags away')
    .option('--metadata <key=value>', 'set an entry, or take it away with `key=`; repeatable', parseMetadata)
    .option('--no-metadata', 'take all its metadata away')
    .addHelpText(
      'after',
      `
Examples:
  latchkey license update lic_0191b2f0-... --max-nodes 10 --expires 2028-12-31
  latchkey license update lic_0191b2f0-... --policy pro --inherit max-nodes
  latchkey license update lic_0191b2f0-... --tag region:eu --metadata order=4711`,
    )
    .action(async (id: string, options: UpdateOptions, command: Command) => {
      const terms = changedTerms(options);
      const client = await adminClientOf(context, command);
      const changed = await client.updateLicense(id, {
        policy: orNull(options.policy),
        plan: orNull(options.plan),
        startsAtMs: orNull(options.starts),
        expiresAtMs: options.expires === INHERIT ? null : options.expires,
        maintenanceUntilMs: orNull(options.maintenanceUntil),
        contact: orNull(options.contact),
        tags: options.tag === false ? null : options.tag && [...options.tag],
        metadata: orNull(options.metadata),
        ...terms,
      });
      outputOf(context, command).result(changed, () => `license ${changed.id} is at epoch ${changed.epoch}`);
    });
  withAdminOptions(license.command('renew'))
    .description('prolong a license, from its end or from now when that is past')
    .argument('<id>', 'of the license', parseLicenseId)
    .option('--by <span>', 'how long (default: its duration): 365d', parseRenewal)
    .addHelpText('after', '\nExample:\n  latchkey license renew lic_0191b2f0-... --by 365d')
    .action(async (id: string, { by }: { readonly by?: number }, command: Command) => {
      const renewed = await (await adminClientOf(context, command)).renewLicense(id, by);
      outputOf(context, command).result(
        renewed,
        () => `license ${renewed.id} expires ${formatInstant(renewed.expiresAtMs)}`,
      );
    });
}

/** `--no-x` says that there is to be none. */
function orNull<Value>(option: Value | false | undefined): Value | null | undefined {
  return option === false ? null : option;
}

function readEnd(text: string): number | typeof NEVER | typeof INHERIT {
  if (text === NEVER || text === INHERIT) return text;
  try {
    return parseInstant(text);
  } catch {
    throw new InvalidArgumentError(`Give a date or a time, ${NEVER} or ${INHERIT}: 2027-01-31.`);
  }
}
