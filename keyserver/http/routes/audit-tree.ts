/**
 * The audit log as a tiled tree (C2SP tlog-tiles): `/tlog/checkpoint`, `/tlog/tile/LEVEL/INDEX`, `/tlog/tile/entries/INDEX`.
 * For those who may read the audit log: ids and times of what happened are not for everybody.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { TILE_WIDTH, hashesAt } from '#src/crypto/tile-tree.ts';
import { auditCheckpointSchema } from '#src/wire/admin/audit.ts';
import type { PublishedCheckpoint } from '../../audit/audit-publisher.ts';
import { levelHashes, treeEntries } from '../../audit/stored-tree.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import type { AdminApp } from '../admin-app.ts';

const NOTE_MEDIA_TYPE = 'text/plain; charset=utf-8';
const TILE_MEDIA_TYPE = 'application/octet-stream';
const GUARD = { config: { permission: 'audit.read' } } as const;
const LENGTH_PREFIX_BYTES = 2;

export function auditTreeRoutes(app: AdminApp, server: KeyServer): void {
  const published = (): PublishedCheckpoint => {
    const checkpoint = server.auditPublisher.published;
    if (checkpoint === null) throw new LatchkeyError('STATE_NOT_FOUND', 'there is no checkpoint yet');
    return checkpoint;
  };
  app.get(
    '/v1/audit-checkpoint',
    {
      config: { permission: 'audit.read' },
      schema: {
        summary: 'The newest signed checkpoint of the audit log',
        response: { 200: auditCheckpointSchema },
      },
    },
    async () => {
      // Over everything that was committed before the question.
      await server.auditPublisher.publish();
      return { verifierKey: server.auditPublisher.verifierKey, checkpoint: published().note };
    },
  );
  app.get('/tlog/checkpoint', { ...GUARD, schema: { hide: true } }, (_request, reply) =>
    reply.type(NOTE_MEDIA_TYPE).send(published().note),
  );
  const path = z.object({ level: z.string(), '*': z.string() });
  app.get(
    '/tlog/tile/:level/*',
    { ...GUARD, schema: { hide: true, params: path } },
    async (request, reply) => {
      const { level, '*': index } = request.params;
      const tile = tileAddress(level, index, published().size);
      if (tile === null) {
        throw new LatchkeyError('STATE_NOT_FOUND', 'there is no such tile under the newest checkpoint');
      }
      const { read } = server.store;
      const parts =
        tile.level === null
          ? (await treeEntries(read, tile.from, tile.width)).map((entry) => withLength(entry))
          : await levelHashes(read, tile.level, tile.from, tile.width);
      return reply.type(TILE_MEDIA_TYPE).send(Buffer.concat(parts));
    },
  );
}

interface TileAddress {
  /** Null for entries. */
  readonly level: number | null;
  readonly from: number;
  readonly width: number;
}

/**
 * Reads a tile's path as the spec writes it: the index in groups of three digits, all but the last with an x
 * (`x001/067`), and `.p/WIDTH` for a partial one. Null when no tile of a tree of that size has it.
 */
export function tileAddress(levelText: string, path: string, size: number): TileAddress | null {
  const match = /^((?:x\d{3}\/){0,4})(\d{3})(?:\.p\/([1-9]\d{0,2}))?$/.exec(path);
  const isEntries = levelText === 'entries';
  if (match === null || !(isEntries || /^(?:\d|[1-5]\d|6[0-3])$/.test(levelText))) return null;
  const [, groups = '', last = '', widthText] = match;
  if (groups.startsWith('x000')) return null;
  const index = Number(groups.replaceAll(/[x/]/g, '') + last);
  const width = widthText === undefined ? TILE_WIDTH : Number(widthText);
  const level = isEntries ? 0 : Number(levelText);
  const from = index * TILE_WIDTH;
  const isPartial = widthText !== undefined;
  if ((isPartial && width >= TILE_WIDTH) || from + width > hashesAt(size, level)) return null;
  return { level: isEntries ? null : level, from, width };
}

/** An entry of a bundle; our entries have no part of unbounded length. */
function withLength(entry: string): Buffer {
  const bytes = Buffer.from(entry);
  const length = Buffer.alloc(LENGTH_PREFIX_BYTES);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
