/**
 * The license decision: may this node start this image now? Pure: the same facts give the same answer. The
 * checks run in one fixed order and the first that says no is the reason that everybody sees: the caller,
 * the audit log and the person who started the container.
 */
import type { DeniedCode } from '#src/base/errors.ts';
import { MAX_CLOCK_SKEW_MS } from '#src/base/limits.ts';
import {
  type AttestationTier,
  type CoverageTerms,
  type ReleaseTerms,
  coverageGap,
  isAttested,
} from './coverage.ts';
import { type ExpiryQuestion, expiryGap } from './expiry.ts';
import type { NodeState } from './node-state.ts';
import { type AnsweredRequest, mayRepeat } from './replay.ts';
import { type LicenseTerm, licenseStateAt } from './license-state.ts';
import { type SeatFacts, seatGap } from './seats.ts';

export interface NodeFacts {
  readonly nodeId: string;
  readonly state: NodeState;
  /** How strongly it was attested; undefined = not at all. */
  readonly attestationTier?: AttestationTier;
}

export interface LicenseFacts extends LicenseTerm, CoverageTerms {
  readonly licenseId: string;
  readonly epoch: number;
  readonly productId: string;
  readonly createdAtMs: number;
  readonly customerBlocked: boolean;
  /** The ISV's contact line that applies to this license. */
  readonly contact: string;
  readonly seats: SeatFacts;
}

/** What is known about the image a node wants to start. */
export interface ImageFacts {
  /** Empty when only the key is known, and nothing is registered with it. */
  readonly imageDigest: string;
  readonly imageKeyId: string;
  /** The release this digest belongs to; null = never registered. */
  readonly release:
    | (ReleaseTerms & {
        readonly productId: string;
        readonly state: 'PUBLISHED' | 'YANKED';
        /** True when a signed statement says what the release is; without one a node cannot tell a forged image. */
        readonly hasStatement: boolean;
      })
    | null;
  /** The image key the node asks for; null = never registered. */
  readonly imageKey: {
    readonly productId: string;
    readonly usable: boolean;
    /** True when the key is the one the release was encrypted with. */
    readonly opensRelease: boolean;
  } | null;
}

export interface DecisionFacts<License extends LicenseFacts = LicenseFacts> {
  /** True while the key server cannot reach its root key. */
  readonly sealed: boolean;
  /** Null = the certificate belongs to no node; undefined = enrolment of a node that is new. */
  readonly node: NodeFacts | null | undefined;
  /** Licenses of this node (at enrolment: the one of the key). */
  readonly licenses: readonly License[];
  /** At enrolment with a join token: why that opens no license. */
  readonly noLicense?: Pick<Denied, 'code' | 'message'> | null;
  /** Undefined at enrolment, where no image is asked for. */
  readonly image: ImageFacts | undefined;
  readonly nowMs: number;
  readonly nodeTimeMs: number;
  /** Set when the nonce of this request was answered before. */
  readonly answered?: AnsweredRequest | undefined;
  /** True when the lease that it follows was replaced by another one: somebody has a copy. */
  readonly isLeaseCloned?: boolean;
  /** Contact line for denials that no license is behind. */
  readonly defaultContact: string;
}

export interface Denied {
  readonly allowed: false;
  readonly code: DeniedCode;
  readonly message: string;
  readonly licenseId: string | null;
  readonly contact: string;
}

export interface Allowed<License extends LicenseFacts> {
  readonly allowed: true;
  readonly license: License;
}

/** Decides. With several licenses that fit, the first allowed wins, else the newest one's reason counts. */
export function decide<License extends LicenseFacts>(
  facts: DecisionFacts<License>,
): Allowed<License> | Denied {
  const general = generalDenial(facts);
  if (general !== null) return general;
  const candidates = candidateLicenses(facts);
  const [newest] = candidates;
  if (newest === undefined) return licenseNotFound(facts);
  const newestDenial = licenseDecision(newest, facts);
  if (newestDenial === null) return { allowed: true, license: newest };
  const other = candidates.find((license) => licenseDecision(license, facts) === null);
  return other === undefined ? newestDenial : { allowed: true, license: other };
}

