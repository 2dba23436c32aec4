/** This node's place with the key server: who it is there, the line to it, and a certificate that is always good. */
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { activate, certificateRequest, leaseAuthority } from './activation.ts';
import type { AgentConfig } from './agent-config.ts';
import { CertificateRotation, certificateOf } from './certificate-rotation.ts';
import { installationId } from './installation-id.ts';
import { KeyServerLine } from './key-server-line.ts';
import type { LeaseAuthority } from './lease-keeper.ts';
import type { Machine } from './machine.ts';
import { NodeMemory } from './node-memory.ts';
import { IdentityStore, type NodeIdentity } from './node-identity.ts';

/** What changes the identity, one at a time: each goes on from what the one before has written. */
const IDENTITY = 'identity';

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
}

export class NodeMembership {
  readonly #parts: MembershipParts;
  readonly #identities: IdentityStore;
  readonly #changes = new KeyedMutex<typeof IDENTITY>();
  readonly #rotation: CertificateRotation;
  #identity: NodeIdentity | undefined;
  #line: KeyServerLine | undefined;
  #memory: NodeMemory | undefined;

  constructor(parts: MembershipParts) {
    this.#parts = parts;
    this.#identities = new IdentityStore(parts.config.paths.identityDirectory);
    this.#rotation = new CertificateRotation({
      clock: parts.clock,
      random: Math.random,
      current: () => this.#identity,
      rotate: () => this.#changes.run(IDENTITY, () => this.#rotate()),
      onFailure: (error) => {
        parts.log.warn(
          { error: toLatchkeyError(error).line },
          'the node certificate could not be renewed; trying again',
        );
      },
    });
  }

  /** Undefined while the node is not activated. */
  get identity(): NodeIdentity | undefined {
    return this.#identity;
  }

  /** Takes up the line of an earlier run. */
  async start(): Promise<void> {
    this.#identity = await this.#identities.load();
    if (this.#identity !== undefined) await this.#connect(this.#identity);
    this.#rotation.start();
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
    const privateKeyPem = await this.#identities.privateKeyPem();
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
    const request = { enrollmentAddress, authorityPem, credential, nodeName, installation, privateKeyPem };
    const { identity, response } = await activate(request, this.#identity, clock);
    await this.#identities.save(identity);
    this.#identity = identity;
    await this.#connect(identity);
    log.info({ nodeId: identity.nodeId, licenseId: response.licenseId }, 'activated');
    return { identity, licenseId: response.licenseId, productCode: response.productCode };
  }

  async #connect(identity: NodeIdentity): Promise<void> {
    const privateKeyPem = await this.#identities.privateKeyPem();
    const { clock, config, machine, log, onLine } = this.#parts;
    this.#memory ??= await NodeMemory.open({
      directory: config.paths.identityDirectory,
      privateKeyPem,
      clock,
      boot: machine.boot,
      onWriteFailed: (error) => {
        log.warn({ error: toLatchkeyError(error).line }, "the node's state could not be written");
      },
    });
    const memory = this.#memory;
    const credentials = { ...identity, privateKeyPem };
    const line = new KeyServerLine(config.keyServerAddress, credentials, { clock, machine, memory });
    this.#line?.close();
    this.#line = line;
    onLine(leaseAuthority(line, identity, privateKeyPem, () => memory.clockRefusal()));
  }

  /** The new certificate is kept only after it has worked; until then the one before is the node's. */
  async #rotate(): Promise<void> {
    const { clock, config, log } = this.#parts;
    const [line, before] = [this.#line, this.#identity];
    if (line === undefined || before === undefined) return;
    const privateKeyPem = await this.#identities.privateKeyPem();
    const answer = await line.rotateCertificate({
      certificateRequestDer: await certificateRequest(privateKeyPem, config.nodeName),
      nodeTimeMs: clock.nowMs(),
    });
    const identity: NodeIdentity = { ...before, ...certificateOf(answer) };
    await line.goOver({ ...identity, privateKeyPem });
    await this.#identities.save(identity);
    this.#identity = identity;
    log.info({ expiresAtMs: identity.certificateExpiresAtMs }, 'node certificate renewed');
  }
}
