/** `latchkey policy`: terms that licenses share. */
import type { Command } from 'commander';
import { formatDuration } from '#src/base/duration-text.ts';
import type { Policy } from '#src/wire/admin/policy.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type InheritOptions, changedTerms, withInheritOption } from '../inherit-option.ts';
import { parseName, parseProductCode } from '../name-arguments.ts';
import { escapeLine, formatFields, formatTable, outputOf } from '../output.ts';
import { type TermOptions, termsOf, withTermOptions } from '../term-options.ts';
import { termFields } from '../term-text.ts';

interface CreateOptions extends TermOptions {
  readonly name?: string;
  readonly trial?: boolean;
}

interface UpdateOptions extends TermOptions, InheritOptions {
  readonly name?: string;
}

export function registerPolicy(program: Command, context: CommandContext): void {
  const policy = program.command('policy').description('terms that licenses share');
  withTermOptions(withAdminOptions(policy.command('create')))
    .description('create a policy')
    .argument(
      '<code>',
      'short name used in commands: lower-case letters, digits, dots, dashes',
      parseProductCode,
    )
    .option('--name <name>', 'name for people (default: the code)', parseName)
    .option('--trial', 'each customer gets one such license for each product')
    .addHelpText(
      'after',
      `
Examples:
  latchkey policy create pro --duration 365d --grace 14d --max-nodes 10 --entitlement sso
  latchkey policy create trial --trial --duration 30d --duration-from activation --max-nodes 1`,
    )
    .action(async (code: string, options: CreateOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const { name, trial: isTrial } = options;
      const created = await client.policies.create({ code, name, isTrial, ...termsOf(options) });
      outputOf(context, command).result(created, () => `policy ${created.code} created`);
    });
  withAdminOptions(policy.command('list'))
    .description('list policies')
    .addHelpText('after', '\nExample:\n  latchkey policy list')
    .action(async (_options: unknown, command: Command) => {
      const policies = await (await adminClientOf(context, command)).policies.all();
      outputOf(context, command).result(policies, () => policyTable(policies));
    });
  withAdminOptions(policy.command('show'))
    .description('show a policy')
    .argument('<code>', 'of the policy', parseProductCode)
    .addHelpText('after', '\nExample:\n  latchkey policy show pro')
    .action(async (code: string, _options: unknown, command: Command) => {
      const shown = await (await adminClientOf(context, command)).policies.show(code);
      outputOf(context, command).result(shown, () => policyFields(shown));
    });
  withInheritOption(withTermOptions(withAdminOptions(policy.command('update'))), 'the defaults')
    .description('change a policy, and every license under it that has not its own')
    .argument('<code>', 'of the policy', parseProductCode)
    .option('--name <name>', 'name for people', parseName)
    .addHelpText('after', '\nExample:\n  latchkey policy update pro --max-nodes 20 --inherit overage')
    .action(async (code: string, options: UpdateOptions, command: Command) => {
      const change = { name: options.name, ...changedTerms(options) };
      const client = await adminClientOf(context, command);
      const changed = await client.policies.update(code, change);
      outputOf(context, command).result(
        changed,
        () => `policy ${changed.code} changed; ${changed.licenses} licenses are under it`,
      );
    });
}

function policyTable(policies: readonly Policy[]): string {
  return formatTable(
    ['CODE', 'NAME', 'DURATION', 'NODES', 'TRIAL', 'LICENSES'],
    policies.map((policy) => [
      policy.code,
      policy.name,
      policy.durationMs === null ? '-' : formatDuration(policy.durationMs),
      String(policy.maxNodes),
      policy.isTrial ? 'yes' : '-',
      String(policy.licenses),
    ]),
  );
}

function policyFields(policy: Policy): string {
  return formatFields([
    ['policy', policy.code],
    ['name', escapeLine(policy.name)],
    ['trial', policy.isTrial ? 'one for each customer and product' : undefined],
    ['licenses', String(policy.licenses)],
    ...termFields(policy),
  ]);
}
