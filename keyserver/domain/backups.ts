/** Backups of a key server that runs: everything as it is at one moment, sealed under the root key. */
import { randomBytes } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { LatchkeyError } from '#src/base/errors.ts';
import { VERSION } from '#src/base/installation.ts';
import type { Actor } from '../audit/append-event.ts';
import { SALT_BYTES, backupKey, formatBackupHeader } from '../backup/backup-header.ts';
import { sealChunks } from '../backup/sealed-chunks.ts';
import { tableLines } from '../backup/table-lines.ts';
import { takenInTime } from '../backup/taken-in-time.ts';
import { newestSchema } from '../db/migrate.ts';
import type { Reader } from '../db/store.ts';
import { BACKUP_PATIENCE_MS } from '../limits.ts';
import { runChange } from './change.ts';
import type { KeyServer } from './key-server.ts';
import { rootKeySlots } from './root-key-slots.ts';

export interface RunningBackup {
  /** Ends with an error when the backup is not whole. */
  readonly file: Readable;
  /** Rejects with what it failed with. */
  readonly done: Promise<void>;
}

export class Backups {
  readonly #server: KeyServer;
  readonly #patienceMs: number;
  #isRunning = false;

  /** @param patienceMs how long one waits for whoever reads it */
  constructor(server: KeyServer, patienceMs: number = BACKUP_PATIENCE_MS) {
    this.#server = server;
    this.#patienceMs = patienceMs;
  }

  /**
   * Begins a backup; one at a time, for on SQLite each takes the room of the database.
   * @throws LatchkeyError DENIED_SEALED, STATE_CONFLICT, STORAGE_FULL, STORAGE_FAILED
   */
  async begin(actor: Actor): Promise<RunningBackup> {
    if (this.#isRunning) {
      throw new LatchkeyError('STATE_CONFLICT', 'a backup is being made already', { hint: 'wait for it' });
    }
    const { organizationId, seal, store } = this.#server;
    const { rootKey } = seal.unsealed;
    this.#isRunning = true;
    const file = new PassThrough();
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    // The event is in the backup that it tells of.
    const done = runChange(this.#server, actor, (change) =>
      change.audit({ action: 'custody.backup', target: organizationId }),
    )
      .then(() =>
        store.snapshot(async (reader) => {
          const header = await this.#header(reader);
          const line = formatBackupHeader(header);
          begin();
          file.write(line);
          await pipeline(
            Readable.from(tableLines(reader)),
            createGzip(),
            (plain: AsyncIterable<Uint8Array>) => sealChunks(backupKey(rootKey, header, line), plain),
            (sealed: AsyncIterable<Uint8Array>) => takenInTime(sealed, file, this.#patienceMs),
            file,
          );
        }),
      )
      .finally(() => {
        this.#isRunning = false;
      });
    await Promise.race([begun, done]);
    return { file, done };
  }

  async #header(reader: Reader) {
    const { organizationId, clock } = this.#server;
    return {
      organizationId,
      createdAtMs: clock.nowMs(),
      latchkey: VERSION,
      schema: newestSchema(),
      salt: randomBytes(SALT_BYTES),
      slots: await rootKeySlots(reader, organizationId),
    };
  }
}
