/**
 * The license decision written once more, for tests: the table of reasons as independent predicates, of which the first that
 * applies counts. It shares no code with the decision.
 */
import type { DecisionFacts, LicenseFacts } from '#src/licensing/decide.ts';

type Predicate = (facts: DecisionFacts, license: LicenseFacts) => boolean;

/** What is asked of an ended license, from what every strategy but the first keeps to what only the last one does. */
const KEPT_BY = {
  'revoke-access': [],
  'restrict-access': ['known node', 'earlier release'],
  'maintain-access': ['known node', 'earlier release', 'new node'],
  'allow-access': ['known node', 'earlier release', 'new node', 'later release'],
} as const;

/** Which of the versions that the facts are drawn from lie in which range. */
const COVERED: Readonly<Record<string, readonly string[]>> = {
  '*': ['1.2.0', '2.0.0', 'rolling'],
  '^1': ['1.2.0'],
  '>=1': ['1.2.0', '2.0.0'],
  nonsense: [],
};

const TIERS = ['none', 'tpm', 'tee'];

const REASONS: readonly (readonly [string, Predicate])[] = [
  ['DENIED_CUSTOMER_BLOCKED', (_f, l) => l.customerBlocked],
  ['DENIED_LICENSE_REVOKED', (_f, l) => l.state === 'REVOKED'],
  ['DENIED_LICENSE_SUSPENDED', (_f, l) => l.state === 'SUSPENDED'],
  ['DENIED_LICENSE_NOT_STARTED', (f, l) => l.startsAtMs !== null && f.nowMs < l.startsAtMs],
  ['DENIED_LICENSE_EXPIRED', isTooLate],
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
    (f, l) => {
      const release = f.image?.release;
      if (!release) return false;
      const isOutside =
        typeof l.versionConstraint === 'string' &&
        COVERED[l.versionConstraint]?.includes(release.version ?? '') !== true;
      return isOutside || (release.publishedAtMs ?? 0) > (l.maintenanceUntilMs ?? Infinity);
    },
  ],
  [
    'DENIED_ENTITLEMENT_MISSING',
    (f, l) =>
      f.image?.release?.requiredEntitlements?.every((code) => l.entitlements?.includes(code)) === false,
  ],
  ['DENIED_INSTALLATION_LIMIT', (_f, { seats }) => isFull(seats.installations, seats.overage)],
  [
    'DENIED_NODE_LIMIT',
    (_f, { seats }) =>
      isFull({ max: seats.maxNodes, used: seats.usedSeats, held: seats.heldByThisNode }, seats.overage),
  ],
  ['DENIED_CONCURRENCY_LIMIT', (_f, { seats }) => isFull(seats.concurrent, seats.overage)],
  [
    'DENIED_ATTESTATION_REQUIRED',
    (f, l) => TIERS.indexOf(f.node?.attestationTier ?? 'none') < TIERS.indexOf(l.attestationTier ?? 'none'),
  ],
  ['DENIED_CLOCK_SKEW', (f) => Math.abs(f.nodeTimeMs - f.nowMs) > 5 * 60_000],
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

/** Gives the code of the refusal, or ALLOWED. */
export function modelDecision(facts: DecisionFacts): string {
  const { sealed, node, image, noLicense } = facts;
  if (sealed) return 'DENIED_SEALED';
  if (node === null) return 'DENIED_NODE_UNKNOWN';
  if (node !== undefined && node.state !== 'ACTIVE') return `DENIED_NODE_${node.state}`;
  const productId = image?.release?.productId ?? image?.imageKey?.productId;
  const reasons = facts.licenses
    .filter((license) => productId === undefined || license.productId === productId)
    .map((license) => ({ license, code: reasonAgainst(facts, license) }));
  if (reasons.length === 0) return noLicense?.code ?? 'DENIED_LICENSE_NOT_FOUND';
  if (reasons.some(({ code }) => code === 'ALLOWED')) return 'ALLOWED';
  return reasons.reduce((newest, next) =>
    next.license.createdAtMs > newest.license.createdAtMs ? next : newest,
  ).code;
}

function reasonAgainst(facts: DecisionFacts, license: LicenseFacts): string {
  return REASONS.find(([, applies]) => applies(facts, license))?.[0] ?? 'ALLOWED';
}

function isTooLate({ image, nowMs }: DecisionFacts, license: LicenseFacts): boolean {
  const { expiresAtMs, expiryGraceMs = 0, expirationStrategy = 'revoke-access' } = license;
  if (expiresAtMs === null || nowMs < expiresAtMs + expiryGraceMs) return false;
  const isLater = (image?.release?.publishedAtMs ?? 0) > expiresAtMs;
  const asked =
    image !== undefined
      ? isLater
        ? 'later release'
        : 'earlier release'
      : license.seats.heldByThisNode
        ? 'known node'
        : 'new node';
  const kept: readonly string[] = KEPT_BY[expirationStrategy];
  return !kept.includes(asked);
}

function isFull(
  seats: { readonly max: number; readonly used: number; readonly held: boolean } | undefined,
  overage = 'none',
): boolean {
  if (seats === undefined || seats.held || overage === 'always') return false;
  // In quarters, which are exact: 1.25x = 5.
  const quarters = { none: 4, '1.25x': 5, '1.5x': 6, '2x': 8 }[overage] ?? 0;
  return (seats.used + 1) * 4 > seats.max * quarters;
}
