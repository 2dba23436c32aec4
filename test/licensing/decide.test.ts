import { describe, expect, it } from 'vitest';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import { type DecisionFacts, type ImageFacts, type LicenseFacts, decide } from '#src/licensing/decide.ts';
import type { AnsweredRequest } from '#src/licensing/replay.ts';

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
  entitlements: ['sso'],
  seats: { maxNodes: 3, usedSeats: 0, heldByThisNode: true },
};

const image: ImageFacts = {
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

const facts: DecisionFacts = {
  sealed: false,
  node: { nodeId: 'node_a', state: 'ACTIVE' },
  licenses: [license],
  image,
  nowMs: NOW_MS,
  nodeTimeMs: NOW_MS,
  defaultContact: 'isv@acme.example',
};

const answered: AnsweredRequest = {
  licenseId: license.licenseId,
  epoch: license.epoch,
  imageDigest: image.imageDigest,
  imageKeyId: image.imageKeyId,
  expiresAtMs: NOW_MS + 1,
  isRepeated: false,
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

/** Both changes at once. */
function together(left: DecisionFacts, right: DecisionFacts): DecisionFacts {
  const changed = <T extends object>(base: T, a: T, b: T): T => {
    const merged = { ...base };
    for (const side of [b, a]) {
      for (const key of Object.keys(side) as (keyof T)[])
        if (side[key] !== base[key]) merged[key] = side[key];
    }
    return merged;
  };
  const both = changed(facts, left, right);
  const [l] = left.licenses;
  const [r] = right.licenses;
  const licenses =
    l === undefined || r === undefined
      ? []
      : [{ ...changed(license, l, r), seats: changed(license.seats, l.seats, r.seats) }];
  const images = [left.image ?? image, right.image ?? image] as const;
  return { ...both, licenses, image: changed(image, ...images) };
}

const PAIRS = ROWS.flatMap((earlier, index) =>
  ROWS.slice(index + 1).map((later) => ({ earlier, later, code: earlier.code, other: later.code })),
);

describe('decide', () => {
  it('allows when nothing is against it', () => {
    expect(decide(facts)).toEqual({ allowed: true, license });
  });

  it('allows the very same lease once more', () => {
    expect(decide({ ...facts, answered })).toEqual({ allowed: true, license });
  });

  it.each([
    ['was repeated already', { isRepeated: true }],
    ['is about another image', { imageDigest: `sha256:${'b'.repeat(64)}` }],
    ['is about another image key', { imageKeyId: 'ik_b' }],
    ['is from another license', { licenseId: 'lic_b' }],
    ['is older than a change of the license', { epoch: license.epoch - 1 }],
    ['has ended', { expiresAtMs: NOW_MS }],
  ])('takes a nonce for a replay whose lease %s', (_reason, change) => {
    expect(decide({ ...facts, answered: { ...answered, ...change } })).toMatchObject({
      allowed: false,
      code: 'DENIED_REPLAY',
    });
  });

  it('repeats the lease of the license that it was from, though a newer one would do too', () => {
    const newer = { ...license, licenseId: 'lic_b', createdAtMs: NOW_MS };
    expect(decide({ ...facts, licenses: [newer, license], answered })).toEqual({ allowed: true, license });
  });

  it.each(ROWS)('$code', ({ code, change }) => {
    expect(decide(change)).toMatchObject({ allowed: false, code });
  });

  it.each(PAIRS)('$code comes before $other', ({ earlier, later }) => {
    expect(decide(together(earlier.change, later.change))).toMatchObject({ code: earlier.code });
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
});
