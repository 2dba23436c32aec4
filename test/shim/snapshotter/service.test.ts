import { join } from 'node:path';
import { Metadata, type ServiceError, credentials, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type Info,
  Kind,
  type ListSnapshotsResponse,
  SnapshotsClient,
  SnapshotsService,
} from '#src/wire/generated/containerd/snapshots.ts';
import { callUnary } from '#src/wire/unary.ts';
import { snapshotsService } from '../../../shim/snapshotter/service.ts';
import { type SocketServer, serveOnSocket } from '../../fakes/grpc-server.ts';
import { fakeLayer } from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const snapshotter = 'latchkey';

let site: SnapshotterSite;
let server: SocketServer;
let client: SnapshotsClient;
let api: ReturnType<typeof unaryMethods>;
let failures: { method: string; key: string; code: string }[];

beforeEach(async () => {
  failures = [];
  site = await SnapshotterSite.open(directory());
  const service = snapshotsService(site.snapshotter, ({ method, key, error }) => {
    if (error !== undefined) failures.push({ method, key, code: error.code });
  });
  server = await serveOnSocket(join(directory(), 'snapshotter.sock'), [[SnapshotsService, service]]);
  client = new SnapshotsClient(`unix://${server.socketPath}`, credentials.createInsecure());
  api = unaryMethods(client);
});
afterEach(() => {
  client.close();
  server.close();
  site.close();
});

function unaryMethods(of: SnapshotsClient) {
  return {
    prepare: of.prepare.bind(of),
    view: of.view.bind(of),
    mounts: of.mounts.bind(of),
    commit: of.commit.bind(of),
    remove: of.remove.bind(of),
    stat: of.stat.bind(of),
    update: of.update.bind(of),
    usage: of.usage.bind(of),
    cleanup: of.cleanup.bind(of),
  };
}

function call<Request, Response>(
  method: Parameters<typeof callUnary<Request, Response>>[0],
  request: Request,
): Promise<Response> {
  return callUnary(method, request, new Metadata(), {});
}

async function statusOf(answer: Promise<unknown>): Promise<{ code: number; details: string }> {
  const error = await answer.then(
    () => expect.fail('the call was answered'),
    (thrown: unknown) => thrown as ServiceError,
  );
  return { code: error.code, details: error.details };
}

async function list(): Promise<{ infos: Info[]; messages: number }> {
  const stream = client.list({ snapshotter, filters: ['anything'] });
  const messages: ListSnapshotsResponse[] = [];
  for await (const message of stream as AsyncIterable<ListSnapshotsResponse>) messages.push(message);
  return { infos: messages.flatMap(({ info }) => info), messages: messages.length };
}

describe('a snapshot’s life over the wire', () => {
  test('from Prepare to Remove', async () => {
    const parent = await site.unpack(fakeLayer('base', 'plain'));
    const [key, name] = [site.key('container'), site.key('name')];
    const prepared = await call(api.prepare, { snapshotter, key, parent, labels: { a: '1' } });
    expect(prepared.mounts).toMatchObject([{ type: 'overlay', source: 'overlay' }]);
    expect(await call(api.mounts, { snapshotter, key })).toEqual(prepared);
    const active = await call(api.stat, { snapshotter, key });
    const createdAt = { seconds: site.clock.wallMs / 1000, nanos: 0 };
    expect(active.info).toEqual({
      name: key,
      parent,
      kind: Kind.ACTIVE,
      createdAt,
      updatedAt: createdAt,
      labels: { a: '1' },
    });
    site.clock.advance(1234);
    await call(api.commit, { snapshotter, name, key, labels: { b: '2' } });
    const committed = await call(api.stat, { snapshotter, key: name });
    expect(committed.info).toMatchObject({ kind: Kind.COMMITTED, labels: { b: '2' }, createdAt });
    expect(committed.info?.updatedAt).toEqual({ seconds: createdAt.seconds + 1, nanos: 234_000_000 });
    expect(await call(api.usage, { snapshotter, key: name })).toEqual({ size: 0, inodes: 0 });
    const info = { ...committed.info!, labels: { c: '3' } };
    const updated = await call(api.update, { snapshotter, info, updateMask: ['labels.c'] });
    expect(updated.info?.labels).toEqual({ b: '2', c: '3' });
    const view = await call(api.view, { snapshotter, key: site.key('view'), parent: name, labels: {} });
    expect(view.mounts[0]?.options.some((option) => option.startsWith('upperdir'))).toBe(false);
    await call(api.remove, { snapshotter, key: (await list()).infos.at(-1)!.name });
    await call(api.remove, { snapshotter, key: name });
    await call(api.cleanup, { snapshotter });
    expect((await list()).infos.map((one) => one.name)).toEqual([parent]);
    expect(failures).toEqual([]);
  });

  test('a List of many comes in several messages', async () => {
    expect(await list()).toEqual({ infos: [], messages: 0 });
    for (let index = 0; index < 250; index += 1) {
      site.journal.insert({
        key: `k8s.io/${index}/x`,
        parent: null,
        kind: 'view',
        labels: {},
        createdAtMs: 0,
        updatedAtMs: 0,
        store: 'disk',
        sizeBytes: 0,
        inodes: 0,
        layer: null,
        gate: null,
      });
    }
    const { infos, messages } = await list();
    expect(infos).toHaveLength(250);
    expect(new Set(infos.map(({ name }) => name)).size).toBe(250);
    expect(messages).toBe(3);
  });
});