/**
 * What a license alone says; null = nothing against it.
 * @param question what is asked of it, which matters when its term is over
 */
export function licenseDenial(
  license: LicenseFacts,
  nowMs: number,
  question: ExpiryQuestion = 'any-start',
): Denied | null {
  const name = `license ${license.licenseId}`;
  const deny = (code: DeniedCode, message: string) => denied(code, message, license);
  if (license.customerBlocked) {
    return deny('DENIED_CUSTOMER_BLOCKED', `the customer of ${name} is blocked`);
  }
  switch (licenseStateAt(license, nowMs)) {
    case 'REVOKED':
      return deny('DENIED_LICENSE_REVOKED', `${name} is revoked`);
    case 'SUSPENDED':
      return deny('DENIED_LICENSE_SUSPENDED', `${name} is suspended`);
    case 'NOT_STARTED':
      return deny('DENIED_LICENSE_NOT_STARTED', `${name} begins on ${isoTime(license.startsAtMs)}`);
    case 'EXPIRED': {
      const reason = expiryGap(license, question);
      return reason === null ? null : deny('DENIED_LICENSE_EXPIRED', `${name} ${reason}`);
    }
    case 'PENDING':
    case 'ACTIVE':
    case 'GRACE':
      return null;
  }
}

/** What a node alone says about starts, whatever its licenses; null = nothing against it. */
export function nodeDenial(node: NodeFacts | null, contact: string): Denied | null {
  if (node === null) {
    return denied('DENIED_NODE_UNKNOWN', 'the key server does not know this node', { contact });
  }
  const name = `node ${node.nodeId}`;
  switch (node.state) {
    case 'ACTIVE':
      return null;
    case 'BANNED':
      return denied('DENIED_NODE_BANNED', `${name} is banned`, { contact });
    case 'RETIRED':
      return denied('DENIED_NODE_RETIRED', `${name} was retired`, { contact });
    case 'RESTORED':
      return denied('DENIED_NODE_RESTORED', `${name} went back in time, as a restored snapshot does`, {
        contact,
      });
    case 'CLONED':
      return denied('DENIED_NODE_CLONED', `the identity of ${name} was copied and is in use twice`, {
        contact,
      });
  }
}

/** Newest first; ids are UUIDv7 and break ties in the order of creation. */
function candidateLicenses<License extends LicenseFacts>(facts: DecisionFacts<License>): License[] {
  const productId = facts.image?.release?.productId ?? facts.image?.imageKey?.productId;
  return facts.licenses
    .filter((license) => productId === undefined || license.productId === productId)
    .sort(
      (left, right) => right.createdAtMs - left.createdAtMs || (left.licenseId < right.licenseId ? 1 : -1),
    );
}

function generalDenial(facts: DecisionFacts): Denied | null {
  if (facts.sealed) {
    return denied('DENIED_SEALED', 'the key server is sealed and releases no keys', {
      contact: facts.defaultContact,
    });
  }
  return facts.node === undefined ? null : nodeDenial(facts.node, facts.defaultContact);
}

function licenseNotFound(facts: DecisionFacts): Denied {
  const { noLicense, defaultContact: contact } = facts;
  if (noLicense !== undefined && noLicense !== null)
    return denied(noLicense.code, noLicense.message, { contact });
  const message =
    facts.image === undefined
      ? 'no license has this key'
      : 'this node has no license for the product of this image';
  return denied('DENIED_LICENSE_NOT_FOUND', message, { contact });
}

function licenseDecision(license: LicenseFacts, facts: DecisionFacts): Denied | null {
  return (
    licenseDenial(license, facts.nowMs, expiryQuestion(license, facts.image)) ??
    imageDenial(license, facts.image) ??
    coverageDenial(license, facts.image) ??
    seatDenial(license) ??
    attestationDenial(license, facts.node) ??
    clockDenial(license, facts) ??
    repetitionDenial(license, facts)
  );
}

