import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import { type DecisionFacts, type ImageFacts, type LicenseFacts, decide } from '#src/licensing/decide.ts';

const NOW_MS = 1_800_000_000_000;
const DAY_MS = 86_400_000;

const license: LicenseFacts = {
  licenseId: 'lic_a',
  epoch: 1,
  productId: 'prod_a',
  createdAtMs: NOW_MS - DAY_MS,
  state: 'ACTIVE',
  startsAtMs: null,
  expiresAtMs: null,
  customerBlocked: false,
  contact: 'help@acme.example',
  seats: { maxNodes: 3, usedSeats: 0, heldByThisNode: true },
};

const image: ImageFacts = {
  imageDigest: `sha256:${'a'.repeat(64)}`,
  imageKeyId: 'ik_a',
  release: { productId: 'prod_a', state: 'PUBLISHED', hasStatement: true },
  imageKey: { productId: 'prod_a', usable: true, opensRelease: true },
};

const facts: DecisionFacts = {
  sealed: false,
  node: { nodeId: 'node_a', state: 'ACTIVE' },
  licenses: [license],
  image,
  nowMs: NOW_MS,
  nodeTimeMs: NOW_MS,
  defaultContact: 'isv@acme.example',
};

const withLicense = (change: Partial<LicenseFacts>): DecisionFacts => ({
  ...facts,
  licenses: [{ ...license, ...change }],
});
const withImage = (change: Partial<ImageFacts>): DecisionFacts => ({
  ...facts,
  image: { ...image, ...change },
});

/** One row per reason, in the order in which the reasons are looked at. */
const ROWS: readonly { readonly code: string; readonly change: DecisionFacts }[] = [
  { code: 'DENIED_SEALED', change: { ...facts, sealed: true } },
  { code: 'DENIED_NODE_UNKNOWN', change: { ...facts, node: null } },
  { code: 'DENIED_NODE_BANNED', change: { ...facts, node: { nodeId: 'node_a', state: 'BANNED' } } },
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
    change: withImage({ imageKey: { productId: 'prod_b', usable: true, opensRelease: false } }),
  },
  {
    code: 'DENIED_NODE_LIMIT',
    change: withLicense({ seats: { maxNodes: 3, usedSeats: 3, heldByThisNode: false } }),
  },
  { code: 'DENIED_CLOCK_SKEW', change: { ...facts, nodeTimeMs: NOW_MS + MAX_CLOCK_SKEW_MS + 1 } },
];

describe('decide', () => {
  it('allows when nothing is against it', () => {
    expect(decide(facts)).toEqual({ allowed: true, license });
  });

  it.each(ROWS)('$code', ({ code, change }) => {
    expect(decide(change)).toMatchObject({ allowed: false, code });
  });

  it.each(
    ROWS.filter(
      ({ change }) => change.node?.state === 'ACTIVE' && change.licenses.length > 0 && !change.sealed,
    ),
  )('$code names the license and the contact of the ISV', ({ change }) => {
    const decision = decide(change);
    expect(decision).toMatchObject({ licenseId: 'lic_a', contact: 'help@acme.example' });
    expect((decision as { message: string }).message).toContain('lic_a');
  });

  it('gives the default contact where no license is behind the denial', () => {
    expect(decide({ ...facts, licenses: [] })).toMatchObject({
      licenseId: null,
      contact: 'isv@acme.example',
    });
  });

  it.each([-MAX_CLOCK_SKEW_MS, MAX_CLOCK_SKEW_MS])('tolerates a skew of %d ms', (skewMs) => {
    expect(decide({ ...facts, nodeTimeMs: NOW_MS + skewMs }).allowed).toBe(true);
  });

  it('begins with the start and ends with the end of the term', () => {
    expect(decide(withLicense({ startsAtMs: NOW_MS, expiresAtMs: NOW_MS + 1 })).allowed).toBe(true);
  });

  it('does not count licenses of other products', () => {
    const other = { ...license, licenseId: 'lic_b', productId: 'prod_b' };
    expect(decide({ ...facts, licenses: [other] })).toMatchObject({ code: 'DENIED_LICENSE_NOT_FOUND' });
  });

  it('lets any license that fits win, and gives the reason of the newest when none does', () => {
    const revoked = { ...license, licenseId: 'lic_new', state: 'REVOKED', createdAtMs: NOW_MS } as const;
    const suspended = { ...license, licenseId: 'lic_old', state: 'SUSPENDED' } as const;
    expect(decide({ ...facts, licenses: [revoked, license] })).toEqual({ allowed: true, license });
    expect(decide({ ...facts, licenses: [suspended, revoked] })).toMatchObject({
      code: 'DENIED_LICENSE_REVOKED',
      licenseId: 'lic_new',
    });
  });

  it('enrols a new node with a free seat, and asks for no image', () => {
    const free = { ...license, seats: { maxNodes: 1, usedSeats: 0, heldByThisNode: false } };
    expect(decide({ ...facts, node: undefined, licenses: [free], image: undefined }).allowed).toBe(true);
  });

  /** The order written once more, as a list of independent predicates: no shared code with the decision. */
  const MODEL: readonly [string, (f: DecisionFacts, l: LicenseFacts) => boolean][] = [
    ['DENIED_CUSTOMER_BLOCKED', (_f, l) => l.customerBlocked],
    ['DENIED_LICENSE_REVOKED', (_f, l) => l.state === 'REVOKED'],
    ['DENIED_LICENSE_SUSPENDED', (_f, l) => l.state === 'SUSPENDED'],
    ['DENIED_LICENSE_NOT_STARTED', (f, l) => l.startsAtMs !== null && f.nowMs < l.startsAtMs],
    ['DENIED_LICENSE_EXPIRED', (f, l) => l.expiresAtMs !== null && f.nowMs >= l.expiresAtMs],
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
    ['DENIED_NODE_LIMIT', (_f, { seats }) => !seats.heldByThisNode && seats.usedSeats >= seats.maxNodes],
    ['DENIED_CLOCK_SKEW', (f) => Math.abs(f.nodeTimeMs - f.nowMs) > MAX_CLOCK_SKEW_MS],
  ];

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
  const licenses = fc
    .array(
      fc.record({
        epoch: fc.nat(),
        productId: product,
        state: fc.constantFrom('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED'),
        startsAtMs: time,
        expiresAtMs: time,
        customerBlocked: fc.boolean(),
        contact: fc.constant('c'),
        seats: fc.record({ maxNodes: fc.nat(2), usedSeats: fc.nat(2), heldByThisNode: fc.boolean() }),
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
