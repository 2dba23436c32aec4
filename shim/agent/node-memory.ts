/**
 * What a node must not forget over a restart: the newest that its key server has said (its time, its revision), and its
 * own place in the chain (src/licensing/node-chain.ts). In a file beside the identity, with a MAC under the node key.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { JoinedTask } from '#src/base/joined-task.ts';
import { MAX_REMEMBERED_LICENSES } from '#src/base/limits.ts';
import {
  type TimeReading,
  clockRollbackMs,
  nodeTimeMs,
  passMark,
  raiseFloor,
  raiseMark,
} from '#src/licensing/node-time.ts';
import type { KeyUse } from './node-key.ts';
import {
  type ChainPlace,
  EMPTY_STATE,
  type KnownLicense,
  type NodeState,
  type StoredState,
  UNKNOWN_LICENSE,
  readState,
  stateMacKey,
  writeState,
} from './node-state.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

const FILE = 'node-state.json';
/** Time alone is written this often; so much is lost of it when the machine dies. */
const WRITE_TIME_EVERY_MS = 600_000;

export class NodeMemory {
  readonly #directory: string;
  readonly #macKey: Buffer;
  readonly #clock: Clock;
  readonly #boot: string;
  readonly #onWriteFailed: (error: unknown) => void;
  /** Changes that come faster than the disk takes them share a write. */
  readonly #writes = new JoinedTask(() => this.#writeState());
  #state: NodeState;
  /** In the order in which they were first heard of. */
  readonly #licenses: Map<string, KnownLicense>;
  #timeWrittenMs = Number.NEGATIVE_INFINITY;

  private constructor(parts: MemoryParts, macKey: Buffer, { licenses = {}, ...state }: StoredState) {
    this.#directory = parts.directory;
    this.#clock = parts.clock;
    this.#boot = parts.boot;
    this.#onWriteFailed = parts.onWriteFailed;
    this.#macKey = macKey;
    this.#state = state;
    this.#licenses = new Map(Object.entries(licenses));
  }

  /**
   * Reads what an earlier run has left. A file that is missing or was changed counts as empty: the key server then finds a
   * node that has forgotten where it stood.
   * @throws what the key throws
   */
  static async open(parts: MemoryParts): Promise<NodeMemory> {
    const macKey = await stateMacKey(parts.key);
    const text = await readPrivateFile(parts.directory, FILE);
    return new NodeMemory(parts, macKey, readState(text, macKey) ?? EMPTY_STATE);
  }

  /** The highest revision of the key server that was heard. */
  get revision(): number {
    return this.#state.revision;
  }

  get place(): ChainPlace {
    return this.#state.place;
  }

  /** On the disk when this resolves. */
  async keepPlace(place: ChainPlace): Promise<void> {
    this.#state = { ...this.#state, place };
    await this.#write();
  }

