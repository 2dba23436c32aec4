/**
 * The snapshotter's memory across restarts: which snapshots there are, whose children they are, and from
 * which blob a gated one can be made again. SQLite; no key is ever in it. A change is in the file when its call returns,
 * and so survives the agent; `flush` makes it survive the machine, without holding up everybody else's calls meanwhile.
 * Reads come from memory: unpacking an image asks for every layer below, again with every layer.
 */
import { DatabaseSync } from 'node:sqlite';
import { LatchkeyError } from '#src/base/errors.ts';
import { fromJournalError, journalDamaged } from './journal-error.ts';
import { SnapshotMap } from './snapshot-map.ts';
import type { Snapshot, SnapshotGateRecord, SnapshotKind, SnapshotLayer, SnapshotStore } from './snapshot.ts';
import { WriteAheadLog } from './write-ahead-log.ts';

/** Raised with every change of the table; a journal of a later version is refused. */
const JOURNAL_VERSION = 1;

export type NewSnapshot = Omit<Snapshot, 'id'>;

interface Row {
  id: number;
  key: string;
  parent: string | null;
  kind: SnapshotKind;
  labels: string;
  created_at_ms: number;
  updated_at_ms: number;
  store: SnapshotStore;
  size_bytes: number;
  inodes: number;
  layer: string | null;
  gate: string | null;
}

export interface Journal {
  find(key: string): Snapshot | undefined;
  children(key: string): Snapshot[];
  all(): Snapshot[];
  /** Inserts and gives the snapshot with its id. */
  insert(snapshot: NewSnapshot): Snapshot;
  /** Replaces the snapshot of that id; its key may change (commit gives it its name). */
  replace(snapshot: Snapshot): void;
  remove(id: number): void;
  /** Resolves when every change made before the call is on the disk; calls that wait together share one sync. */
  flush(): Promise<void>;
  close(): void;
}

/**
 * Opens or creates the journal.
 * @throws LatchkeyError STATE_NEWER_SCHEMA, STATE_DAMAGED, STORAGE_FULL, STORAGE_FAILED; so do changes, but the first
 */
export function openJournal(path: string): Journal {
  const database = openDatabase(path);
  const known = new SnapshotMap(readAll(database, path));
  const insert = database.prepare(
    `INSERT INTO snapshot (key, parent, kind, labels, created_at_ms, updated_at_ms, store, size_bytes, inodes, layer, gate)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const replace = database.prepare(
    `UPDATE snapshot SET key = ?, parent = ?, kind = ?, labels = ?, created_at_ms = ?, updated_at_ms = ?, store = ?,
     size_bytes = ?, inodes = ?, layer = ?, gate = ? WHERE id = ?`,
  );
  const remove = database.prepare('DELETE FROM snapshot WHERE id = ?');
  const change = <Result>(run: () => Result): Result => {
    try {
      return run();
    } catch (error) {
      throw fromJournalError(error, path);
    }
  };
  const log = new WriteAheadLog(`${path}-wal`);
  return {
    find: (key) => known.find(key),
    children: (key) => known.children(key),
    all: () => known.all(),
    insert: (snapshot) => {
      // Not `get` of a RETURNING clause: that gives the row although the disk is full and nothing was written.
      const { lastInsertRowid } = change(() => insert.run(...columns(snapshot)));
      const inserted = { ...snapshot, id: Number(lastInsertRowid) };
      known.set(inserted);
      return inserted;
    },
    replace: (snapshot) => {
      change(() => replace.run(...columns(snapshot), snapshot.id));
      known.set(snapshot);
    },
    remove: (id) => {
      change(() => remove.run(id));
      known.delete(id);
    },
    flush: () => log.flush(),
    close: () => {
      database.close();
      log.close();
    },
  };
}

function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(path);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
    // What is damaged would show in the middle of somebody's start.
    if (database.prepare('PRAGMA quick_check(1)').get()?.['quick_check'] !== 'ok') throw journalDamaged(path);
  } catch (error) {
    throw fromJournalError(error, path);
  }
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version > JOURNAL_VERSION) {
    database.close();
    throw new LatchkeyError(
      'STATE_NEWER_SCHEMA',
      `the snapshot journal ${path} was written by a newer Latchkey`,
      {
        hint: 'install that version or a later one',
      },
    );
  }
  database.exec(`
    CREATE TABLE IF NOT EXISTS snapshot (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      key TEXT NOT NULL UNIQUE,
      parent TEXT,
      kind TEXT NOT NULL,
      labels TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      updated_at_ms INTEGER NOT NULL,
      store TEXT NOT NULL,
      size_bytes INTEGER NOT NULL,
      inodes INTEGER NOT NULL,
      layer TEXT,
      gate TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS snapshot_parent ON snapshot (parent);
    PRAGMA user_version = ${JOURNAL_VERSION};
  `);
  return database;
}

function readAll(database: DatabaseSync, path: string): Snapshot[] {
  const rows = database.prepare('SELECT * FROM snapshot ORDER BY id').all() as unknown as Row[];
  try {
    return rows.map(fromRow);
  } catch (error) {
    throw journalDamaged(path, error);
  }
}

function columns(snapshot: NewSnapshot): (string | number | null)[] {
  return [
    snapshot.key,
    snapshot.parent,
    snapshot.kind,
    JSON.stringify(snapshot.labels),
    snapshot.createdAtMs,
    snapshot.updatedAtMs,
    snapshot.store,
    snapshot.sizeBytes,
    snapshot.inodes,
    snapshot.layer === null ? null : JSON.stringify(snapshot.layer),
    snapshot.gate === null ? null : JSON.stringify(snapshot.gate),
  ];
}

function fromRow(row: Row): Snapshot {
  return {
    id: row.id,
    key: row.key,
    parent: row.parent,
    kind: row.kind,
    labels: JSON.parse(row.labels) as Record<string, string>,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    store: row.store,
    sizeBytes: row.size_bytes,
    inodes: row.inodes,
    layer: row.layer === null ? null : (JSON.parse(row.layer) as SnapshotLayer),
    gate: row.gate === null ? null : (JSON.parse(row.gate) as SnapshotGateRecord),
  };
}
