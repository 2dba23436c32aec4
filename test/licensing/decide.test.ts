import { describe, expect, it } from 'vitest';
import { ERROR_TABLE } from '#src/base/errors.ts';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import { type DecisionFacts, decide } from '#src/licensing/decide.ts';
import {
  type DecisionRow,
  JOIN_TOKEN_CODES,
  NOW_MS,
  ROWS,
  answered,
  facts,
  image,
  license,
  withLicense,
} from './decision-rows.ts';

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

/** States of a node exclude each other. */
const isOfNode = ({ code }: DecisionRow) => code.startsWith('DENIED_NODE_') && code !== 'DENIED_NODE_LIMIT';

const PAIRS = ROWS.flatMap((earlier, index) =>
  ROWS.slice(index + 1)
    .filter((later) => !(isOfNode(earlier) && isOfNode(later)))
    .map((later) => ({ earlier, later, code: earlier.code, other: later.code })),
);

/** Decided elsewhere, and where. */
const OTHER_CODES = {
  DENIED_NODE_NOT_ACTIVATED: 'a node without a certificate finds it out itself',
  DENIED_CLOCK_ROLLBACK: 'by the node, which knows what it has seen',
  DENIED_SERVER_ROLLBACK: 'by node and key server, before anything else: facts of the past decide nothing',
  DENIED_LEASE_EXPIRED: 'by the node, about a lease that it holds',
  DENIED_OFFLINE_STARTS: 'by the node, which counts them',
  DENIED_LEASE_INVALID: 'by the node, and by the renewal of a lease',
  DENIED_FOREIGN_UNPACK: 'by the node, about what is on its disk',
  DENIED_IMAGE_ALTERED: 'by the node, about what is on its disk',
} as const;

/** The order as it was designed; ours has more reasons in between. */
const DESIGNED = [
  ...['SEALED', 'NODE_UNKNOWN', 'NODE_BANNED', 'LICENSE_NOT_FOUND', 'CUSTOMER_BLOCKED', 'LICENSE_REVOKED'],
  ...['LICENSE_SUSPENDED', 'LICENSE_NOT_STARTED', 'LICENSE_EXPIRED', 'IMAGE_UNKNOWN', 'IMAGE_YANKED'],
  ...['KEY_UNAVAILABLE', 'PRODUCT_MISMATCH', 'VERSION_NOT_COVERED', 'ENTITLEMENT_MISSING'],
  ...['INSTALLATION_LIMIT', 'NODE_LIMIT', 'CONCURRENCY_LIMIT', 'ATTESTATION_REQUIRED', 'CLOCK_SKEW'],
  ...['REPLAY', 'LEASE_CLONED'],
].map((name) => `DENIED_${name}`);

describe('decide', () => {
  it('has a row for every reason that is not decided elsewhere, in the order that was designed', () => {
    const codes: readonly string[] = ROWS.map(({ code }) => code);
    const denials = Object.keys(ERROR_TABLE).filter((code) => code.startsWith('DENIED_'));
    expect([...codes, ...JOIN_TOKEN_CODES, ...Object.keys(OTHER_CODES)].sort()).toEqual(denials.sort());
    expect(codes.filter((code) => DESIGNED.includes(code))).toEqual(DESIGNED);
  });

  it.each(JOIN_TOKEN_CODES)('%s stands in the place of a license that is not found', (code) => {
    const enrolment = { ...facts, image: undefined, licenses: [], noLicense: { code, message: 'm' } };
    expect(decide({ ...enrolment, node: undefined })).toMatchObject({ code, licenseId: null });
    expect(decide({ ...enrolment, node: { nodeId: 'node_a', state: 'BANNED' } })).toMatchObject({
      code: 'DENIED_NODE_BANNED',
    });
    expect(decide({ ...enrolment, sealed: true })).toMatchObject({ code: 'DENIED_SEALED' });
  });

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

  it.each([
    ['tpm', undefined, false],
    ['tpm', 'none', false],
    ['tpm', 'tpm', true],
    ['tpm', 'tee', true],
    ['tee', 'tpm', false],
    ['none', undefined, true],
  ] as const)('a license that asks for %s has a node of %s: %s', (required, attestationTier, isAllowed) => {
    const node = { nodeId: 'node_a', state: 'ACTIVE', ...(attestationTier && { attestationTier }) } as const;
    expect(decide({ ...withLicense({ attestationTier: required }), node }).allowed).toBe(isAllowed);
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
