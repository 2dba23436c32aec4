/** Names, codes and ids as people write them on a command line; checked here, so that the message fits the command. */
import { InvalidArgumentError } from 'commander';
import { MAX_ENTITLEMENTS, MAX_WEBHOOK_EVENTS } from '#src/base/limits.ts';
import { MAX_CONCEALED_TEXT, concealInputSchema } from '#src/wire/admin/audit.ts';
import { customerInputSchema } from '#src/wire/admin/customer.ts';
import { contact, entitlementCodes } from '#src/wire/admin/field.ts';
import { licenseChangeInputSchema } from '#src/wire/admin/license.ts';
import { productInputSchema } from '#src/wire/admin/product.ts';
import { webhookEvent, webhookUrl } from '#src/wire/admin/webhook.ts';

/** Reads the name of something; for commander's argument parsers. */
export function parseName(text: string): string {
  if (!customerInputSchema.shape.name.safeParse(text).success) {
    throw new InvalidArgumentError('Give a name of 1 to 200 characters.');
  }
  return text;
}

/** Reads whom customers ask. */
export function parseContact(text: string): string {
  if (contact.safeParse(text).success) return text;
  throw new InvalidArgumentError('Give a line of at most 256 characters.');
}

/** Reads why a license is changed. */
export function parseReason(text: string): string {
  if (licenseChangeInputSchema.shape.reason.safeParse(text).success) return text;
  throw new InvalidArgumentError('Give a reason of at most 500 characters.');
}

/** Reads a text that the audit log conceals. */
export function parseConcealedText(text: string): string {
  if (!concealInputSchema.shape.text.safeParse(text).success) {
    throw new InvalidArgumentError(`Give a text of 1 to ${MAX_CONCEALED_TEXT} characters.`);
  }
  return text;
}

/** Reads a product code. */
export function parseProductCode(text: string): string {
  if (!productInputSchema.shape.code.safeParse(text).success) {
    throw new InvalidArgumentError(
      'Give lower-case letters, digits, dots, dashes and underscores, at most 63: acme-web.',
    );
  }
  return text;
}

/** Reads one more entitlement of a repeatable option. */
export function parseEntitlements(text: string, before: readonly string[] = []): readonly string[] {
  if (!entitlementCodes.safeParse([text]).success) {
    throw new InvalidArgumentError(
      'Give lower-case letters, digits, dots, dashes and underscores, at most 63: sso.',
    );
  }
  if (before.length >= MAX_ENTITLEMENTS) {
    throw new InvalidArgumentError(`Give at most ${MAX_ENTITLEMENTS} of them.`);
  }
  return [...before, text];
}

/** Reads the address of a webhook. */
export function parseWebhookUrl(text: string): string {
  if (webhookUrl.safeParse(text).success) return text;
  throw new InvalidArgumentError('Give an https:// address without user, password, spaces and #.');
}

/** Reads one more kind of event of a repeatable option. */
export function parseWebhookEvents(text: string, before: readonly string[] = []): readonly string[] {
  if (!webhookEvent.safeParse(text).success) {
    throw new InvalidArgumentError(
      'Give an action of the audit log, like license.revoke, lease.acquire.denied, license.* or *.',
    );
  }
  if (before.length >= MAX_WEBHOOK_EVENTS) {
    throw new InvalidArgumentError(`Give at most ${MAX_WEBHOOK_EVENTS} of them, or *.`);
  }
  return [...before, text];
}

/** A reader of ids that begin with a prefix, as `lic_0191b2f0-...` does. */
export function idParser(
  prefix: 'join' | 'lic' | 'node' | 'rel' | 'slot' | 'token' | 'webhook',
  listCommand: string,
): (text: string) => string {
  const pattern = new RegExp(`^${prefix}_[0-9A-Za-z-]{1,64}$`);
  return (text) => {
    if (pattern.test(text)) return text;
    throw new InvalidArgumentError(`Give an id that begins with ${prefix}_; see \`${listCommand}\`.`);
  };
}
