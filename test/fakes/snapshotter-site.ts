/** A real snapshotter over real directories, with a gate that the test decides for. */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import { SnapshotDirectories } from '../../shim/snapshotter/directories.ts';
import { type Journal, openJournal } from '../../shim/snapshotter/journal.ts';
import { LayerKeeper } from '../../shim/snapshotter/layer-keeper.ts';
import { Snapshotter } from '../../shim/snapshotter/snapshotter.ts';
import { StoreRoom } from '../../shim/snapshotter/store-room.ts';
import { type ManualClock, manualClock } from './manual-clock.ts';
import { type FakeLayer, NAMESPACE, ScriptedGate, unpackInto } from './scripted-gate.ts';

export class SnapshotterSite {
  readonly roots: { readonly disk: string; readonly memory: string };
  readonly clock: ManualClock = manualClock();
  readonly #directory: string;
  gate!: ScriptedGate;
  journal!: Journal;
  directories!: SnapshotDirectories;
  keeper!: LayerKeeper;
  snapshotter!: Snapshotter;
  #numbers = 0;

  private constructor(directory: string) {
    this.#directory = directory;
    this.roots = { disk: join(directory, 'disk'), memory: join(directory, 'memory') };
  }

  static async open(directory: string): Promise<SnapshotterSite> {
    const site = new SnapshotterSite(directory);
    await mkdir(site.roots.disk);
    await mkdir(site.roots.memory);
    site.#start([]);
    return site;
  }

  /** The agent ends and starts again: the journal and the files stay, the rest is forgotten. */
  restart(): void {
    const { layers } = this.gate;
    this.journal.close();
    this.#start(layers);
  }

  /** containerd's backend key; the number is never used twice. */
  key(name: string): string {
    this.#numbers += 1;
    return `${NAMESPACE}/${this.#numbers}/${name}`;
  }

  /** Opens an extraction as the 1.6 `ctr` does: the chain ID is in the key only. */
  async prepareLayer(layer: FakeLayer, parent = ''): Promise<{ key: string; mounts: Mount[] }> {
    if (!this.gate.layers.includes(layer)) this.gate.layers.push(layer);
    const key = this.key(`extract-123456-abcd ${layer.chainId}`);
    return { key, mounts: await this.snapshotter.prepare({ key, parent, labels: {} }) };
  }

  /** Unpacks a layer as containerd does. @returns the name it was committed under */
  async unpack(layer: FakeLayer, parent = ''): Promise<string> {
    const { key, mounts } = await this.prepareLayer(layer, parent);
    if (layer.identity.layer.encrypted && !layer.identity.plainTwin) this.gate.decrypt();
    await unpackInto(mounts, layer.identity.layer.diffId);
    const name = this.key(layer.chainId);
    await this.snapshotter.commit(name, key, {});
    return name;
  }

  /** Every layer that can be made again is dropped. */
  async dropAll(): Promise<void> {
    for (const snapshot of this.snapshotter.list()) await this.keeper.drop(snapshot);
  }

  close(): void {
    this.journal.close();
  }

  #start(layers: readonly FakeLayer[]): void {
    const overlayOptions = ['index=off'];
    this.gate = new ScriptedGate();
    this.gate.layers.push(...layers);
    this.journal = openJournal(join(this.#directory, 'snapshots.db'));
    this.directories = new SnapshotDirectories(this.roots);
    const room = new StoreRoom({ directory: this.roots.memory, capacitySetting: 'plaintext_capacity' });
    this.keeper = new LayerKeeper(this.directories, room, this.gate, overlayOptions, this.clock);
    this.snapshotter = new Snapshotter({
      journal: this.journal,
      directories: this.directories,
      keeper: this.keeper,
      room,
      gate: this.gate,
      clock: this.clock,
      overlayOptions,
      copyTree: async (from, to) => {
        await promisify(execFile)('cp', ['--archive', from, to]);
      },
    });
  }
}