  /** The key server has said its time and its revision. */
  heard(serverTimeMs: number, revision: number): void {
    const { time, revision: before } = this.#state;
    const raised = raiseMark(time, serverTimeMs, this.#reading());
    this.#state = { ...this.#state, time: raised, revision: Math.max(before, revision) };
    const isDue = this.#clock.monotonicMs() >= this.#timeWrittenMs + WRITE_TIME_EVERY_MS;
    if (revision > before || isDue) this.#write().catch(this.#onWriteFailed);
  }

  /** What the key server has said was carried here. On the disk with the next `keep`. */
  heardOffline(serverTimeMs: number, revision: number): void {
    const time = raiseFloor(this.#state.time, serverTimeMs, this.#reading());
    this.#state = { ...this.#state, time, revision: Math.max(this.#state.revision, revision) };
  }

  /** Not before what it was, whatever the wall clock says. */
  nowMs(): number {
    return nodeTimeMs(this.#state.time, this.#reading());
  }

  /** A start without a line, or time that has passed so. On the disk with the next `keep`. */
  passed(): void {
    const { time } = this.#state;
    if (time !== undefined) this.#state = { ...this.#state, time: passMark(time, this.#reading()) };
  }

  /** The number of the last offline bundle of a license, or of all. */
  lastSequence(licenseId?: string): number {
    if (licenseId !== undefined) return this.#license(licenseId).sequence;
    return Math.max(0, ...[...this.#licenses.values()].map(({ sequence }) => sequence));
  }

  /**
   * The node goes over to another organization's key server, where it stands at the beginning. Time stays, and what is known of
   * licenses: no other has their ids. On the disk when this resolves.
   */
  async forgetServer(): Promise<void> {
    const { time, memoryId } = this.#state;
    this.#state = {
      ...EMPTY_STATE,
      ...(time === undefined ? {} : { time }),
      ...(memoryId === undefined ? {} : { memoryId }),
    };
    await this.#write();
  }

  /** Undefined until it was claimed. */
  get memoryId(): string | undefined {
    return this.#state.memoryId;
  }

  /** Drawn for the first offline request, so that others can tell this memory from one that was begun anew. On the disk when this resolves. */
  async claimMemoryId(): Promise<string> {
    const memoryId = this.#state.memoryId ?? randomUUID();
    this.#state = { ...this.#state, memoryId };
    await this.#write();
    return memoryId;
  }

  /** A bundle was taken, and nothing started with it yet. On the disk when this resolves; when it rejects, all is as before. */
  async keepSequence(licenseId: string, sequence: number): Promise<void> {
    const before = this.#license(licenseId);
    const { epoch, deniedRevision } = before;
    this.#noteLicense(licenseId, { sequence, epoch, deniedRevision });
    try {
      await this.#write();
    } catch (error) {
      this.#noteLicense(licenseId, { ...this.#license(licenseId), ...countOf(before) });
      throw error;
    }
  }

  /** Containers that were started with the last offline bundle of a license. */
  startsOf(licenseId: string): number {
    return this.#license(licenseId).starts ?? 0;
  }

  /**
   * One more. On the disk when this resolves, and taken back when it rejects; where nothing depends on it, it is written with
   * the next `keep`.
   */
  async countStart(licenseId: string, isLimited: boolean): Promise<void> {
    this.#addStarts(licenseId, 1);
    if (!isLimited) return;
    const { sequence } = this.#license(licenseId);
    try {
      await this.#write();
    } catch (error) {
      if (this.#license(licenseId).sequence === sequence) this.#addStarts(licenseId, -1);
      throw error;
    }
  }

  #addStarts(licenseId: string, count: number): void {
    const { starts = 0, ...known } = this.#license(licenseId);
    this.#noteLicense(licenseId, { ...known, ...(starts + count > 0 ? { starts: starts + count } : {}) });
  }

  /** What the key server has said of a license; on the disk with the next `keep`. @returns whether it is news */
  noteLicense(
    licenseId: string,
    { epoch, deniedRevision }: Pick<KnownLicense, 'epoch' | 'deniedRevision'>,
  ): boolean {
    const known = this.#license(licenseId);
    const next = {
      ...known,
      epoch: Math.max(known.epoch, epoch),
      deniedRevision: Math.max(known.deniedRevision, deniedRevision),
    };
    if (next.epoch === known.epoch && next.deniedRevision === known.deniedRevision) return false;
    this.#noteLicense(licenseId, next);
    return true;
  }

  /** True when the key server has said something since an offline bundle was made that ends it. */
  isVoid(bundle: { readonly licenseId: string; readonly epoch: number; readonly revision: number }): boolean {
    const { epoch, deniedRevision } = this.#license(bundle.licenseId);
    return bundle.epoch < epoch || bundle.revision <= deniedRevision;
  }

  /** On the disk when this resolves. */
  keep(): Promise<void> {
    return this.#write();
  }

  #license(licenseId: string): KnownLicense {
    const { forgottenRevision = 0 } = this.#state;
    return this.#licenses.get(licenseId) ?? { ...UNKNOWN_LICENSE, deniedRevision: forgottenRevision };
  }

  /** A node has a few licenses; of a key server that names them without end, those without a bundle are forgotten. */
  #noteLicense(licenseId: string, known: KnownLicense): void {
    this.#licenses.set(licenseId, known);
    if (this.#licenses.size <= MAX_REMEMBERED_LICENSES) return;
    for (const [id, { sequence, deniedRevision }] of this.#licenses) {
      if (id === licenseId || sequence !== 0) continue;
      this.#licenses.delete(id);
      // Whichever license it was, a bundle of before that refusal stays void.
      const forgottenRevision = Math.max(this.#state.forgottenRevision ?? 0, deniedRevision);
      this.#state = { ...this.#state, forgottenRevision };
      return;
    }
  }

  /** Why no container may start now, whatever its lease: the wall clock was turned back. */
  clockRefusal(): LatchkeyError | undefined {
    const behindMs = clockRollbackMs(this.#state.time, this.#reading());
    if (behindMs === 0) return undefined;
    const minutes = Math.round(behindMs / 60_000);
    return new LatchkeyError(
      'DENIED_CLOCK_ROLLBACK',
      `the clock of this node was turned back: it is ${minutes} minutes behind what it was`,
      { hint: 'set the clock, use NTP' },
    );
  }

  #reading(): TimeReading {
    return { wallMs: this.#clock.nowMs(), bootId: this.#boot, bootTimeMs: this.#clock.monotonicMs() };
  }

  async #write(): Promise<void> {
    this.#timeWrittenMs = this.#clock.monotonicMs();
    await this.#writes.run();
  }

  async #writeState(): Promise<void> {
    const licenses = this.#licenses.size === 0 ? {} : { licenses: Object.fromEntries(this.#licenses) };
    const text = writeState({ ...this.#state, ...licenses }, this.#macKey);
    await writePrivateFile(this.#directory, FILE, text);
  }
}

/** Which bundle, and how often it was used. */
function countOf({ sequence, starts }: KnownLicense): Pick<KnownLicense, 'sequence' | 'starts'> {
  return starts === undefined ? { sequence } : { sequence, starts };
}

export interface MemoryParts {
  readonly directory: string;
  readonly key: Pick<KeyUse, 'publicKey' | 'agree'>;
  readonly clock: Clock;
  /** Fingerprint of this boot. */
  readonly boot: string;
  readonly onWriteFailed: (error: unknown) => void;
}
