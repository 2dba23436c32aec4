/** The tree over the audit log in the database: computed from the events, with the roots of full tiles kept. */
import { TILE_WIDTH, TileTree, edgeWidth, hashesAt, leafHash } from '#src/crypto/tile-tree.ts';
import { auditTreeEntry } from '#src/crypto/audit-checkpoint.ts';
import { toEventHead } from './event-head.ts';
import type { Reader } from '../db/store.ts';

/** Events that follow a size, as entries of the tree. A gap ends them: what follows it is no part of this log. */
export async function treeEntries(reader: Reader, size: number, limit: number): Promise<string[]> {
  const rows = await reader
    .selectFrom('audit_event')
    .select(['sequence', 'organization_id', 'time_ms', 'actor', 'action', 'target', 'outcome', 'code'])
    .select(['auth_method', 'request_id', 'previous_hash', 'hash'])
    .where('sequence', '>', size)
    .where('sequence', '<=', size + limit)
    .orderBy('sequence')
    .execute();
  const gap = rows.findIndex((row, index) => row.sequence !== size + index + 1);
  return rows.slice(0, gap < 0 ? rows.length : gap).map((row) => auditTreeEntry(toEventHead(row)));
}

/** Hashes of a level from an index on, as far as they are there. */
export async function levelHashes(
  reader: Reader,
  level: number,
  from: number,
  count: number,
): Promise<Uint8Array[]> {
  if (level === 0) return (await treeEntries(reader, from, count)).map((entry) => leafHash(entry));
  const rows = await reader
    .selectFrom('audit_tile')
    .select('root')
    .where('level', '=', level - 1)
    .where('tile_index', '>=', from)
    .where('tile_index', '<', from + count)
    .orderBy('tile_index')
    .execute();
  return rows.map(({ root }) => root);
}

/** Events that are under full tiles which are kept. */
export async function tiledSize(reader: Reader): Promise<number> {
  const last = await reader
    .selectFrom('audit_tile')
    .select('tile_index')
    .where('level', '=', 0)
    .orderBy('tile_index', 'desc')
    .limit(1)
    .executeTakeFirst();
  return last === undefined ? 0 : (last.tile_index + 1) * TILE_WIDTH;
}

/** The tree as it was at a size; null when the database does not hold that much. */
export async function treeAt(reader: Reader, size: number): Promise<TileTree | null> {
  const edge: Uint8Array[][] = [];
  for (let level = 0; hashesAt(size, level) > 0; level += 1) {
    const width = edgeWidth(size, level);
    const hashes = await levelHashes(reader, level, hashesAt(size, level) - width, width);
    if (hashes.length < width) return null;
    edge.push(hashes);
  }
  return new TileTree(size, edge);
}
