/** `latchkey license meter` and its kin: how much was sold and used under a license. */
import { type Command, InvalidArgumentError } from 'commander';
import { type Meter, type UsageReport, meterInputSchema, meterName } from '#src/wire/admin/meter.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

const parseLicenseId = idParser('lic', 'latchkey license list');

/** @param license the `license` command, on which these verbs stand */
export function registerLicenseMeters(license: Command, context: CommandContext): void {
  withAdminOptions(license.command('meter'))
    .description('make a meter of a license, or change what was sold')
    .argument('<id>', 'of the license', parseLicenseId)
    .argument('<meter>', 'name', parseMeterName)
    .option('--max <amount>', 'how much was sold', parseAmount)
    .option('--unlimited', 'without a limit')
    .option('--from-nodes', 'nodes of the license may report to it')
    .option('--no-from-nodes', 'they may not')
    .addHelpText('after', '\nExample:\n  latchkey license meter lic_0191b2f0-... api-calls --max 100000')
    .action(async (id: string, meter: string, options: MeterOptions, command: Command) => {
      const { max, unlimited, fromNodes: isOpenToNodes } = options;
      if ((max === undefined) !== (unlimited === true)) {
        throw new LatchkeyError('USAGE_INVALID', 'a meter has a limit or none', {
          hint: 'give either --max AMOUNT or --unlimited',
        });
      }
      const set = await (
        await adminClientOf(context, command)
      ).metering.setMeter(id, meter, { max: max ?? null, isOpenToNodes });
      outputOf(context, command).result(set, () => meterTable([set]));
    });
  withAdminOptions(license.command('meters'))
    .description('list the meters of a license: what was used and what was sold')
    .argument('<id>', 'of the license', parseLicenseId)
    .addHelpText('after', '\nExample:\n  latchkey license meters lic_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const meters = await (await adminClientOf(context, command)).metering.meters(id);
      outputOf(context, command).result(meters, () => meterTable(meters));
    });
  withListOptions(withAdminOptions(license.command('usage')))
    .description('list what was reported under a license')
    .argument('<id>', 'of the license', parseLicenseId)
    .option('--meter <name>', 'on this meter', parseMeterName)
    .addHelpText('after', '\nExample:\n  latchkey license usage lic_0191b2f0-... --newest-first --limit 20')
    .action(async (id: string, options: ListOptions & { meter?: string }, command: Command) => {
      const client = await adminClientOf(context, command);
      const reports = await client.metering.usageReports(id, {
        ...listFilter(options),
        meter: options.meter,
      });
      outputOf(context, command).result(reports, () => reportTable(reports));
    });
}

interface MeterOptions {
  readonly max?: number;
  readonly unlimited?: boolean;
  readonly fromNodes?: boolean;
}

/** Reads the name of a meter. */
export function parseMeterName(text: string): string {
  if (meterName.safeParse(text).success) return text;
  throw new InvalidArgumentError(
    'Give lower-case letters, digits, dots, dashes and underscores, at most 63.',
  );
}

/** Reads how much was sold. */
export function parseAmount(text: string): number {
  const max = /^[1-9]\d*$/.test(text) ? Number(text) : Number.NaN;
  if (meterInputSchema.safeParse({ max }).success) return max;
  throw new InvalidArgumentError('Give a whole number from 1.');
}

function meterTable(meters: readonly Meter[]): string {
  return formatTable(
    ['METER', 'USED', 'SOLD', 'REMAINING', 'FROM NODES'],
    meters.map(({ name, used, max, remaining, isExceeded, isOpenToNodes }) => [
      name,
      String(used),
      max === null ? 'unlimited' : String(max),
      isExceeded ? 'exceeded' : remaining === null ? '-' : String(remaining),
      isOpenToNodes ? 'yes' : '-',
    ]),
  );
}

function reportTable(reports: readonly UsageReport[]): string {
  return formatTable(
    ['TIME', 'METER', 'AMOUNT', 'TOTAL', 'REPORT'],
    reports.map((report) => [
      formatInstant(report.reportedAtMs),
      report.meter,
      String(report.amount),
      String(report.total),
      report.reportId,
    ]),
  );
}
