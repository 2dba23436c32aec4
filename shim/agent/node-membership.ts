/** This node's place with the key server: who it is there, the line to it, and a certificate that is always good. */
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { activate, leaseAuthority } from './activation.ts';
import type { AgentConfig } from './agent-config.ts';
import { authenticate } from './authentication.ts';
import { certificateRequest } from './certificate-request.ts';
import {
  CertificateRotation,
  type CertificateTimes,
  type RotatingCertificate,
  certificateOf,
} from './certificate-rotation.ts';
import { installationId } from './installation-id.ts';
import { KeyServerLine, type LineCredentials } from './key-server-line.ts';
import type { LeaseAuthority } from './lease-keeper.ts';
import type { Machine } from './machine.ts';
import { NodeMemory } from './node-memory.ts';
import { IdentityStore, type NodeIdentity } from './node-identity.ts';
import type { NodeKey } from './node-key.ts';
import { FileNodeKey } from './software-key.ts';
import { TokenNodeKey } from './token-key.ts';

/** What changes the identity, one at a time: each goes on from what the one before has written. */
const IDENTITY = 'identity';

/** A node on a token that has no certificate asks as often as one whose certificate ends by then. */
const ASK_WITHIN_MS = 60_000;

export interface Activated {
  readonly identity: NodeIdentity;
  readonly licenseId: string;
  readonly productCode: string;
}

export interface MembershipParts {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly machine: Machine;
  /** There is a line to the key server from now on, instead of the one before. */
  readonly onLine: (authority: LeaseAuthority) => void;
  /** An activated node has no line; it goes on trying. */
  readonly onUnavailable: (reason: LatchkeyError) => void;
}

export class NodeMembership {
  readonly #parts: MembershipParts;
  readonly #identities: IdentityStore;
  readonly #key: NodeKey;
  readonly #changes = new KeyedMutex<typeof IDENTITY>();
  readonly #rotation: CertificateRotation;
  #identity: NodeIdentity | undefined;
  #line: KeyServerLine | undefined;
  #memory: NodeMemory | undefined;
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

  stop(): void {
    this.#rotation.stop();
    this.#line?.close();
  }

  async #activate(credential: string): Promise<Activated> {
    const { config, clock, log } = this.#parts;
    const authorityPem = await readFile(config.authorityFile, 'utf8').catch((error: unknown) => {
      throw new LatchkeyError('CONFIG_INVALID', `the authority file ${config.authorityFile} cannot be read`, {
        hint: 'copy authority.pem from the software vendor to this path',
        cause: error,
      });
    });
    const key = this.#key;
    await key.prepare();
    const { enrollmentAddress, nodeName } = config;
    const installation = await installationId({
      installation: config.installation,
      kubeconfig: config.kubeconfig,
      directory: config.paths.identityDirectory,
      env: process.env,
      onClusterFailed: (error) => {
        log.warn({ error: toLatchkeyError(error).line }, 'the cluster could not be asked who it is');
      },
    });
    const request = { enrollmentAddress, authorityPem, credential, nodeName, installation, key };
    const { identity, response } = await activate(request, this.#identity, clock);
    await this.#identities.save(identity);
    this.#identity = identity;
    await this.#connect(identity);
    log.info({ nodeId: identity.nodeId, licenseId: response.licenseId }, 'activated');
    return { identity: this.#identity, licenseId: response.licenseId, productCode: response.productCode };
  }

  async #connect(identity: NodeIdentity): Promise<void> {
    const { clock, config, machine, log, onLine } = this.#parts;
    this.#memory ??= await NodeMemory.open({
      directory: config.paths.identityDirectory,
      key: this.#key,
      clock,
      boot: machine.boot,
      onWriteFailed: (error) => {
        log.warn({ error: toLatchkeyError(error).line }, "the node's state could not be written");
      },
    });
    const memory = this.#memory;
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
    if (before === undefined) return;
    const { isNodeKey } = await this.#key.tlsKey();
    if (line === undefined || (!isNodeKey && clock.nowMs() >= before.certificateExpiresAtMs))
      await this.#connect(before);
    else if (isNodeKey) await this.#rotateNodeCertificate(line, before);
    else await this.#rotateTlsCertificate(line, before);
    log.info({ expiresAtMs: this.#identity?.certificateExpiresAtMs }, 'node certificate renewed');
  }

  /** The new certificate is kept only after it has worked; until then the one before is the node's. */
  async #rotateNodeCertificate(line: KeyServerLine, before: NodeIdentity): Promise<void> {
    const { clock, config } = this.#parts;
    const answer = await line.rotateCertificate({
      certificateRequestDer: await certificateRequest(this.#key, config.nodeName),
      nodeTimeMs: clock.nowMs(),
    });
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

  /** Once, however often the same thing fails. */
  #complain({ line }: LatchkeyError, message: string): void {
    if (line !== this.#complaint) this.#parts.log.warn({ error: line }, message);
    this.#complaint = line;
  }
}
