/** What the audit log tells of: a key server writes no other action, and webhooks can be asked for no other. */

export const AUDIT_ACTIONS = [
  'access.refuse',
  'audit-export.add',
  'audit-export.remove',
  'audit.shred',
  'custody.add-slot',
  'custody.backup',
  'custody.remove-slot',
  'custody.rotate',
  'customer.block',
  'customer.create',
  'customer.unblock',
  'image-key.cancel-destruction',
  'image-key.destroy',
  'image-key.mint',
  'image-key.schedule-destruction',
  'image-key.wrap',
  'join-token.create',
  'join-token.revoke',
  'lease.acquire',
  'lease.renew',
  'license.acknowledge',
  'license.check-out',
  'license.create',
  'license.plaintext-gone',
  'license.reinstate',
  'license.renew',
  'license.revoke',
  'license.suspend',
  'license.update',
  'meter.report',
  'meter.set',
  'node.activate',
  'node.authenticate',
  'node.ban',
  'node.readmit',
  'node.retire',
  'node.rotate-certificate',
  'node.session',
  'node.unban',
  'organization.after-restore',
  'organization.audit-key',
  'organization.create',
  'organization.release-key',
  'organization.restore',
  'policy.create',
  'policy.update',
  'product.create',
  'release.register',
  'release.statement',
  'release.yank',
  'server.seal',
  'server.unseal',
  'token.create',
  'token.recover',
  'token.revoke',
  'token.use',
  'webhook.create',
  'webhook.delete',
  'webhook.disable',
  'webhook.enable',
] as const;

export type AuditAction = (typeof AUDIT_ACTIONS)[number];

const KINDS: ReadonlySet<string> = new Set(AUDIT_ACTIONS.flatMap((action) => [action, `${action}.denied`]));

/** True for a kind of event that can happen: an action, one with `.denied`, or all that begin alike, as `license.*` or `*`. */
export function isEventKind(text: string): boolean {
  if (!text.endsWith('*')) return KINDS.has(text);
  const beginning = text.slice(0, -1);
  return [...KINDS].some((kind) => kind.startsWith(beginning));
}
