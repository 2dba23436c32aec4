/** The node agent put together: containerd on one side, the key server on the other, leases in between. */
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import { type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { LicenseChange } from '#src/wire/generated/latchkey/node.ts';
import { ContainerdConnection } from '../containerd/connection.ts';
import { SnapshotDirectories } from '../snapshotter/directories.ts';
import { type Journal, openJournal } from '../snapshotter/journal.ts';
import { LayerKeeper } from '../snapshotter/layer-keeper.ts';
import { readMounts } from '../snapshotter/mount-table.ts';
import { mountedSnapshots } from '../snapshotter/mounted-snapshots.ts';
import type { PlaintextStore } from '../snapshotter/plaintext-store.ts';
import { type Snapshot, parseKey } from '../snapshotter/snapshot.ts';
import { Snapshotter } from '../snapshotter/snapshotter.ts';
import { StoreRoom } from '../snapshotter/store-room.ts';
import type { AgentConfig } from './agent-config.ts';
import { ContainerdGate } from './containerd-gate.ts';
import { ContainerGuard } from './container-guard.ts';
import { ContainerdSource } from './container-source.ts';
import { Enforcement } from './enforcement.ts';
import { enforcementLog, reportLog } from './enforcement-log.ts';
import { ExtractionLedger } from './extraction-ledger.ts';
import { KeyGrantor } from './key-grant.ts';
import { ImageGuard } from './image-guard.ts';
import { LayerIndex } from './layer-index.ts';
import { fromDenial } from './lease-denial.ts';
import type { HeldLease } from './held-lease.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { LeaseRenewal } from './lease-renewal.ts';
import { ANY_IMAGE } from './lease.ts';
import { LicensedImages } from './licensed-images.ts';
import type { Machine } from './machine.ts';
import type { NodeMode } from './node-mode.ts';
import { AgentMetrics } from './metrics.ts';
import { nodePlatform } from './node-platform.ts';
import type { NodeIdentity } from './node-identity.ts';
import { NodeMembership } from './node-membership.ts';
import type { OfflineLeases } from './offline-leases.ts';
import { OverlaySweeper } from './overlay-sweeper.ts';
import { PlaintextReporter } from './plaintext-reporter.ts';
import { PlaintextDropper } from './plaintext.ts';
import { NO_PLAINTEXT, type PlaintextHolder } from './plaintext-holder.ts';
import { RefusedLicenses, isRefusal } from './refused-licenses.ts';
import { RevocationAcknowledger } from './revocation-acknowledger.ts';
import { RevocationWatch } from './revocation-watch.ts';
import { SharedLayers } from './shared-layers.ts';
import { Standings } from './standing.ts';
import { SweepGrantor } from './sweep-grant.ts';
import { triggerSweeps } from './sweep-trigger.ts';

export interface AgentParts {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly machine: Machine;
  readonly overlayOptions: readonly string[];
  readonly copyTree: (from: string, to: string) => Promise<void>;
  readonly store: PlaintextStore;
  /** See `PlaintextStore.open`. */
  readonly writableDirectory?: string | undefined;
  readonly onExtraction?: () => void;
}

export class Agent {
  readonly containerd: ContainerdConnection;
  readonly snapshotter: Snapshotter;
  readonly keeper: LayerKeeper;
  readonly leases: LeaseKeeper;
  readonly grantor: Pick<KeyGrantor, 'grant'>;
  readonly plaintext: PlaintextHolder;
  readonly watch: RevocationWatch;
  readonly refused: RefusedLicenses;
  readonly images: LicensedImages;
  readonly standings: Standings;
  readonly metrics = new AgentMetrics();
  readonly #parts: AgentParts;
  readonly #journal: Journal;
  readonly #gate: ContainerdGate;
  readonly #enforcement: Enforcement;
  readonly #membership: NodeMembership;
  readonly #renewal: LeaseRenewal;
  #stopSweeping: (() => void) | undefined;
  readonly #reporter: PlaintextReporter;
  readonly #acknowledger: RevocationAcknowledger;
  #carried: OfflineLeases | undefined;

  constructor(parts: AgentParts) {
    const { config, clock, log, machine, overlayOptions, copyTree, store, writableDirectory } = parts;
    this.#parts = parts;
    this.containerd = new ContainerdConnection(config.containerdAddress);
    this.#membership = new NodeMembership({
      config,
      clock,
      log,
      machine,
      onUnavailable: (reason) => {
        this.leases.setUnavailable(reason);
        this.watch.failed(reason);
      },
      onLine: (authority) => {
        this.leases.setAuthority(authority);
        this.watch.start(authority.keyServer);
        this.#renewal.start(authority.keyServer);
        this.#reporter.start(authority.keyServer);
        this.#acknowledger.start(authority.keyServer);
      },
      onCarried: (carried) => {
        this.#carried = carried;
        this.leases.setCarried(carried);
      },
    });
    this.refused = new RefusedLicenses(clock);
    const images = (this.images = new LicensedImages(config.paths.licensedImagesFile));
    this.leases = new LeaseKeeper(
      clock,
      {
        onEnded: (lease, reason) => {
          this.#leaseEnded(lease, reason);
        },
        onGranted: (lease) => {
          if (lease.subject.imageDigest !== ANY_IMAGE) images.record(lease.claims);
          this.#enforcement.granted(lease.subject);
        },
        onDenied: (denial) => {
          if (denial.licenseId !== undefined && isRefusal(denial)) this.#refuse(denial.licenseId, denial, 0);
        },
      },
      () => !this.watch.state.connected,
    );
    const index = new LayerIndex(this.containerd);
    const ledger = new ExtractionLedger();
    const room = new StoreRoom(store);
    const platform = nodePlatform(process.arch);
    const guard = new ImageGuard(this.leases, index, platform);
    const source = new ContainerdSource(this.containerd, index, platform);
    this.grantor =
      config.mode === 'sweep'
        ? new SweepGrantor(index, guard)
        : new KeyGrantor(ledger, index, this.leases, guard, room);
    this.#gate = new ContainerdGate({
      containerd: this.containerd,
      index,
      guard,
      containers: new ContainerGuard(source, guard, platform),
      ledger,
      onExtraction: parts.onExtraction ?? (() => undefined),
      onRestored: () => {
        this.metrics.rederived();
      },
      capacitySetting: store.capacitySetting,
      onRefusedLate: () => {
        this.#enforcement.trigger();
      },
      onKeepBlobFailed: (layer, error) => {
        log.warn(
          { layer: layer.digest, error: error.line },
          'the encrypted layer could not be kept from collection',
        );
      },
    });
    const journal = (this.#journal = openJournal(config.paths.journalFile));
    const directories = new SnapshotDirectories(
      { disk: config.paths.diskDirectory, memory: store.directory },
      { packer: store.packer, writableDirectory },
    );
    this.keeper = new LayerKeeper(directories, room, this.#gate, overlayOptions, clock);
    this.snapshotter = new Snapshotter({
      ...{ journal, directories, keeper: this.keeper, room },
      ...{ gate: this.#gate, clock, overlayOptions, copyTree },
    });
    const { containerd, snapshotter, keeper, leases, refused } = this;
    const standings = (this.standings = new Standings({ leases, images, refused }));
    const { idleDropAfterMs, stopGraceMs } = config;
    const holders: Readonly<Record<NodeMode, () => PlaintextHolder>> = {
      snapshotter: () =>
        new PlaintextDropper({
          ...{ containerd, snapshotter, keeper, standings, clock, idleDropAfterMs },
          mountedSnapshots: async () => mountedSnapshots(await readMounts(), store.directory),
        }),
      'runtime-class': () => holders.snapshotter(),
      sweep: () => new OverlaySweeper({ containerd, index, standings, clock }),
      hook: () => NO_PLAINTEXT,
    };
    this.plaintext = holders[config.mode]();
    const hasLease = (): boolean => leases.all().some((lease) => leases.isGood(lease));
    const shared = new SharedLayers({ journal, index, standings, guard, hasLease });
    this.#reporter = new PlaintextReporter(clock, reportLog(log));
    this.#enforcement = new Enforcement({
      ...{ containerd, leases, images, refused, standings, clock, stopGraceMs },
      plaintext: this.plaintext,
      passOnLayers: () => shared.passOn(),
      reporter: this.#reporter,
      licenses: () => this.identity?.licenses ?? [],
      events: enforcementLog(log, clock, this.metrics),
    });
    this.#acknowledger = new RevocationAcknowledger((error) => {
      log.warn({ error: error.line }, 'the key server did not take an acknowledgement');
    });
    this.watch = new RevocationWatch(clock, {
      // Keys are wiped and starts refused by the time that this returns; the rest takes its time.
      onChange: (change, revision) => void this.#licenseChanged(change, revision),
      onCaughtUp: (revision) => {
        void this.leases.replaceCarried().catch(() => undefined);
        // An agent that is killed now must not start from a bundle that it has said to be void.
        void this.#carried?.settled().then(() => {
          this.#acknowledger.applied(revision);
        });
      },
      onRefused: (reason) => {
        this.refused.refuseNode(reason);
        this.#carried?.nodeRefused();
        this.leases.endAll(reason);
        this.#enforcement.trigger();
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
    const trigger = (): void => {
      this.#enforcement.trigger();
    };
    if (this.#parts.config.mode === 'sweep') this.#stopSweeping = triggerSweeps(this.containerd, trigger);
    trigger();
  }

  /**
   * Enrols this node under a license.
   * @param credential license key or join token
   * @throws LatchkeyError DENIED_*, INPUT_LICENSE_KEY_MALFORMED, NET_*, CONFIG_INVALID
   */
  activate(credential: string): ReturnType<NodeMembership['activate']> {
    return this.#membership.activate(credential);
  }

  /** What is carried between this node and the key server where there is no line. */
  get offline(): Pick<NodeMembership, 'bundles' | 'importOffline' | 'requestOffline'> {
    return this.#membership;
  }

  /** Where the node key is, in words. */
  get nodeKeyPlace(): string {
    return this.#membership.keyPlace;
  }

  /** Undefined while the node is not activated. */
  get identity(): NodeIdentity | undefined {
    return this.#membership.identity;
  }

  /** Ends everything but what containerd holds mounted; plaintext stays in memory for a quick restart. */
  stop(): void {
    this.#enforcement.stop();
    this.#stopSweeping?.();
    this.watch.stop();
    this.#renewal.stop();
    this.#reporter.stop();
    this.#acknowledger.stop();
    this.#membership.stop();
    this.#gate.stop();
    this.containerd.close();
    this.#journal.close();
  }

  async #licenseChanged(change: LicenseChange, revision: number): Promise<void> {
    const { licenseId, epoch, state } = change;
    this.#carried?.licenseChanged(change, revision);
    this.#parts.log.info({ licenseId, epoch, state }, 'license changed');
    if (change.denial === undefined) this.refused.allow(licenseId);
    else this.#refuse(licenseId, fromDenial(change.denial), epoch);
    await this.leases.applyChange(change, revision);
    this.#enforcement.trigger();
  }

  #refuse(licenseId: string, denial: LatchkeyError, epoch: number): void {
    const news = this.refused.refuse(licenseId, denial, epoch);
    if (news === undefined) return;
    this.#parts.log.warn({ licenseId, code: denial.code, reason: denial.line }, 'starts refused');
    this.metrics.licenseRefused(denial.code);
    this.#enforcement.trigger();
  }

  #leaseEnded(lease: HeldLease, reason: LatchkeyError): void {
    const { licenseId, imageDigest } = lease.claims;
    this.#parts.log.warn({ licenseId, imageDigest, reason: reason.line }, 'lease ended');
    this.#enforcement.trigger();
  }

  #keepBlob(snapshot: Snapshot): void {
    if (snapshot.kind !== 'committed' || snapshot.store !== 'memory' || snapshot.layer === null) return;
    const { namespace, name } = parseKey(snapshot.key);
    this.#gate.keepBlob(namespace, name, snapshot.layer);
  }
}
