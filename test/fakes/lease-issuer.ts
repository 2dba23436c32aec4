/** The key server's word as an agent hears it, without the wire: really signed leases, answers a test scripts. */
import { generateKeyPairSync } from 'node:crypto';
import { CompactSign } from 'jose';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { signTogether } from '#src/crypto/sign-token.ts';
import type { ReleaseStatement } from '#src/image/statement.ts';
import { LEASE_LIST_TOKEN_TYPE, LEASE_TOKEN_TYPE, type LeaseClaims } from '#src/licensing/lease-claims.ts';
import { digestOf } from '#src/oci/digest.ts';
import type { Denial, RenewLeasesResponse, RenewalResult } from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from '../../shim/agent/key-server.ts';
import type { LeaseAuthority } from '../../shim/agent/lease-authority.ts';
import { openLeaseStatement } from '../../shim/agent/lease-statement.ts';
import { ANY_IMAGE, type LeaseSubject, leaseVerificationKey, verifyLease } from '../../shim/agent/lease.ts';
import type { ManualClock } from './manual-clock.ts';
import { randomImage, signedEnvelope, signingKeyPair, statementOf } from './release-statement.ts';

export const NODE_ID = 'node-1';
export const LEASE_DURATION_MS = 60_000;

export class LeaseIssuer {
  readonly clock: ManualClock;
  /** Image keys by their id; an unknown one gets a key of zeros. */
  readonly imageKeys = new Map<string, Buffer>();
  /** What the next calls are answered with instead of a lease. */
  refusal: LatchkeyError | undefined;
  /** Changes the claims of the leases that are cut from now on. */
  terms: Partial<LeaseClaims> = {};
  /** Runs while an answer is on its way. */
  onTheWay: () => Promise<void> = () => Promise.resolve();
  /** What releases are, by the digest of one manifest; for others a statement with other layers is made up. */
  readonly statements = new Map<string, ReleaseStatement>();
  /** Answers with these bytes instead of a signed statement while set. */
  envelope: Buffer | undefined;
  /** Why nothing may start on this node. */
  nodeRefusal: LatchkeyError | undefined;
  acquired = 0;
  renewed = 0;
  /** Of before there were leases that share a signature. */
  isOld = false;
  /** Where the answer says that a lease stands in the list. */
  placeInList: (place: number) => number = (place) => place;
  readonly #keys = generateKeyPairSync('ed25519');
  readonly releaseKeys = signingKeyPair();

  constructor(clock: ManualClock) {
    this.clock = clock;
  }

