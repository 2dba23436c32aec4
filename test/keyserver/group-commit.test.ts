import { readdirSync, readlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AUDIT_START, checkAuditEvent } from '#src/crypto/audit-chain.ts';
import { type AuditEntry, appendAuditEvent, appendAuditEvents } from '../../keyserver/audit/append-event.ts';
import { toEventHead } from '../../keyserver/audit/event-head.ts';
import { together } from '../../keyserver/db/open-transaction.ts';
import type { Store, Writer } from '../../keyserver/db/store.ts';
import { databaseKind, openNewStore, removeServerDatabase } from '../../lab/server-database.ts';

let directory: string;
let store: Store;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-group-'));
  store = await openNewStore(directory);
});

afterAll(async () => {
  await store.close();
  await removeServerDatabase(directory);
  await rm(directory, { recursive: true });
});

function entry(target: string): AuditEntry {
  return { actor: 'system', action: 'product.create', target, outcome: 'done', detail: { target } };
}

async function append(writer: Writer, target: string): Promise<number> {
  return (await appendAuditEvent(writer, 'org_a', 1, entry(target))).sequence;
}

/** The targets of all events, which have to chain. */
async function chainedTargets(): Promise<string[]> {
  const rows = await store.read.selectFrom('audit_event').selectAll().orderBy('sequence').execute();
  let head = AUDIT_START;
  for (const row of rows) {
    const detail = JSON.parse(row.detail) as { target: string };
    const check = checkAuditEvent(head, { ...toEventHead(row), detail });
    if (!check.ok) throw new Error(check.fault);
    head = check.head;
  }
  return rows.map(({ target }) => target);
}

/** SQLite's, which have no name in a directory any more. */
function openTemporaryFiles(): string[] {
  const names = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return names.filter((name) => name.includes('etilqs_'));
}

describe('writes that are committed together', () => {
  it('leave nothing of those that fail, whatever these have written, and the log chains', async () => {
    const outcomes = await Promise.allSettled([
      store.write((writer) => append(writer, 'a')),
      store.write(async (writer) => {
        await append(writer, 'lost 1');
        throw new Error('after its event');
      }),
      store.write(async (writer) => {
        await appendAuditEvents(writer, 'org_a', 1, ['b', 'c'].map(entry));
        return append(writer, 'd');
      }),
      store.write(async (writer) => {
        await append(writer, 'lost 2');
        await append(writer, 'lost 3');
        throw new Error('after two events');
      }),
      store.write(() => Promise.reject(new Error('before any event'))),
      store.write((writer) => append(writer, 'e')),
    ]);
    expect(outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : 'failed'))).toEqual([
      ...[1, 'failed', 4, 'failed', 'failed', 5],
    ]);
    expect(await chainedTargets()).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('take back steps that went out together with one that failed', async () => {
    const taken = (writer: Writer) =>
      writer.insertInto('used_challenge').values({ nonce: 'n', expires_at_ms: 1 }).execute();
    await store.write(taken);
    const outcomes = await Promise.allSettled([
      store.write((writer) => together(append(writer, 'lost 4'), taken(writer))),
      store.write((writer) => together(taken(writer), append(writer, 'lost 5'))),
      store.write(async (writer) => (await together(append(writer, 'f'), Promise.resolve()))[0]),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
    for (const outcome of outcomes.slice(0, 2))
      expect(String((outcome as PromiseRejectedResult).reason)).toMatch(/unique|duplicate/i);
    expect(await chainedTargets()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('go on from what the last commit has left, also after one that failed as a whole', async () => {
    await expect(
      store.write(async (writer) => {
        await append(writer, 'lost');
        throw new Error('alone');
      }),
    ).rejects.toThrow('alone');
    expect(await store.write((writer) => append(writer, 'g'))).toBe(7);
    expect(await chainedTargets()).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g']);
  });

  it.each(databaseKind() === 'SQLite' ? ['a file'] : [])('can be taken back without %s', async () => {
    await store.write((writer) =>
      appendAuditEvents(
        writer,
        'org_a',
        1,
        Array.from({ length: 1000 }, () => entry('h')),
      ),
    );
    let temporaryFiles: string[] | undefined;
    const outcomes = await Promise.allSettled([
      store.write((writer) => append(writer, 'i')),
      store.write(async (writer) => {
        await writer.updateTable('audit_event').set({ code: 'lost' }).execute();
        temporaryFiles = openTemporaryFiles();
        throw new Error('after a change of every page');
      }),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(temporaryFiles).toEqual([]);
    expect(await chainedTargets()).toHaveLength(1008);
  });

  it('end with their transaction: a writer that is kept writes nothing', async () => {
    let kept: Writer | undefined;
    await store.write((writer) => {
      kept = writer;
      return Promise.resolve();
    });
    if (kept === undefined) throw new Error('no write has run');
    await expect(append(kept, 'late')).rejects.toThrow(/committed/);
    expect(await chainedTargets()).not.toContain('late');
  });
});