/** A node that holds a seat is no new one when it enrols again. */
function expiryQuestion({ seats }: LicenseFacts, image: ImageFacts | undefined): ExpiryQuestion {
  if (image === undefined) return seats.heldByThisNode ? 'any-start' : 'new-node';
  const publishedAtMs = image.release?.publishedAtMs;
  return publishedAtMs === undefined ? 'any-start' : { publishedAtMs };
}

function imageDenial(license: LicenseFacts, image: ImageFacts | undefined): Denied | null {
  if (image === undefined) return null;
  const name = `license ${license.licenseId}`;
  const deny = (code: DeniedCode, message: string) => denied(code, message, license);
  if (image.release === null) {
    const what = image.imageDigest === '' ? `of image key ${image.imageKeyId}` : image.imageDigest;
    return deny('DENIED_IMAGE_UNKNOWN', `${name} covers no image ${what}: it is not registered`);
  }
  if (image.release.state === 'YANKED') {
    return deny('DENIED_IMAGE_YANKED', `image ${image.imageDigest} was withdrawn, also for ${name}`);
  }
  if (!image.release.hasStatement) {
    return deny(
      'DENIED_STATEMENT_INVALID',
      `image ${image.imageDigest} was registered without a statement and has to be registered again for ${name}`,
    );
  }
  if (image.imageKey?.usable !== true) {
    return deny('DENIED_KEY_UNAVAILABLE', `image key ${image.imageKeyId} is not available for ${name}`);
  }
  if (image.imageKey.productId !== license.productId || !image.imageKey.opensRelease) {
    return deny(
      'DENIED_PRODUCT_MISMATCH',
      `image key ${image.imageKeyId} does not belong to the image that ${name} covers`,
    );
  }
  return null;
}

function coverageDenial(license: LicenseFacts, image: ImageFacts | undefined): Denied | null {
  const gap = image?.release ? coverageGap(license, image.release) : null;
  return gap === null ? null : denied(gap.code, `license ${license.licenseId} ${gap.reason}`, license);
}

function seatDenial(license: LicenseFacts): Denied | null {
  const gap = seatGap(license.seats);
  return gap === null ? null : denied(gap.code, `license ${license.licenseId} ${gap.reason}`, license);
}

function attestationDenial(license: LicenseFacts, node: DecisionFacts['node']): Denied | null {
  if (isAttested(node?.attestationTier, license.attestationTier)) return null;
  return denied(
    'DENIED_ATTESTATION_REQUIRED',
    `license ${license.licenseId} asks for a node attested by ${license.attestationTier?.toUpperCase() ?? ''}`,
    license,
  );
}

function repetitionDenial(license: LicenseFacts, facts: DecisionFacts): Denied | null {
  const { answered, image, nowMs } = facts;
  const about = `under license ${license.licenseId}`;
  if (answered !== undefined && !mayRepeat(answered, { license, image, nowMs })) {
    return denied('DENIED_REPLAY', `the nonce of this request ${about} was used before`, license);
  }
  if (facts.isLeaseCloned === true) {
    return denied('DENIED_LEASE_CLONED', `a lease ${about} was used that another one has replaced`, license);
  }
  return null;
}

function clockDenial(license: LicenseFacts, facts: DecisionFacts): Denied | null {
  const skewMs = facts.nodeTimeMs - facts.nowMs;
  if (Math.abs(skewMs) <= MAX_CLOCK_SKEW_MS) return null;
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  return denied(
    'DENIED_CLOCK_SKEW',
    `the clock of this node is ${seconds} s ${skewMs < 0 ? 'behind' : 'ahead of'} the key server's, ` +
      `too far for license ${license.licenseId}`,
    license,
  );
}

function denied(
  code: DeniedCode,
  message: string,
  about: { readonly licenseId?: string; readonly contact: string },
): Denied {
  return { allowed: false, code, message, licenseId: about.licenseId ?? null, contact: about.contact };
}

function isoTime(timeMs: number | null): string {
  return timeMs === null ? 'an unknown date' : new Date(timeMs).toISOString();
}
