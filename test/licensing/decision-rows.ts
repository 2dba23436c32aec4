/** A start that is allowed, and the facts that change that: one row for each reason. */
import type { DeniedCode } from '#src/base/errors.ts';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import type { DecisionFacts, ImageFacts, LicenseFacts } from '#src/licensing/decide.ts';
import type { NodeState } from '#src/licensing/node-state.ts';
import type { AnsweredRequest } from '#src/licensing/replay.ts';

export const NOW_MS = 1_800_000_000_000;
const DAY_MS = 86_400_000;

export const license: LicenseFacts = {
  licenseId: 'lic_a',
  epoch: 1,
  productId: 'prod_a',
  createdAtMs: NOW_MS - DAY_MS,
  state: 'ACTIVE',
  startsAtMs: null,
  expiresAtMs: null,
  customerBlocked: false,
  contact: 'help@acme.example',
  entitlements: ['sso'],
  seats: { maxNodes: 3, usedSeats: 0, heldByThisNode: true },
};

export const image: ImageFacts = {
  imageDigest: `sha256:${'a'.repeat(64)}`,
  imageKeyId: 'ik_a',
  release: {
    productId: 'prod_a',
    state: 'PUBLISHED',
    hasStatement: true,
    version: '2.0.0',
    requiredEntitlements: ['sso'],
  },
  imageKey: { productId: 'prod_a', usable: true, opensRelease: true },
};

export const facts: DecisionFacts = {
  sealed: false,
  node: { nodeId: 'node_a', state: 'ACTIVE' },
  licenses: [license],
  image,
  nowMs: NOW_MS,
  nodeTimeMs: NOW_MS,
  defaultContact: 'isv@acme.example',
};

export const answered: AnsweredRequest = {
  licenseId: license.licenseId,
  epoch: license.epoch,
  imageDigest: image.imageDigest,
  imageKeyId: image.imageKeyId,
  expiresAtMs: NOW_MS + 1,
  isRepeated: false,
};

export const withLicense = (change: Partial<LicenseFacts>): DecisionFacts => ({
  ...facts,
  licenses: [{ ...license, ...change }],
});
const withImage = (change: Partial<ImageFacts>): DecisionFacts => ({
  ...facts,
  image: { ...image, ...change },
});

const withNode = (state: NodeState): DecisionFacts => ({ ...facts, node: { nodeId: 'node_a', state } });

export interface DecisionRow {
  readonly code: DeniedCode;
  readonly change: DecisionFacts;
}

/** One row per reason, in the order in which the reasons are looked at. */
export const ROWS: readonly DecisionRow[] = [
  { code: 'DENIED_SEALED', change: { ...facts, sealed: true } },
  { code: 'DENIED_NODE_UNKNOWN', change: { ...facts, node: null } },
  { code: 'DENIED_NODE_BANNED', change: withNode('BANNED') },
  { code: 'DENIED_NODE_RETIRED', change: withNode('RETIRED') },
  { code: 'DENIED_NODE_RESTORED', change: withNode('RESTORED') },
  { code: 'DENIED_NODE_CLONED', change: withNode('CLONED') },
  { code: 'DENIED_LICENSE_NOT_FOUND', change: { ...facts, licenses: [] } },
  { code: 'DENIED_CUSTOMER_BLOCKED', change: withLicense({ customerBlocked: true }) },
  { code: 'DENIED_LICENSE_REVOKED', change: withLicense({ state: 'REVOKED' }) },
  { code: 'DENIED_LICENSE_SUSPENDED', change: withLicense({ state: 'SUSPENDED' }) },
  { code: 'DENIED_LICENSE_NOT_STARTED', change: withLicense({ startsAtMs: NOW_MS + 1 }) },
  { code: 'DENIED_LICENSE_EXPIRED', change: withLicense({ expiresAtMs: NOW_MS }) },
  { code: 'DENIED_IMAGE_UNKNOWN', change: withImage({ release: null }) },
  {
    code: 'DENIED_IMAGE_YANKED',
    change: withImage({ release: { productId: 'prod_a', state: 'YANKED', hasStatement: true } }),
  },
  {
    code: 'DENIED_STATEMENT_INVALID',
    change: withImage({ release: { productId: 'prod_a', state: 'PUBLISHED', hasStatement: false } }),
  },
  { code: 'DENIED_KEY_UNAVAILABLE', change: withImage({ imageKey: null }) },
  {
    code: 'DENIED_PRODUCT_MISMATCH',
    change: withImage({ imageKey: { productId: 'prod_a', usable: true, opensRelease: false } }),
  },
  { code: 'DENIED_VERSION_NOT_COVERED', change: withLicense({ versionConstraint: '^1' }) },
  { code: 'DENIED_ENTITLEMENT_MISSING', change: withLicense({ entitlements: [] }) },
  {
    code: 'DENIED_INSTALLATION_LIMIT',
    change: withLicense({ seats: { ...license.seats, installations: { max: 1, used: 1, held: false } } }),
  },
  {
    code: 'DENIED_NODE_LIMIT',
    change: withLicense({ seats: { maxNodes: 3, usedSeats: 3, heldByThisNode: false } }),
  },
  {
    code: 'DENIED_CONCURRENCY_LIMIT',
    change: withLicense({ seats: { ...license.seats, concurrent: { max: 5, used: 5, held: false } } }),
  },
  { code: 'DENIED_ATTESTATION_REQUIRED', change: withLicense({ attestationTier: 'tpm' }) },
  { code: 'DENIED_CLOCK_SKEW', change: { ...facts, nodeTimeMs: NOW_MS + MAX_CLOCK_SKEW_MS + 1 } },
  { code: 'DENIED_REPLAY', change: { ...facts, answered: { ...answered, isRepeated: true } } },
  { code: 'DENIED_LEASE_CLONED', change: { ...facts, isLeaseCloned: true } },
];

/** Of a join token, in place of DENIED_LICENSE_NOT_FOUND. */
export const JOIN_TOKEN_CODES = [
  'DENIED_JOIN_TOKEN_UNKNOWN',
  'DENIED_JOIN_TOKEN_EXPIRED',
  'DENIED_JOIN_TOKEN_USED',
] as const satisfies readonly DeniedCode[];
