/** The license decision against a model of it that is written differently. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import { type DecisionFacts, type LicenseFacts, decide } from '#src/licensing/decide.ts';
import { EXPIRATION_STRATEGIES } from '#src/licensing/expiry.ts';
import type { SeatCount } from '#src/licensing/seats.ts';

const NOW_MS = 1_800_000_000_000;

describe('decide', () => {
  /** The order written once more, as a list of independent predicates: no shared code with the decision. */
  const MODEL: readonly [string, (f: DecisionFacts, l: LicenseFacts) => boolean][] = [
    ['DENIED_CUSTOMER_BLOCKED', (_f, l) => l.customerBlocked],
    ['DENIED_LICENSE_REVOKED', (_f, l) => l.state === 'REVOKED'],
    ['DENIED_LICENSE_SUSPENDED', (_f, l) => l.state === 'SUSPENDED'],
    ['DENIED_LICENSE_NOT_STARTED', (f, l) => l.startsAtMs !== null && f.nowMs < l.startsAtMs],
    [
      'DENIED_LICENSE_EXPIRED',
      (f, l) => {
        if (l.expiresAtMs === null || f.nowMs < l.expiresAtMs + (l.expiryGraceMs ?? 0)) return false;
        const isLater = (f.image?.release?.publishedAtMs ?? 0) > l.expiresAtMs;
        const isNewNode = f.image === undefined && !l.seats.heldByThisNode;
        const keeps = { 'revoke-access': 0, 'restrict-access': 1, 'maintain-access': 2, 'allow-access': 3 };
        const kept = keeps[l.expirationStrategy ?? 'revoke-access'];
        return kept === 0 || (kept === 1 && isNewNode) || (kept < 3 && isLater);
      },
    ],
    ['DENIED_IMAGE_UNKNOWN', (f) => f.image?.release === null],
    ['DENIED_IMAGE_YANKED', (f) => f.image?.release?.state === 'YANKED'],
    ['DENIED_STATEMENT_INVALID', (f) => f.image?.release?.hasStatement === false],
    ['DENIED_KEY_UNAVAILABLE', (f) => f.image !== undefined && f.image.imageKey?.usable !== true],
    [
      'DENIED_PRODUCT_MISMATCH',
      (f, l) =>
        f.image?.imageKey?.opensRelease === false ||
        (f.image?.imageKey?.productId ?? l.productId) !== l.productId,
    ],
    [
      'DENIED_VERSION_NOT_COVERED',
      (f, l) =>
        (l.versionConstraint === '^1' && f.image?.release?.version === '2.0.0') ||
        (f.image?.release?.publishedAtMs ?? 0) > (l.maintenanceUntilMs ?? Infinity),
    ],
    [
      'DENIED_ENTITLEMENT_MISSING',
      (f, l) =>
        f.image?.release?.requiredEntitlements?.every((code) => l.entitlements?.includes(code)) === false,
    ],
    ['DENIED_INSTALLATION_LIMIT', (_f, { seats }) => full(seats.installations)],
    ['DENIED_NODE_LIMIT', (_f, { seats }) => !seats.heldByThisNode && seats.usedSeats >= seats.maxNodes],
    ['DENIED_CONCURRENCY_LIMIT', (_f, { seats }) => full(seats.concurrent)],
    ['DENIED_ATTESTATION_REQUIRED', (_f, l) => (l.attestationTier ?? 'none') !== 'none'],
    ['DENIED_CLOCK_SKEW', (f) => Math.abs(f.nodeTimeMs - f.nowMs) > MAX_CLOCK_SKEW_MS],
    [
      'DENIED_REPLAY',
      ({ answered, image, nowMs }, l) =>
        answered !== undefined &&
        (answered.isRepeated ||
          `${answered.licenseId} ${answered.epoch}` !== `${l.licenseId} ${l.epoch}` ||
          `${answered.imageKeyId} ${answered.imageDigest}` !== `${image?.imageKeyId} ${image?.imageDigest}` ||
          answered.expiresAtMs <= nowMs),
    ],
    ['DENIED_LEASE_CLONED', (f) => f.isLeaseCloned === true],
  ];

  function full(seats: SeatCount | undefined): boolean {
    return seats?.held === false && seats.max <= seats.used;
  }

  function model(f: DecisionFacts): string {
    if (f.sealed) return 'DENIED_SEALED';
    if (f.node === null) return 'DENIED_NODE_UNKNOWN';
    if (f.node?.state === 'BANNED') return 'DENIED_NODE_BANNED';
    const productId = f.image?.release?.productId ?? f.image?.imageKey?.productId;
    const reasons = f.licenses
      .filter((l) => productId === undefined || l.productId === productId)
      .map((l) => ({ l, code: MODEL.find(([, applies]) => applies(f, l))?.[0] ?? 'ALLOWED' }));
    if (reasons.length === 0) return 'DENIED_LICENSE_NOT_FOUND';
    if (reasons.some(({ code }) => code === 'ALLOWED')) return 'ALLOWED';
    return reasons.reduce((newest, next) => (next.l.createdAtMs > newest.l.createdAtMs ? next : newest)).code;
  }

  const product = fc.constantFrom('prod_a', 'prod_b');
  const time = fc.constantFrom(null, NOW_MS - 1, NOW_MS, NOW_MS + 1);
  const seatCount = fc.record({ max: fc.nat(2), used: fc.nat(2), held: fc.boolean() });
  const licenses = fc
    .array(
      fc.record({
        epoch: fc.constantFrom(0, 1),
        productId: product,
        state: fc.constantFrom('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED'),
        startsAtMs: time,
        expiresAtMs: time,
        expiryGraceMs: fc.constantFrom(undefined, 0, 1, 2),
        expirationStrategy: fc.constantFrom(undefined, ...EXPIRATION_STRATEGIES),
        customerBlocked: fc.boolean(),
        contact: fc.constant('c'),
        versionConstraint: fc.constantFrom(null, null, '^1', '>=1'),
        maintenanceUntilMs: time,
        entitlements: fc.subarray(['sso', 'audit']),
        attestationTier: fc.constantFrom('none', 'none', 'none', 'tpm'),
        seats: fc.record(
          {
            maxNodes: fc.nat(2),
            usedSeats: fc.nat(2),
            heldByThisNode: fc.boolean(),
            installations: seatCount,
            concurrent: seatCount,
          },
          { requiredKeys: ['maxNodes', 'usedSeats', 'heldByThisNode'] },
        ),
      }),
      { maxLength: 4 },
    )
    .map((list) => list.map((item, index) => ({ ...item, licenseId: `lic_${index}`, createdAtMs: index })));
  const anyFacts: fc.Arbitrary<DecisionFacts> = fc.record({
    sealed: fc.constantFrom(false, false, false, true),
    node: fc.constantFrom(
      undefined,
      null,
      { nodeId: 'n', state: 'ACTIVE' } as const,
      {
        nodeId: 'n',
        state: 'BANNED',
      } as const,
    ),
    licenses,
    image: fc.option(
      fc.record({
        imageDigest: fc.constant('d'),
        imageKeyId: fc.constant('k'),
        release: fc.option(
          fc.record({
            productId: product,
            state: fc.constantFrom('PUBLISHED', 'YANKED'),
            hasStatement: fc.boolean(),
            version: fc.constantFrom('1.2.0', '2.0.0'),
            publishedAtMs: fc.constantFrom(NOW_MS - 1, NOW_MS),
            requiredEntitlements: fc.subarray(['sso', 'audit']),
          }),
        ),
        imageKey: fc.option(
          fc.record({ productId: product, usable: fc.boolean(), opensRelease: fc.boolean() }),
        ),
      }),
      { nil: undefined },
    ),
    nowMs: fc.constant(NOW_MS),
    nodeTimeMs: fc.constantFrom(NOW_MS, NOW_MS + MAX_CLOCK_SKEW_MS, NOW_MS - MAX_CLOCK_SKEW_MS - 1),
    answered: fc.option(
      fc.record({
        licenseId: fc.constantFrom('lic_0', 'lic_1'),
        epoch: fc.constantFrom(0, 1),
        imageDigest: fc.constantFrom('d', 'd', 'd', 'other'),
        imageKeyId: fc.constantFrom('k', 'k', 'k', 'other'),
        expiresAtMs: fc.constantFrom(NOW_MS, NOW_MS + 1),
        isRepeated: fc.boolean(),
      }),
      { nil: undefined },
    ),
    isLeaseCloned: fc.boolean(),
    defaultContact: fc.constant('default'),
  });

  it('agrees with the model on any facts', () => {
    fc.assert(
      fc.property(anyFacts, (any) => {
        const decision = decide(any);
        expect(decision.allowed ? 'ALLOWED' : decision.code).toBe(model(any));
      }),
      { numRuns: process.env['SLOW'] === '1' ? 20_000 : 2_000 },
    );
  });
});