  get verificationJwk(): string {
    return JSON.stringify(this.#keys.publicKey.export({ format: 'jwk' }));
  }

  claims(subject: LeaseSubject): LeaseClaims {
    const issuedAtMs = this.clock.wallMs;
    return {
      leaseId: `lease-${this.acquired}`,
      organizationId: 'org-1',
      nodeId: NODE_ID,
      nodeKeyThumbprint: 'thumbprint',
      licenseId: 'lic-1',
      epoch: 1,
      imageDigest: subject.imageDigest === ANY_IMAGE ? digestOf('any image') : subject.imageDigest,
      imageKeyId: subject.imageKeyId,
      issuedAtMs,
      renewAtMs: issuedAtMs + LEASE_DURATION_MS / 3,
      expiresAtMs: issuedAtMs + LEASE_DURATION_MS,
      revision: 1,
      onRevoke: 'deny-start',
      contact: 'license@acme.example',
      ...this.terms,
    };
  }

  sign(claims: object, header: Readonly<Record<string, unknown>> = {}): Promise<string> {
    return new CompactSign(Buffer.from(JSON.stringify(claims)))
      .setProtectedHeader({ alg: 'EdDSA', typ: LEASE_TOKEN_TYPE, ...header })
      .sign(this.#keys.privateKey);
  }

  /** Leases that share a signature, as they come from the key server. */
  signTogether(leases: readonly object[]): string {
    const payloads = leases.map((claims) => JSON.stringify(claims));
    return signTogether(LEASE_LIST_TOKEN_TYPE, payloads, this.#keys.privateKey);
  }

  /** The signed statement that comes with a lease. */
  statement({ imageDigest, imageKeyId }: LeaseSubject): Buffer {
    const image = randomImage('amd64', imageKeyId);
    const made = imageDigest === ANY_IMAGE ? image : { ...image, manifest: imageDigest };
    const statement = this.statements.get(imageDigest) ?? statementOf([made], { imageKeyId });
    return this.envelope ?? Buffer.from(signedEnvelope(statement, this.releaseKeys));
  }

  authority(): LeaseAuthority {
    const key = leaseVerificationKey(this.verificationJwk);
    return {
      keyServer: this.#keyServer(),
      refusal: () => this.nodeRefusal,
      verify: (token, subject) =>
        this.#track(
          verifyLease(token, key, { nodeId: NODE_ID, ...(subject === undefined ? {} : { subject }) }),
        ),
      openStatement: (envelope, claims) => openLeaseStatement(envelope, this.releaseKeys.publicKey, claims),
      openImageKey: (sealed) => Promise.resolve(Buffer.from(this.imageKeys.get(sealed) ?? Buffer.alloc(32))),
    };
  }

  #keyServer(): KeyServer {
    return {
      address: 'keyserver.test:1',
      acquireLease: async (request) => {
        this.acquired += 1;
        const lease = await this.sign(this.claims(request as unknown as LeaseSubject));
        const serverTimeMs = this.clock.wallMs;
        await this.onTheWay();
        if (this.refusal !== undefined) throw this.refusal;
        return {
          lease,
          imageKeyJwe: request.imageKeyId,
          serverTimeMs,
          revision: 1,
          auditSequence: 1,
          statement: this.statement(request as unknown as LeaseSubject),
        };
      },
      reportPlaintext: () => Promise.resolve(),
      preflight: () => {
        if (this.refusal !== undefined) return Promise.reject(this.refusal);
        const answer = { licenseId: 'lic-1', productCode: 'acme-web', version: '2.0.0' };
        return Promise.resolve({ ...answer, revision: 1, serverTimeMs: this.clock.wallMs });
      },
      acknowledgeRevocations: () => Promise.resolve(),
      reportUsage: () => Promise.reject(new TypeError('usage has its own test')),
      renewLeases: ({ leaseIds, acceptsLeaseList }) =>
        this.#track(this.#renew(leaseIds, acceptsLeaseList && !this.isOld)),
      watchRevocations: () => Promise.reject(new TypeError('the watch has its own test')),
      listChanges: () => Promise.reject(new TypeError('the watch has its own test')),
      explain: (error) => toLatchkeyError(error),
      close: () => undefined,
    };
  }

  /** The subjects of leases by id, so that a renewal is for the same image. */
  readonly subjects = new Map<string, LeaseSubject>();
  #underWay = 0;

  /** Resolves when every answer has been given and looked at. */
  async settled(): Promise<void> {
    for (let quietTurns = 0; quietTurns < 5; quietTurns = this.#underWay === 0 ? quietTurns + 1 : 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async #track<Result>(work: Promise<Result>): Promise<Result> {
    this.#underWay += 1;
    try {
      return await work;
    } finally {
      this.#underWay -= 1;
    }
  }

  async #renew(leaseIds: readonly string[], asList: boolean): Promise<RenewLeasesResponse> {
    this.renewed += 1;
    if (this.refusal?.code.startsWith('NET_') === true) throw this.refusal;
    const listed: object[] = [];
    const results: RenewalResult[] = [];
    for (const leaseId of leaseIds) {
      const claims = this.#renewal(leaseId);
      const outcome: RenewalResult['outcome'] =
        claims === undefined
          ? { $case: 'denial', value: this.#denial() }
          : asList
            ? { $case: 'listedLease', value: this.placeInList(listed.push(claims) - 1) }
            : { $case: 'lease', value: await this.sign(claims) };
      results.push({ leaseId, outcome });
    }
    const leaseList = asList ? this.signTogether(listed) : '';
    return { results, serverTimeMs: this.clock.wallMs, revision: 1, leaseList };
  }

  #renewal(leaseId: string): LeaseClaims | undefined {
    const subject = this.subjects.get(leaseId);
    if (this.refusal !== undefined || subject === undefined) return undefined;
    return { ...this.claims(subject), leaseId };
  }

  #denial(): Denial {
    const { code = 'DENIED_LEASE_INVALID', message = 'unknown lease' } = this.refusal ?? {};
    return { code, message, licenseId: 'lic-1', contact: 'license@acme.example' };
  }
}
