/** `latchkey webhook`: who is told of events. */
import { type Command, Option } from 'commander';
import {
  type CreatedWebhook,
  WEBHOOK_STATES,
  type WebhookAttempt,
  type WebhookEndpoint,
} from '#src/wire/admin/webhook.ts';
import { webhookClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser, parseWebhookEvents, parseWebhookUrl } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

const parseId = idParser('webhook', 'latchkey webhook list');

interface WebhookListOptions extends ListOptions {
  readonly state?: WebhookEndpoint['state'];
}

export function registerWebhook(program: Command, context: CommandContext): void {
  const webhook = program.command('webhook').description('tell others of events, over https');
  withAdminOptions(webhook.command('create'))
    .description('create an endpoint, which hears of what happens from then on')
    .argument('<url>', 'https://HOST/PATH', parseWebhookUrl)
    .requiredOption(
      '--event <kind>',
      'license.revoke, lease.acquire.denied, license.* or *; may be repeated',
      parseWebhookEvents,
    )
    .addHelpText(
      'after',
      "\nExample:\n  latchkey webhook create https://crm.acme.example/hook --event 'license.*' --event lease.acquire.denied",
    )
    .action(async (url: string, options: { event: readonly string[] }, command: Command) => {
      const client = await webhookClientOf(context, command);
      const created = await client.create({ url, events: [...options.event] });
      outputOf(context, command).result(created, () => createdText(created));
    });
  withListOptions(withAdminOptions(webhook.command('list')))
    .description('list endpoints, those that were deleted too')
    .addOption(new Option('--state <state>', 'that are in this state now').choices(WEBHOOK_STATES))
    .addHelpText('after', '\nExample:\n  latchkey webhook list --state ENABLED')
    .action(async (options: WebhookListOptions, command: Command) => {
      const filter = { ...listFilter(options), state: options.state };
      const endpoints = await (await webhookClientOf(context, command)).endpoints(filter);
      outputOf(context, command).result(endpoints, () => endpointTable(endpoints));
    });
  withAdminOptions(webhook.command('attempts'))
    .description('list the last tries to reach an endpoint, newest first')
    .argument('<id>', 'of the endpoint', parseId)
    .addHelpText('after', '\nExample:\n  latchkey webhook attempts webhook_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const attempts = await (await webhookClientOf(context, command)).attempts(id);
      outputOf(context, command).result(attempts, () => attemptTable(attempts));
    });
  for (const verb of ['enable', 'disable'] as const) {
    withAdminOptions(webhook.command(verb))
      .description(
        verb === 'enable'
          ? 'enable an endpoint; it gets what it has missed'
          : 'tell an endpoint nothing any more',
      )
      .argument('<id>', 'of the endpoint', parseId)
      .addHelpText('after', `\nExample:\n  latchkey webhook ${verb} webhook_0191b2f0-...`)
      .action(async (id: string, _options: unknown, command: Command) => {
        const endpoint = await (await webhookClientOf(context, command)).setState(id, verb);
        outputOf(context, command).result(endpoint, () => `webhook ${endpoint.id} is ${endpoint.state}`);
      });
  }
  withAdminOptions(webhook.command('delete'))
    .description('delete an endpoint')
    .argument('<id>', 'of the endpoint', parseId)
    .addHelpText('after', '\nExample:\n  latchkey webhook delete webhook_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      await (await webhookClientOf(context, command)).delete(id);
      outputOf(context, command).result({ id }, () => `webhook ${id} is deleted`);
    });
}

function createdText({ webhookEndpoint, secret }: CreatedWebhook): string {
  return [
    `webhook ${webhookEndpoint.id} tells ${webhookEndpoint.url} of ${webhookEndpoint.events.join(', ')}`,
    '',
    'The secret that its receiver verifies signatures with is shown this once:',
    '',
    `  ${secret}`,
    '',
  ].join('\n');
}

function endpointTable(endpoints: readonly WebhookEndpoint[]): string {
  return formatTable(
    ['ID', 'STATE', 'EVENTS', 'LAST DELIVERED', 'FAILING SINCE', 'URL'],
    endpoints.map((endpoint) => [
      endpoint.id,
      endpoint.state,
      endpoint.events.join(' '),
      formatInstant(endpoint.deliveredAtMs),
      formatInstant(endpoint.failingSinceMs),
      endpoint.url,
    ]),
  );
}

function attemptTable(attempts: readonly WebhookAttempt[]): string {
  return formatTable(
    ['TIME', 'EVENT', 'STATUS', 'FAILURE'],
    attempts.map((attempt) => [
      formatInstant(attempt.attemptedAtMs),
      String(attempt.sequence),
      String(attempt.status ?? '-'),
      attempt.failure ?? '',
    ]),
  );
}
