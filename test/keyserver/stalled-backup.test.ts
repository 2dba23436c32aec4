/** A backup whose reader stands still, and the one after it. */
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { takenInTime } from '../../keyserver/backup/taken-in-time.ts';
import type { Store } from '../../keyserver/db/store.ts';
import { Backups } from '../../keyserver/domain/backups.ts';
import type { KeyServer } from '../../keyserver/domain/key-server.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { openServerStore } from '../../lab/server-database.ts';

/** Long enough that nobody who reads is ever taken for one who stands still. */
const PATIENCE_MS = 1000;
const CHUNK_BYTES = 100_000;
const STALLED = { code: 'NET_TIMEOUT', message: 'nobody took anything of the backup for 1 s' };

let server: TestKeyServer;
let store: Store;
let keyServer: KeyServer;

beforeAll(async () => {
  server = await startKeyServer();
  await server.stop();
  store = await openServerStore(server.dataDirectory);
  const { id: organizationId } = await store.read
    .selectFrom('organization')
    .select('id')
    .executeTakeFirstOrThrow();
  const seal = { unsealed: { rootKey: randomBytes(32) } };
  keyServer = { organizationId, store, seal, clock: systemClock } as unknown as KeyServer;
  // More than the streams take up by themselves, and nothing that would become less of it.
  const answers = Array.from({ length: 10 }, (_, index) => ({
    ...{ key_digest: `digest-${index}`, organization_id: organizationId, request_digest: 'r' },
    ...{ sealed_answer: new Uint8Array(randomBytes(CHUNK_BYTES)), expires_at_ms: 1 },
  }));
  await store.write((writer) => writer.insertInto('idempotent_answer').values(answers).execute());
});

afterAll(async () => {
  await store.close();
  await server.dispose();
});

describe('a backup that nobody takes anything of', () => {
  it('is ended, with the reason, and leaves nothing; the next one is whole', async () => {
    const backups = new Backups(keyServer, PATIENCE_MS);
    const stalled = await backups.begin('system');
    const failed = new Promise((resolve) => stalled.file.once('error', resolve));
    await expect(stalled.done).rejects.toMatchObject(STALLED);
    expect(await failed).toMatchObject(STALLED);
    const left = (await readdir(server.dataDirectory)).filter((name) => name.includes('snapshot'));
    expect(left).toEqual([]);
    const { file, done } = await backups.begin('system');
    expect((await buffer(file)).length).toBeGreaterThan(10 * CHUNK_BYTES);
    await done;
  });

  it('keeps others waiting only as long as it has time', async () => {
    const backups = new Backups(keyServer);
    const { file, done } = await backups.begin('system');
    await expect(backups.begin('system')).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    file.destroy();
    await expect(done).rejects.toThrow();
    const next = await backups.begin('system');
    next.file.resume();
    await next.done;
  });
});

describe('chunks', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A pipeline of three chunks to somebody who takes them when told to. */
  function pass() {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const to = new PassThrough();
    const source = async function* () {
      for (let count = 0; count < 3; count += 1) {
        await setImmediate();
        yield randomBytes(CHUNK_BYTES);
      }
    };
    let outcome: unknown = 'under way';
    const passed = pipeline(
      source,
      (chunks: AsyncIterable<Uint8Array>) => takenInTime(chunks, to, PATIENCE_MS),
      to,
    ).then(
      () => (outcome = 'passed'),
      (error: unknown) => (outcome = error),
    );
    /** Lets time pass in which all is done that can be. */
    const elapse = async (ms: number) => {
      for (let turn = 0; turn < 20; turn += 1) await setImmediate();
      vi.advanceTimersByTime(ms);
      for (let turn = 0; turn < 20; turn += 1) await setImmediate();
    };
    return { to, passed, elapse, outcome: () => outcome };
  }

  it('may be taken slowly, one after the other, for longer than one waits for each', async () => {
    const { to, passed, elapse, outcome } = pass();
    for (let taken = 0; taken < 3; taken += 1) {
      await elapse(PATIENCE_MS - 1);
      expect(outcome()).toBe('under way');
      expect((to.read() as Buffer).length).toBe(CHUNK_BYTES);
    }
    await elapse(PATIENCE_MS - 1);
    await passed;
    expect(outcome()).toBe('passed');
    await elapse(2 * PATIENCE_MS);
    expect(to.destroyed).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([0, 1, 2])('end with the reason when nobody takes more than %i of them', async (takes) => {
    const { to, passed, elapse, outcome } = pass();
    for (let taken = 0; taken < takes; taken += 1) {
      await elapse(PATIENCE_MS - 1);
      to.read();
    }
    await elapse(PATIENCE_MS);
    await elapse(PATIENCE_MS);
    await passed;
    expect(outcome()).toMatchObject(STALLED);
    expect(vi.getTimerCount()).toBe(0);
  });
});
