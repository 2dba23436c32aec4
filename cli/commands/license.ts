/** `latchkey license`: sell, look at, suspend, reinstate, revoke. */
import { type Command, Option } from 'commander';
import type { Metadata } from '#src/licensing/license-labels.ts';
import { LICENSE_STATES, type LicenseState } from '#src/licensing/license-state.ts';
import type { CreatedLicense, License } from '#src/wire/admin/license.ts';
import type { Meter } from '#src/wire/admin/meter.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { parseNewMetadata, parseTag, parseTags } from '../label-arguments.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser, parseContact, parseName, parseProductCode, parseReason } from '../name-arguments.ts';
import { escapeLine, formatFields, formatTable, outputOf } from '../output.ts';
import { registerJoinTokens } from './join-token.ts';
import { registerCheckOut } from './license-check-out.ts';
import { registerLicenseMeters } from './license-meters.ts';
import { registerLicenseLeases } from './license-leases.ts';
import { refusalSummary, registerLicenseNodes } from './license-nodes.ts';
import { registerLicenseUpdate } from './license-update.ts';
import { registerLicensePreflight } from './license-preflight.ts';
import { type TermOptions, termsOf, withTermOptions } from '../term-options.ts';
import { commonFields, durationText } from '../term-text.ts';
import { formatInstant, parseInstant } from '../time-arguments.ts';

interface CreateOptions extends TermOptions {
  readonly customer: string;
  readonly product: string;
  readonly plan?: string;
  readonly policy?: string;
  readonly starts?: number;
  readonly expires?: number;
  readonly contact?: string;
  readonly maintenanceUntil?: number;
  readonly tag?: readonly string[];
  readonly metadata?: Metadata;
}

const VERBS = {
  suspend: 'refuse starts until the license is reinstated',
  reinstate: 'allow starts of a suspended license again',
  revoke: 'refuse starts for ever',
} as const;

const parseLicenseId = idParser('lic', 'latchkey license list');

export function registerLicense(program: Command, context: CommandContext): void {
  const license = program.command('license').description('licenses: who may run what, where and how long');
  registerCreate(license, context);
  registerLicenseUpdate(license, context);
  registerLicenseNodes(license, context);
  registerLicensePreflight(license, context);
  registerLicenseLeases(license, context);
  registerLicenseMeters(license, context);
  registerJoinTokens(license, context);
  registerCheckOut(license, context);
  registerList(license, context);
  withAdminOptions(license.command('show'))
    .description('show a license')
    .argument('<id>', 'of the license', parseLicenseId)
    .addHelpText('after', '\nExample:\n  latchkey license show lic_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const client = await adminClientOf(context, command);
      const [shown, nodes, meters] = await Promise.all([
        client.license(id),
        client.licenseNodes(id),
        client.metering.meters(id),
      ]);
      outputOf(context, command).result(shown, () =>
        licenseFields(shown, refusalSummary(shown, nodes, context.clock.nowMs()), meters),
      );
    });
  for (const verb of ['suspend', 'reinstate', 'revoke'] as const) {
    withAdminOptions(license.command(verb))
      .description(VERBS[verb])
      .argument('<id>', 'of the license', parseLicenseId)
      .option('--reason <text>', 'kept with the license and in the audit log', parseReason)
      .addHelpText('after', `\nExample:\n  latchkey license ${verb} lic_0191b2f0-...`)
      .action(async (id: string, options: { reason?: string }, command: Command) => {
        const client = await adminClientOf(context, command);
        const changed = await client.changeLicense(id, verb, options.reason);
        outputOf(context, command).result(changed, () => `license ${changed.id} is ${changed.state}`);
      });
  }
}

interface LicenseListOptions extends ListOptions {
  readonly state?: LicenseState;
  readonly customer?: string;
  readonly product?: string;
  readonly node?: string;
  readonly expiresFrom?: number;
  readonly expiresUntil?: number;
  readonly tag?: string;
}

function registerList(license: Command, context: CommandContext): void {
  withListOptions(withAdminOptions(license.command('list')))
    .description('list licenses')
    .addOption(new Option('--state <state>', 'that are in this state now').choices(LICENSE_STATES))
    .option('--customer <customer>', 'of this customer: id, external id or name', parseName)
    .option('--product <code>', 'for this product', parseProductCode)
    .option('--node <id>', 'that this node was activated with', idParser('node', 'latchkey node list'))
    .option('--expires-from <time>', 'that end at this time or later', parseInstant)
    .option('--expires-until <time>', 'that end before this time', parseInstant)
    .option('--tag <tag>', 'that have this tag', parseTag)
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey license list\n  latchkey license list --product acme-web --expires-until 2027-03-31',
    )
    .action(async (options: LicenseListOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const { state, customer, product, node, tag } = options;
      const licenses = await client.licenses({
        ...listFilter(options),
        ...{ state, customer, product, node, tag },
        expiresFromMs: options.expiresFrom,
        expiresUntilMs: options.expiresUntil,
      });
      outputOf(context, command).result(licenses, () => licenseTable(licenses));
    });
}

