/**
 * Puts the audit log under signed checkpoints, once a second at most. Works beside the releases: an event is durable in
 * the hash chain before its answer, and under a checkpoint within a second after.
 */
import { type KeyObject, createPublicKey } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type AuditCheckpoint,
  auditLogName,
  openCheckpoint,
  signCheckpoint,
} from '#src/crypto/audit-checkpoint.ts';
import { parseVerifierKey, verifierKeyText } from '#src/crypto/signed-note.ts';
import { type FullTile, TILE_WIDTH, TileTree, leafHash } from '#src/crypto/tile-tree.ts';
import { AUDIT_CHECKPOINT_INTERVAL_MS } from '../limits.ts';
import type { Store } from '../db/store.ts';
import type { CheckpointDirectory } from './checkpoint-directory.ts';
import { tiledSize, treeAt, treeEntries } from './stored-tree.ts';

export interface AuditPublisherOptions {
  readonly store: Store;
  readonly organizationId: string;
  readonly key: KeyObject;
  readonly directory: CheckpointDirectory | null;
  readonly clock: Clock;
  readonly onFailure: (error: unknown) => void;
}

export interface PublishedCheckpoint extends AuditCheckpoint {
  readonly note: string;
  readonly signedAtMs: number;
}

export class AuditPublisher {
  /** What checkpoints are verified with, as text. */
  readonly verifierKey: string;
  readonly #options: AuditPublisherOptions;
  readonly #name: string;
  #tree = new TileTree();
  /** Full tiles that are not in the database yet. */
  #unkept: FullTile[] = [];
  #published: PublishedCheckpoint | null = null;
  #publishing: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: AuditPublisherOptions) {
    this.#options = options;
    this.#name = auditLogName(options.organizationId);
    this.verifierKey = verifierKeyText(this.#name, createPublicKey(options.key));
  }

  /**
   * Compares the database with the checkpoint that was kept last.
   * @throws LatchkeyError STATE_DAMAGED when the database is older than that or another one
   */
  async refuseRollback(): Promise<void> {
    const note = await this.#options.directory?.latest();
    if (note === undefined || note === null) return;
    const kept = openCheckpoint(
      note,
      parseVerifierKey(this.verifierKey),
      'the checkpoint that was kept last',
    );
    const tree = await treeAt(this.#options.store.read, kept.size);
    if (tree !== null && Buffer.compare(tree.root(), kept.root) === 0) return;
    const what = tree === null ? 'lacks events that it had' : 'is not the log that it was';
    throw new LatchkeyError(
      'STATE_DAMAGED',
      `the audit log ${what} at its checkpoint of ${kept.size} events`,
      {
        hint: 'an older database in place of the newer one? if that was on purpose, start once with --after-restore',
      },
    );
  }

  /** Publishes a first checkpoint and goes on until it is stopped. */
  async start(): Promise<void> {
    const { read } = this.#options.store;
    this.#tree = (await treeAt(read, await tiledSize(read))) ?? new TileTree();
    await this.publish();
    this.#timer = setInterval(() => {
      this.publish().catch(this.#options.onFailure);
    }, AUDIT_CHECKPOINT_INTERVAL_MS);
    this.#timer.unref();
  }

  /** A last checkpoint, over everything. */
  async stop(): Promise<void> {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    await this.publish().catch(this.#options.onFailure);
  }

  /** The newest checkpoint; null before the start. */
  get published(): PublishedCheckpoint | null {
    return this.#published;
  }

  /** Takes in what is committed, and signs it; one after the other. */
  publish(): Promise<void> {
    const next = this.#publishing.then(() => this.#publish());
    this.#publishing = next.catch(() => undefined);
    return next;
  }

  async #publish(): Promise<void> {
    const { store, key, clock, directory } = this.#options;
    for (;;) {
      const size = this.#tree.size;
      const entries = await treeEntries(store.read, size, TILE_WIDTH - (size % TILE_WIDTH));
      if (entries.length === 0) break;
      for (const entry of entries) this.#unkept.push(...this.#tree.add(leafHash(entry)));
      await this.#keepTiles();
    }
    await this.#keepTiles();
    const { size } = this.#tree;
    if (size === 0 || this.#published?.size === size) return;
    const root = this.#tree.root();
    const note = signCheckpoint(this.#name, { size, root }, key);
    const signedAtMs = clock.nowMs();
    await directory?.keep(note, signedAtMs);
    this.#published = { size, root, note, signedAtMs };
  }

  /** Another process may have kept them already; the events under them are the same. */
  async #keepTiles(): Promise<void> {
    if (this.#unkept.length === 0) return;
    const rows = this.#unkept.map(({ level, index, root }) => ({ level, tile_index: index, root }));
    await this.#options.store.write(
      (writer) =>
        writer
          .insertInto('audit_tile')
          .values(rows)
          .onConflict((conflict) => conflict.doNothing())
          .execute(),
      'URGENT',
    );
    this.#unkept = [];
  }
}
