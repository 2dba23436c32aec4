/** This node's place with the key server: who it is there, the line to it, and a certificate that is always good. */
import { type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { parseOfflineBundleFile } from '#src/licensing/offline-bundle.ts';
import type { OfflineRequestFile } from '#src/licensing/offline-request.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { type Activated, activate, leaseAuthority } from './activation.ts';
import { authenticate } from './authentication.ts';
import { readAuthorityFile } from './authority-file.ts';
import { certificateRequest } from './certificate-request.ts';
import {
  CertificateRotation,
  type CertificateTimes,
  type RotatingCertificate,
  certificateOf,
} from './certificate-rotation.ts';
import { installationId } from './installation-id.ts';
import { KeyServerLine, type LineCredentials } from './key-server-line.ts';
import { NodeMemory } from './node-memory.ts';
import { IdentityStore, type NodeIdentity } from './node-identity.ts';
import type { NodeKey } from './node-key.ts';
import type { MembershipParts } from './membership-parts.ts';
import type { OpenedBundle } from './offline-bundle.ts';
import { identityWith } from './offline-identity.ts';
import { OfflineLeases, type UsedBundle } from './offline-leases.ts';
import { offlineRequestFile } from './offline-request.ts';
import { FileNodeKey } from './software-key.ts';
import { TokenNodeKey } from './token-key.ts';

/** What changes the identity, one at a time: each goes on from what the one before has written. */
const IDENTITY = 'identity';

/** A node on a token that has no certificate asks as often as one whose certificate ends by then. */
const ASK_WITHIN_MS = 60_000;

export class NodeMembership {
  readonly #parts: MembershipParts;
  readonly #identities: IdentityStore;
  readonly #key: NodeKey;
  readonly #changes = new KeyedMutex<typeof IDENTITY>();
  readonly #rotation: CertificateRotation;
  #identity: NodeIdentity | undefined;
  #line: KeyServerLine | undefined;
  #memory: NodeMemory | undefined;
  #offline: OfflineLeases | undefined;
  /** What was logged last, so that it is not logged again at each try. */
  #complaint: string | undefined;

  constructor(parts: MembershipParts) {
    this.#parts = parts;
    this.#identities = new IdentityStore(parts.config.paths.identityDirectory);
    const { nodeKey } = parts.config;
    this.#key = nodeKey === undefined ? new FileNodeKey(this.#identities) : new TokenNodeKey(nodeKey);
    this.#rotation = new CertificateRotation({
      clock: parts.clock,
      random: Math.random,
      current: () => this.#certificateTimes(),
      rotate: () => this.#changes.run(IDENTITY, () => this.#rotate()),
      onFailure: (error) => {
        if (this.#line === undefined) this.#unavailable(toLatchkeyError(error));
        else
          this.#complain(toLatchkeyError(error), 'the node certificate could not be renewed; trying again');
      },
    });
  }

  /** Where the node key is, in words. */
  get keyPlace(): string {
    return this.#key.place;
  }

  /** Undefined while the node is not activated. With the times of the certificate that does TLS. */
  get identity(): NodeIdentity | undefined {
    return this.#identity;
  }

  /** Takes up the line of an earlier run. */
  async start(): Promise<void> {
    this.#identity = await this.#identities.load();
    if (this.#identity !== undefined) await this.#takeUp(this.#identity);
    this.#rotation.start();
  }

  /** A token or a key server that is away keeps no agent from starting, so that other containers can start. */
  async #takeUp(identity: NodeIdentity): Promise<void> {
    try {
      await this.#connect(identity);
    } catch (error) {
      if (this.#key instanceof FileNodeKey) throw error;
      this.#unavailable(toLatchkeyError(error));
    }
  }

  /**
   * Enrols this node under a license.
   * @param credential license key or join token
   * @throws LatchkeyError DENIED_*, INPUT_LICENSE_KEY_MALFORMED, NET_*, CONFIG_INVALID
   */
  activate(credential: string): Promise<Activated> {
    return this.#changes.run(IDENTITY, () => this.#activate(credential));
  }

  /**
   * What this node asks for in a file, because it has no line to the key server. It need not be activated.
   * @param images digests of manifests; none = all that the license covers
   */
  requestOffline(images: readonly string[]): Promise<OfflineRequestFile> {
    return this.#changes.run(IDENTITY, async () => {
      await this.#key.prepare();
      const place = await (await this.#carriedLeases()).place();
      const { config, clock } = this.#parts;
      const installation = await this.#installation();
      const wish = { nodeName: config.nodeName, installation, images, ...place, nowMs: clock.nowMs() };
      return offlineRequestFile(this.#key, wish);
    });
  }

  /**
   * Takes a file of offline bundles, of which one is for this node.
   * @throws LatchkeyError INPUT_MALFORMED, DENIED_LEASE_INVALID, DENIED_REPLAY, DENIED_LEASE_EXPIRED,
   *   DENIED_CLOCK_ROLLBACK, CONFIG_INVALID
   */
  importOffline(bytes: Uint8Array): Promise<OpenedBundle> {
    return this.#changes.run(IDENTITY, () => this.#importOffline(bytes));
  }

  async #importOffline(bytes: Uint8Array): Promise<OpenedBundle> {
    const file = parseOfflineBundleFile(bytes, 'the file');
    await this.#key.prepare();
    const before = this.#identity;
    const authorityPem = before?.authorityPem ?? (await readAuthorityFile(this.#parts.config.authorityFile));
    const offline = await this.#carriedLeases();
    const bundle = await offline.examine(file, { authorityPem, nodeId: before?.nodeId });
    const identity = identityWith(bundle, before, authorityPem);
    await this.#identities.save(identity);
    await offline.keep(bundle);
    this.#identity = identity;
    if (bundle.claims.certificate !== null || this.#line === undefined) await this.#takeUp(identity);
    this.#parts.onCarried(offline);
    return bundle;
  }

  /** What an earlier run has heard and was given; needs the node key. */
  async #carriedLeases(): Promise<OfflineLeases> {
    if (this.#offline !== undefined) return this.#offline;
    const { clock, config } = this.#parts;
    const offline = await OfflineLeases.open(
      {
        ...{ clock, key: this.#key, memory: await this.#remember() },
        directory: config.paths.identityDirectory,
        onFailed: this.#warn('an offline bundle could not be read or kept'),
      },
      this.#identity,
    );
    this.#offline = offline;
    return offline;
  }

  async #remember(): Promise<NodeMemory> {
    const { clock, config, machine } = this.#parts;
    this.#memory ??= await NodeMemory.open({
      directory: config.paths.identityDirectory,
      ...{ key: this.#key, clock, boot: machine.boot },
      onWriteFailed: this.#warn("the node's state could not be written"),
    });
    return this.#memory;
  }

  /** The offline bundles that this node has. */
  get bundles(): readonly UsedBundle[] {
    return this.#offline?.all() ?? [];
  }

  stop(): void {
    this.#rotation.stop();
    this.#offline?.stop();
    this.#line?.close();
  }

  async #activate(credential: string): Promise<Activated> {
    const { config, clock, log } = this.#parts;
    const authorityPem = await readAuthorityFile(config.authorityFile);
    const key = this.#key;
    await key.prepare();
    const { enrollmentAddress, nodeName } = config;
    const installation = await this.#installation();
    const request = { enrollmentAddress, authorityPem, credential, nodeName, installation, key };
    const { identity, response, isElsewhere } = await activate(request, this.#identity, clock);
    if (isElsewhere) await this.#leave();
    await this.#identities.save(identity);
    this.#identity = identity;
    await this.#connect(identity);
    log.info({ nodeId: identity.nodeId, licenseId: response.licenseId }, 'activated');
    return { identity: this.#identity, licenseId: response.licenseId, productCode: response.productCode };
  }

  /** The organization of before goes on counting by itself: by its revision the new one would be taken for rolled back. */
  async #leave(): Promise<void> {
    this.#line?.close();
    this.#line = undefined;
    this.#offline?.stop();
    this.#offline = undefined;
    const memory = await this.#remember();
    await memory.forgetServer();
  }

  #installation(): Promise<string> {
    const { config } = this.#parts;
    return installationId({
      ...config,
      ...{ directory: config.paths.identityDirectory, env: process.env },
      onClusterFailed: this.#warn('the cluster could not be asked who it is'),
    });
  }

  async #connect(identity: NodeIdentity): Promise<void> {
    const { clock, config, machine, onLine, onCarried } = this.#parts;
    const memory = await this.#remember();
    onCarried(await this.#carriedLeases());
    const { isNodeKey } = await this.#key.tlsKey();
    const certificate = isNodeKey ? identity : await authenticate(config, identity, this.#key);
    const credentials = await this.#credentials(identity, certificate);
    const line = new KeyServerLine(config.keyServerAddress, credentials, { clock, machine, memory });
    this.#line?.close();
    this.#line = line;
    this.#uses(identity, certificate);
    onLine(leaseAuthority(line, identity, this.#key, () => memory.clockRefusal()));
  }

  async #credentials(
    { authorityPem }: NodeIdentity,
    { certificatePem, certificateExpiresAtMs }: RotatingCertificate,
  ): Promise<LineCredentials> {
    const { privateKeyPem, isNodeKey } = await this.#key.tlsKey();
    return { authorityPem, certificatePem, certificateExpiresAtMs, privateKeyPem, isReplaceable: !isNodeKey };
  }

  /** The certificate that was got at activation stays the node's: it says which key is the node key. */
  #uses(identity: NodeIdentity, { certificateExpiresAtMs, certificateRenewAtMs }: CertificateTimes): void {
    this.#identity = { ...identity, certificateExpiresAtMs, certificateRenewAtMs };
    this.#complaint = undefined;
  }

  /** Without a line, or with a certificate that has ended, a node on a token asks for another one at any time. */
  #certificateTimes(): CertificateTimes | undefined {
    const nowMs = this.#parts.clock.nowMs();
    const isConnected = this.#line !== undefined && nowMs < (this.#identity?.certificateExpiresAtMs ?? 0);
    if (this.#identity === undefined || isConnected || this.#key instanceof FileNodeKey)
      return this.#identity;
    return { certificateRenewAtMs: 0, certificateExpiresAtMs: nowMs + ASK_WITHIN_MS };
  }

  async #rotate(): Promise<void> {
    const { clock, log } = this.#parts;
    const [line, before] = [this.#line, this.#identity];
    // An activation that it has waited for has brought a certificate already.
    const isDue = clock.nowMs() >= (this.#certificateTimes()?.certificateRenewAtMs ?? Infinity);
    if (before === undefined || !isDue) return;
    const { isNodeKey } = await this.#key.tlsKey();
    if (line === undefined || (!isNodeKey && clock.nowMs() >= before.certificateExpiresAtMs))
      await this.#connect(before);
    else if (isNodeKey) await this.#rotateNodeCertificate(line, before);
    else await this.#rotateTlsCertificate(line, before);
    log.info({ expiresAtMs: this.#identity?.certificateExpiresAtMs }, 'node certificate renewed');
  }

  /** The new certificate is kept only after it has worked; until then the one before is the node's. */
  async #rotateNodeCertificate(line: KeyServerLine, before: NodeIdentity): Promise<void> {
    const { nodeName } = this.#parts.config;
    const certificateRequestDer = await certificateRequest(this.#key, nodeName);
    const answer = await line.rotateCertificate({ certificateRequestDer });
    const identity: NodeIdentity = { ...before, ...certificateOf(answer) };
    await line.goOver(await this.#credentials(identity, identity));
    await this.#identities.save(identity);
    this.#uses(identity, identity);
  }

  async #rotateTlsCertificate(line: KeyServerLine, before: NodeIdentity): Promise<void> {
    const certificate = await authenticate(this.#parts.config, before, this.#key);
    await line.goOver(await this.#credentials(before, certificate));
    this.#uses(before, certificate);
  }

  #unavailable(reason: LatchkeyError): void {
    this.#complain(reason, 'no line to the key server; starts that need it are refused; trying again');
    this.#parts.onUnavailable(reason);
  }

  #warn(message: string): (error: unknown) => void {
    return (error) => {
      this.#parts.log.warn({ error: toLatchkeyError(error).line }, message);
    };
  }

  /** Once, however often the same thing fails. */
  #complain({ line }: LatchkeyError, message: string): void {
    if (line !== this.#complaint) this.#parts.log.warn({ error: line }, message);
    this.#complaint = line;
  }
}
