/**
 * What a node must not forget over a restart: the newest that its key server has said (its time, its revision), and its
 * own place in the chain (src/licensing/node-chain.ts). In a file beside the identity, with a MAC under the node key.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import * as z from 'zod';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
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
import { readPrivateFile, writePrivateFile } from './private-file.ts';

const FILE = 'node-state.json';
/** Time alone is written this often; so much is lost of it when the machine dies. */
const WRITE_TIME_EVERY_MS = 600_000;
const MAC_KEY_BYTES = 32;

const licenseSchema = z.strictObject({
  /** The number of the last bundle; 0 = none yet. */
  sequence: z.int().nonnegative(),
  /** Containers that were started with that bundle. */
  starts: z.int().nonnegative().default(0),
  /** Bundles of an older epoch are void. */
  epoch: z.int().nonnegative(),
  /** Bundles made up to this revision are void; 0 = starts were never refused. */
  deniedRevision: z.int().nonnegative(),
});

const stateSchema = z.strictObject({
  revision: z.int().nonnegative(),
  time: z
    .strictObject({
      serverTimeMs: z.number(),
      bootId: z.string(),
      bootTimeMs: z.number(),
      wallMs: z.number().optional(),
    })
    .optional(),
  /** By license: the last offline bundle, and what the key server has said of the license. */
  licenses: z.record(z.string(), licenseSchema).optional(),
  /** The highest refusal of a license that was forgotten, as there were too many. */
  forgottenRevision: z.int().nonnegative().optional(),
  place: z.strictObject({
    sequence: z.int().nonnegative(),
    token: z.string(),
    /** Of an opening that was not answered yet. */
    pendingRequestId: z.string().optional(),
  }),
});
type StoredState = z.infer<typeof stateSchema>;
type NodeState = Omit<StoredState, 'licenses'>;
export type ChainPlace = NodeState['place'];
type KnownLicense = z.infer<typeof licenseSchema>;

const UNKNOWN_LICENSE: KnownLicense = { sequence: 0, starts: 0, epoch: 0, deniedRevision: 0 };

const fileSchema = z.strictObject({ state: z.string(), mac: z.string() });

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
    const macKey = await macKeyOf(parts.key);
    const text = await readPrivateFile(parts.directory, FILE);
    return new NodeMemory(parts, macKey, readState(text, macKey) ?? EMPTY);
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
    const { time } = this.#state;
    this.#state = { ...EMPTY, ...(time === undefined ? {} : { time }) };
    await this.#write();
  }

  /** On the disk when this resolves. */
  async keepSequence(licenseId: string, sequence: number): Promise<void> {
    this.#noteLicense(licenseId, { ...this.#license(licenseId), sequence, starts: 0 });
    await this.#write();
  }

  /** Containers that were started with the last offline bundle of a license. */
  startsOf(licenseId: string): number {
    return this.#license(licenseId).starts;
  }

  /** One more; on the disk with the next `keep`. */
  countStart(licenseId: string): void {
    const known = this.#license(licenseId);
    this.#noteLicense(licenseId, { ...known, starts: known.starts + 1 });
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
    const state = JSON.stringify({ ...this.#state, ...licenses });
    const mac = macOf(this.#macKey, state);
    await writePrivateFile(this.#directory, FILE, JSON.stringify({ state, mac: mac.toString('base64') }));
  }
}

export interface MemoryParts {
  readonly directory: string;
  readonly key: Pick<KeyUse, 'publicKey' | 'agree'>;
  readonly clock: Clock;
  /** Fingerprint of this boot. */
  readonly boot: string;
  readonly onWriteFailed: (error: unknown) => void;
}

const EMPTY: Omit<StoredState, 'licenses'> = { revision: 0, place: { sequence: 0, token: '' } };

/** Agreed between the node key and itself, which every key can do that can also open image keys. */
async function macKeyOf(key: MemoryParts['key']): Promise<Buffer> {
  const secret = await key.agree(await key.publicKey());
  return Buffer.from(hkdfSync('sha256', secret, '', 'latchkey node state', MAC_KEY_BYTES));
}

function macOf(key: Buffer, state: string): Buffer {
  return createHmac('sha256', key).update(state).digest();
}

function readState(text: string | undefined, macKey: Buffer): StoredState | undefined {
  if (text === undefined) return undefined;
  try {
    const { state, mac } = fileSchema.parse(parseJson(text, FILE));
    const [given, expected] = [Buffer.from(mac, 'base64'), macOf(macKey, state)];
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    return stateSchema.parse(parseJson(state, FILE));
  } catch {
    return undefined;
  }
}
