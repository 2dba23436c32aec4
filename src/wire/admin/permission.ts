/** What a caller of the admin API may do: single permissions, and the named sets of them that tokens hold. */

/** One for each kind of thing and what is done to it. A route names exactly one. */
export const PERMISSIONS = [
  'organization.read',
  'product.read',
  'product.write',
  'release.read',
  'release.list',
  'release.register',
  'release.yank',
  'image-key.mint',
  'image-key.schedule',
  'customer.read',
  'customer.write',
  'customer.block',
  'policy.read',
  'policy.write',
  'license.read',
  'license.write',
  'usage.read',
  'usage.report',
  'join-token.read',
  'join-token.write',
  'lease.read',
  'node.read',
  'node.write',
  'audit.read',
  'audit.shred',
  'webhook.read',
  'webhook.write',
  'token.read',
  'token.write',
  'custody.read',
  'custody.backup',
  'custody.seal',
  'custody.write',
] as const;

export type Permission = (typeof PERMISSIONS)[number];

export const PERMISSION_SET_NAMES = [
  'admin',
  'license-admin',
  'release',
  'customer-support',
  'auditor',
  'metering',
  'backup',
] as const;

export type PermissionSet = (typeof PERMISSION_SET_NAMES)[number];

/** Reads that change nothing and show no secret; nothing shows one after it was made. */
const READS = PERMISSIONS.filter((permission) => /\.(?:read|list)$/.test(permission));

/** Support looks things up; tokens and custody are none of its business. */
const SUPPORT = [
  'organization.read',
  'product.read',
  'release.read',
  'release.list',
  'customer.read',
  'policy.read',
  'license.read',
  'usage.read',
  'join-token.read',
  'lease.read',
  'node.read',
] as const;

/** Of these sets there are tokens for one product or one customer; the others are about the organization. */
export const PRODUCT_SETS: readonly PermissionSet[] = [
  'license-admin',
  'release',
  'customer-support',
  'metering',
];
export const CUSTOMER_SETS: readonly PermissionSet[] = ['license-admin', 'customer-support', 'metering'];

/** What each set holds; what is not named is refused. */
export const PERMISSION_SETS: Readonly<Record<PermissionSet, readonly Permission[]>> = {
  admin: PERMISSIONS,
  'license-admin': [
    ...SUPPORT,
    'customer.write',
    'customer.block',
    'policy.write',
    'license.write',
    'usage.report',
    'join-token.write',
    'node.write',
  ],
  // For CI: no key is ever shown to it.
  release: ['organization.read', 'product.read', 'release.read', 'release.register', 'image-key.mint'],
  'customer-support': SUPPORT,
  auditor: READS,
  // For the vendor's programs that count what is used: they change nothing else.
  metering: ['usage.read', 'usage.report'],
  // For the job that makes backups, which nobody can read without the root key.
  backup: ['custody.backup'],
};