describe('what containerd is told', () => {
  test('of a snapshot that is not there: NOT_FOUND', async () => {
    const key = site.key('nothing');
    for (const method of [api.stat, api.mounts, api.remove, api.usage]) {
      const answer = await statusOf(call(method as typeof api.stat, { snapshotter, key }));
      expect(answer).toEqual({
        code: status.NOT_FOUND,
        details: `STATE_NOT_FOUND: snapshot ${key} does not exist`,
      });
    }
    expect(failures.map(({ method }) => method)).toEqual(['Stat', 'Mounts', 'Remove', 'Usage']);
    expect(new Set(failures.map((failure) => failure.key))).toEqual(new Set([key]));
  });

  test('of a key that is taken: ALREADY_EXISTS', async () => {
    const request = { snapshotter, key: site.key('container'), parent: '', labels: {} };
    await call(api.prepare, request);
    expect((await statusOf(call(api.prepare, request))).code).toBe(status.ALREADY_EXISTS);
  });

  test('of a parent that is not there, or one with children: FAILED_PRECONDITION', async () => {
    const request = { snapshotter, key: site.key('container'), parent: site.key('nothing'), labels: {} };
    expect((await statusOf(call(api.prepare, request))).code).toBe(status.FAILED_PRECONDITION);
    const parent = await site.unpack(fakeLayer('base', 'plain'));
    await call(api.prepare, { ...request, parent });
    expect((await statusOf(call(api.remove, { snapshotter, key: parent }))).code).toBe(
      status.FAILED_PRECONDITION,
    );
  });

  test('of a denial: PERMISSION_DENIED and the whole line, which is all that a person sees', async () => {
    const parent = await site.unpack(fakeLayer('app', 'encrypted'));
    site.gate.denial = new LatchkeyError('DENIED_LICENSE_REVOKED', 'the license was revoked', {
      licenseId: 'lic-7',
      contact: 'license@acme.example',
    });
    const request = { snapshotter, key: site.key('container'), parent, labels: {} };
    expect(await statusOf(call(api.prepare, request))).toEqual({
      code: status.PERMISSION_DENIED,
      details:
        'DENIED_LICENSE_REVOKED: the license was revoked; license lic-7; contact: license@acme.example',
    });
    expect(failures).toEqual([{ method: 'Prepare', key: request.key, code: 'DENIED_LICENSE_REVOKED' }]);
  });

  test('of an own defect: INTERNAL, and nothing of what is inside', async () => {
    const parent = await site.unpack(fakeLayer('app', 'encrypted'));
    site.gate.authorize = () => Promise.reject(new TypeError('a secret detail'));
    const request = { snapshotter, key: site.key('container'), parent, labels: {} };
    const answer = await statusOf(call(api.prepare, request));
    expect(answer.code).toBe(status.INTERNAL);
    expect(answer.details).not.toContain('secret');
  });

  test('of a List that fails: an error, not an end', async () => {
    site.journal.all = () => {
      throw new Error('no journal');
    };
    await expect(list()).rejects.toMatchObject({ code: status.INTERNAL });
  });
});
