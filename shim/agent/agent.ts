/** The node agent put together: containerd on one side, the key server on the other, leases in between. */
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import { type ErrorCode, type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { LicenseChange } from '#src/wire/generated/latchkey/node.ts';
import { ContainerdConnection } from '../containerd/connection.ts';
import { SnapshotDirectories } from '../snapshotter/directories.ts';
import { type Journal, openJournal } from '../snapshotter/journal.ts';
import { LayerKeeper } from '../snapshotter/layer-keeper.ts';
import { type Snapshot, parseKey } from '../snapshotter/snapshot.ts';
import { Snapshotter } from '../snapshotter/snapshotter.ts';
import type { AgentConfig } from './agent-config.ts';
import { ContainerdGate } from './containerd-gate.ts';
import { ContainerGuard } from './container-guard.ts';
import { ContainerdSource } from './container-source.ts';
import { ExtractionLedger } from './extraction-ledger.ts';
import { KeyGrantor } from './key-grant.ts';
import { ImageGuard } from './image-guard.ts';
import { LayerIndex } from './layer-index.ts';
import { type HeldLease, LeaseKeeper, fromDenial } from './lease-keeper.ts';
import { LeaseRenewal } from './lease-renewal.ts';
import { subjectKey } from './lease.ts';
import { nodePlatform } from './node-platform.ts';
import type { NodeIdentity } from './node-identity.ts';
import { type Activated, NodeMembership } from './node-membership.ts';
import { PlaintextDropper } from './plaintext.ts';
import { RevocationWatch } from './revocation-watch.ts';

/** How often plaintext that nobody may use is looked for; revocations do not wait for it. */
const SWEEP_MS = 30_000;

/**
 * Refusals of a customer or a node. A lease that ran out or a clock that is wrong says nothing of the kind, and must
 * not end what is running.
 */
const STOPS_CONTAINERS: ReadonlySet<ErrorCode> = new Set([
  'DENIED_LICENSE_REVOKED',
  'DENIED_LICENSE_SUSPENDED',
  'DENIED_CUSTOMER_BLOCKED',
  'DENIED_NODE_BANNED',
  'DENIED_NODE_UNKNOWN',
]);

export interface AgentParts {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly overlayOptions: readonly string[];
  readonly copyTree: (from: string, to: string) => Promise<void>;
}

export class Agent {
  readonly containerd: ContainerdConnection;
  readonly snapshotter: Snapshotter;
  readonly keeper: LayerKeeper;
  readonly leases: LeaseKeeper;
  readonly grantor: KeyGrantor;
  readonly plaintext: PlaintextDropper;
  readonly watch: RevocationWatch;
  /** License id -> the denial that starts get under it; what is not here is in force, as far as is known. */
  readonly refusedLicenses = new Map<string, ErrorCode>();
  readonly #parts: AgentParts;
  readonly #journal: Journal;
  readonly #gate: ContainerdGate;
  readonly #membership: NodeMembership;
  readonly #renewal: LeaseRenewal;
  #sweepTimer: NodeJS.Timeout | undefined;

  constructor(parts: AgentParts) {
    const { config, clock, log, overlayOptions, copyTree } = parts;
    this.#parts = parts;
    this.containerd = new ContainerdConnection(config.containerdAddress);
    this.#membership = new NodeMembership({
      config,
      clock,
      log,
      onLine: (authority) => {
        this.leases.setAuthority(authority);
        this.watch.start(authority.keyServer);
        this.#renewal.start(authority.keyServer);
      },
    });
    this.leases = new LeaseKeeper(clock, {
      onEnded: (lease, reason) => void this.#leaseEnded(lease, reason),
    });
    const index = new LayerIndex(this.containerd);
    const ledger = new ExtractionLedger();
    const platform = nodePlatform(process.arch);
    const guard = new ImageGuard(this.leases, index, platform);
    const source = new ContainerdSource(this.containerd, index, platform);
    this.grantor = new KeyGrantor(ledger, index, this.leases, guard);
    this.#gate = new ContainerdGate({
      containerd: this.containerd,
      index,
      guard,
      containers: new ContainerGuard(source, guard, platform),
      ledger,
      onRefusedLate: () => void this.#sweep(),
      onKeepBlobFailed: (layer, error) => {
        log.warn(
          { layer: layer.digest, error: error.line },
          'the encrypted layer could not be kept from collection',
        );
      },
    });
    this.#journal = openJournal(config.paths.journalFile);
    const directories = new SnapshotDirectories({
      disk: config.paths.diskDirectory,
      memory: config.paths.memoryDirectory,
    });
    this.keeper = new LayerKeeper(directories, this.#gate, overlayOptions, clock);
    this.snapshotter = new Snapshotter({
      journal: this.#journal,
      directories,
      keeper: this.keeper,
      gate: this.#gate,
      clock,
      overlayOptions,
      copyTree,
    });
    this.plaintext = new PlaintextDropper({
      containerd: this.containerd,
      snapshotter: this.snapshotter,
      keeper: this.keeper,
      leases: this.leases,
      clock,
      idleDropAfterMs: config.idleDropAfterMs,
      stopGraceMs: config.stopGraceMs,
    });
    this.watch = new RevocationWatch(clock, {
      onChange: (change, revision) => void this.#licenseChanged(change, revision),
      onRefused: (reason) => {
        this.leases.endAll(reason);
      },
    });
    this.#renewal = new LeaseRenewal(this.leases, clock, (error) => {
      log.warn({ error: toLatchkeyError(error).line }, 'leases could not be renewed; trying again');
    });
  }

  /** Takes up what an earlier run left and, when the node is activated, the line to the key server. */
  async start(): Promise<void> {
    await this.snapshotter.cleanup();
    for (const snapshot of this.snapshotter.list()) this.#keepBlob(snapshot);
    await this.#membership.start();
    this.#sweepTimer = setInterval(() => void this.#sweep(), SWEEP_MS);
  }

  /**
   * Enrols this node under a license.
   * @param credential license key or join token
   * @throws LatchkeyError DENIED_*, INPUT_LICENSE_KEY_MALFORMED, NET_*, CONFIG_INVALID
   */
  activate(credential: string): Promise<Activated> {
    return this.#membership.activate(credential);
  }

  /** Undefined while the node is not activated. */
  get identity(): NodeIdentity | undefined {
    return this.#membership.identity;
  }

  /** Ends everything but what containerd holds mounted; plaintext stays in memory for a quick restart. */
  stop(): void {
    clearInterval(this.#sweepTimer);
    this.watch.stop();
    this.#renewal.stop();
    this.#membership.stop();
    this.containerd.close();
    this.#journal.close();
  }

  async #licenseChanged(change: LicenseChange, revision: number): Promise<void> {
    const { licenseId, epoch, state } = change;
    this.#parts.log.info({ licenseId, epoch, state }, 'license changed');
    if (change.denial === undefined) this.refusedLicenses.delete(licenseId);
    else this.refusedLicenses.set(licenseId, fromDenial(change.denial).code);
    await this.leases.applyChange(change, revision);
  }

  async #leaseEnded(lease: HeldLease, reason: LatchkeyError): Promise<void> {
    const { licenseId, imageDigest, onRevoke } = lease.claims;
    this.#parts.log.warn({ licenseId, imageDigest, reason: reason.line }, 'lease ended');
    try {
      if (STOPS_CONTAINERS.has(reason.code) && onRevoke !== 'deny-start')
        await this.plaintext.stopContainers(subjectKey(lease.subject), onRevoke);
      const { dropped, kept } = await this.plaintext.sweep();
      this.#parts.log.info({ dropped, kept }, 'plaintext dropped');
    } catch (error) {
      this.#parts.log.error(
        { error: toLatchkeyError(error).line },
        'plaintext could not be dropped; trying again',
      );
    }
  }

  async #sweep(): Promise<void> {
    try {
      await this.plaintext.sweep();
    } catch (error) {
      this.#parts.log.warn({ error: toLatchkeyError(error).line }, 'the plaintext store could not be swept');
    }
  }

  #keepBlob(snapshot: Snapshot): void {
    if (snapshot.kind !== 'committed' || snapshot.store !== 'memory' || snapshot.layer === null) return;
    const { namespace, name } = parseKey(snapshot.key);
    this.#gate.keepBlob(namespace, name, snapshot.layer);
  }
}
