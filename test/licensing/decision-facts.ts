/** Facts for the license decision, drawn at random: mostly good ones, so that every reason is the first now and then. */
import fc from 'fast-check';
import type { DecisionFacts, NodeFacts } from '#src/licensing/decide.ts';
import { EXPIRATION_STRATEGIES } from '#src/licensing/expiry.ts';
import { NODE_STATES } from '#src/licensing/node-state.ts';
import { OVERAGES } from '#src/licensing/seats.ts';

export const NOW_MS = 1_800_000_000_000;
const SKEW_MS = 5 * 60_000;
/** How much likelier a good fact is than all the others. */
const GOOD_WEIGHT = 12;

/** One of these, the first most of the time. */
function mostly<Value>(good: Value, ...others: readonly Value[]): fc.Arbitrary<Value> {
  return fc.oneof(
    { weight: GOOD_WEIGHT, arbitrary: fc.constant(good) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );
}

const product = mostly('prod_a', 'prod_b');

const seatCount = fc.oneof(
  { weight: GOOD_WEIGHT, arbitrary: fc.constant(undefined) },
  { weight: 2, arbitrary: fc.record({ max: fc.nat(9), used: fc.nat(12), held: fc.boolean() }) },
);

const license = fc.record({
  epoch: mostly(1, 0),
  productId: product,
  state: mostly<'ACTIVE' | 'PENDING' | 'REVOKED' | 'SUSPENDED'>('ACTIVE', 'PENDING', 'SUSPENDED', 'REVOKED'),
  startsAtMs: mostly(null, NOW_MS - 1, NOW_MS, NOW_MS + 1),
  // Ends are likely: nowhere else is there so much to get wrong.
  expiresAtMs: fc.constantFrom(null, NOW_MS - 2, NOW_MS - 1, NOW_MS, NOW_MS + 1),
  expiryGraceMs: fc.constantFrom(undefined, 0, 1, 2, 3),
  expirationStrategy: fc.constantFrom(undefined, ...EXPIRATION_STRATEGIES),
  customerBlocked: mostly(false, true),
  contact: fc.constant('c'),
  versionConstraint: mostly<string | null>(null, '*', '^1', '>=1', 'nonsense'),
  maintenanceUntilMs: mostly<number | null>(null, NOW_MS - 2, NOW_MS - 1, NOW_MS),
  entitlements: mostly(['audit', 'sso'], ['sso'], ['audit'], []),
  attestationTier: mostly<'none' | 'tee' | 'tpm'>('none', 'tpm', 'tee'),
  seats: fc.record({
    maxNodes: fc.nat(9),
    usedSeats: mostly(0, 1, 4, 9, 12),
    heldByThisNode: fc.boolean(),
    installations: seatCount,
    concurrent: seatCount,
    overage: fc.constantFrom(undefined, ...OVERAGES),
  }),
});

const node: fc.Arbitrary<NodeFacts> = fc.record({
  nodeId: fc.constant('n'),
  state: mostly(...NODE_STATES),
  attestationTier: mostly<'none' | 'tee' | 'tpm'>('none', 'tpm', 'tee'),
});

const image = fc.record({
  imageDigest: fc.constant('d'),
  imageKeyId: fc.constant('k'),
  release: fc.option(
    fc.record({
      productId: product,
      state: mostly<'PUBLISHED' | 'YANKED'>('PUBLISHED', 'YANKED'),
      hasStatement: mostly(true, false),
      version: fc.constantFrom('1.2.0', '2.0.0', 'rolling'),
      publishedAtMs: fc.constantFrom(NOW_MS - 2, NOW_MS - 1, NOW_MS),
      requiredEntitlements: fc.constantFrom([], [], ['sso'], ['audit', 'sso']),
    }),
    { freq: GOOD_WEIGHT },
  ),
  imageKey: fc.option(
    fc.record({ productId: product, usable: mostly(true, false), opensRelease: mostly(true, false) }),
    { freq: GOOD_WEIGHT },
  ),
});

const answered = fc.record({
  licenseId: fc.constantFrom('lic_0', 'lic_1'),
  epoch: mostly(1, 0),
  imageDigest: mostly('d', 'other'),
  imageKeyId: mostly('k', 'other'),
  expiresAtMs: mostly(NOW_MS + 1, NOW_MS),
  isRepeated: mostly(false, true),
});

export const anyFacts: fc.Arbitrary<DecisionFacts> = fc.record({
  sealed: mostly(false, true),
  node: fc.oneof(
    { weight: GOOD_WEIGHT, arbitrary: node },
    { weight: 3, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constant(null) },
  ),
  licenses: fc
    .array(license, { maxLength: 3 })
    .map((list) => list.map((item, index) => ({ ...item, licenseId: `lic_${index}`, createdAtMs: index }))),
  noLicense: mostly(null, { code: 'DENIED_JOIN_TOKEN_EXPIRED', message: 'm' } as const),
  image: fc.option(image, { nil: undefined, freq: 3 }),
  nowMs: fc.constant(NOW_MS),
  nodeTimeMs: mostly(NOW_MS, NOW_MS + SKEW_MS, NOW_MS - SKEW_MS, NOW_MS - SKEW_MS - 1, NOW_MS + SKEW_MS + 1),
  answered: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: answered }),
  isLeaseCloned: mostly(false, true),
  defaultContact: fc.constant('default'),
});