function registerCreate(license: Command, context: CommandContext): void {
  withTermOptions(withAdminOptions(license.command('create')))
    .description('create a license and print its key, once')
    .requiredOption('--customer <customer>', 'id, external id or name', parseName)
    .requiredOption('--product <code>', 'product the license is for', parseProductCode)
    .option('--plan <name>', 'what was sold, for your own books', parseName)
    .option('--policy <code>', 'what gives the terms that are not said here', parseProductCode)
    .option('--starts <time>', 'first moment of validity (default: now)', parseInstant)
    .option(
      '--expires <time>',
      'end of validity; a date ends as it begins, UTC (default: never)',
      parseInstant,
    )
    .option('--contact <line>', 'whom this customer asks when a start is refused', parseContact)
    .option(
      '--maintenance-until <time>',
      'releases published later are not covered (default: all are)',
      parseInstant,
    )
    .option('--tag <tag>', 'word that you want to find it by; repeatable', parseTags)
    .option('--metadata <key=value>', 'note for your own books; repeatable', parseNewMetadata)
    .addHelpText(
      'after',
      '\nExample:\n  latchkey license create --customer crm-4711 --product acme-web --expires 2027-12-31 --tag region:eu',
    )
    .action(async (options: CreateOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const created = await client.createLicense({
        customer: options.customer,
        product: options.product,
        plan: options.plan,
        policy: options.policy,
        ...termsOf(options),
        startsAtMs: options.starts,
        expiresAtMs: options.expires,
        contact: options.contact,
        maintenanceUntilMs: options.maintenanceUntil,
        tags: options.tag && [...options.tag],
        metadata: options.metadata,
      });
      outputOf(context, command).result(created, () => createdText(created));
    });
}

function createdText({ license, licenseKey }: CreatedLicense): string {
  return [
    `license ${license.id} created for ${escapeLine(license.customerName)}, product ${license.productCode}`,
    '',
    'The license key is shown this once:',
    '',
    `  ${licenseKey}`,
    '',
    'The customer runs on each node, and gives the key on standard input:',
    '',
    '  latchkey node activate -',
    '',
  ].join('\n');
}

function licenseTable(licenses: readonly License[]): string {
  return formatTable(
    ['ID', 'CUSTOMER', 'PRODUCT', 'STATE', 'NODES', 'EXPIRES', 'KEY'],
    licenses.map((license) => [
      license.id,
      license.customerName,
      license.productCode,
      license.state,
      `${license.usedNodes}/${license.maxNodes}`,
      formatInstant(license.expiresAtMs),
      `...${license.keyLast4}`,
    ]),
  );
}

function licenseFields(license: License, refusal: string | undefined, meters: readonly Meter[]): string {
  return formatFields([
    ['license', license.id],
    ['state', license.state],
    ['reason', license.reason ?? undefined],
    ['customer', `${license.customerName} (${license.customerId})`],
    ['product', license.productCode],
    ['plan', license.plan ?? undefined],
    ['policy', license.policyCode ?? undefined],
    ['its own', license.policyCode === null ? undefined : license.ownTerms.join(', ') || 'nothing'],
    ['trial', license.isTrial ? 'yes' : undefined],
    ['key', `...${license.keyLast4}`],
    ['refusal', refusal],
    ...meters.map(({ name, used, max }) => ['used', `${name}: ${used} of ${max ?? 'unlimited'}`] as const),
    ['nodes', `${license.usedNodes} of ${license.maxNodes}`],
    ['installations', seatText(license.usedInstallations, license.maxInstallations)],
    ['nodes at once', seatText(license.usedConcurrent, license.maxConcurrent)],
    ['starts', formatInstant(license.startsAtMs)],
    ['expires', expiryText(license)],
    [
      'maintenance',
      license.maintenanceUntilMs === null ? undefined : `until ${formatInstant(license.maintenanceUntilMs)}`,
    ],
    ...commonFields(license),
    ['contact', license.contact ?? undefined],
    ['tags', license.tags.length === 0 ? undefined : license.tags.join(', ')],
    ...Object.entries(license.metadata).map(([key, value]) => ['metadata', `${key}=${value}`] as const),
    ['epoch', String(license.epoch)],
    ['changed', formatInstant(license.updatedAtMs)],
  ]);
}

function seatText(used: number, max: number | null): string {
  return max === null ? String(used) : `${used} of ${max}`;
}

/** The end, or what it will count from. */
function expiryText({ expiresAtMs, durationMs, expirationBasis }: License): string {
  if (expiresAtMs !== null || durationMs === null) return formatInstant(expiresAtMs);
  return durationText(durationMs, expirationBasis);
}
