/** The snapshotter as the gRPC service containerd's proxy plugin calls. Keys and errors pass; names are mapped. */
import type { ServerWritableStream } from '@grpc/grpc-js';
import type { LatchkeyError } from '#src/base/errors.ts';
import { toLatchkeyError } from '#src/base/errors.ts';
import {
  type Info,
  Kind,
  type ListSnapshotsRequest,
  type ListSnapshotsResponse,
  type SnapshotsServer,
} from '#src/wire/generated/containerd/snapshots.ts';
import { toGrpcStatus } from '#src/wire/status.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import type { Snapshot, SnapshotKind } from './snapshot.ts';
import type { Snapshotter } from './snapshotter.ts';

/** Snapshots per message of the List stream, as containerd itself sends them. */
const LIST_BATCH = 100;

const KINDS = { active: Kind.ACTIVE, view: Kind.VIEW, committed: Kind.COMMITTED } as const satisfies Record<
  SnapshotKind,
  Kind
>;

/** A call that has been answered. */
export interface SnapshotCall {
  readonly method: string;
  /** As in the request; '' = it has none. */
  readonly key: string;
  readonly parent: string;
  readonly durationMs: number;
  /** Set when it was refused or failed. */
  readonly error: LatchkeyError | undefined;
}

/**
 * Handlers over a snapshotter.
 * @param onCall told of every unary call before it is answered, for log and metrics
 */
export function snapshotsService(
  snapshotter: Snapshotter,
  onCall: (call: SnapshotCall) => void,
): SnapshotsServer {
  const unary = <Request extends object, Response>(
    method: string,
    handle: (request: Request) => Promise<Response>,
  ) =>
    unaryHandler<Request, Response>(async (request) => {
      const startedAtMs = performance.now();
      const done = (error: LatchkeyError | undefined): void => {
        const durationMs = performance.now() - startedAtMs;
        onCall({ method, key: text(request, 'key'), parent: text(request, 'parent'), durationMs, error });
      };
      try {
        const response = await handle(request);
        done(undefined);
        return response;
      } catch (error) {
        done(toLatchkeyError(error));
        throw error;
      }
    });
  return {
    prepare: unary('Prepare', async (request) => ({ mounts: await snapshotter.prepare(request) })),
    view: unary('View', async (request) => ({ mounts: await snapshotter.view(request) })),
    mounts: unary('Mounts', async ({ key }) => ({ mounts: await snapshotter.mounts(key) })),
    commit: unary('Commit', async ({ name, key, labels }) => {
      await snapshotter.commit(name, key, labels);
      return {};
    }),
    remove: unary('Remove', async ({ key }) => {
      await snapshotter.remove(key);
      return {};
    }),
    stat: unary('Stat', async ({ key }) => ({ info: toInfo(snapshotter.stat(key)) })),
    update: unary('Update', async ({ info, updateMask }) => ({
      info: toInfo(snapshotter.update(info?.name ?? '', info?.labels ?? {}, updateMask ?? [])),
    })),
    usage: unary('Usage', async ({ key }) => {
      const { sizeBytes, inodes } = await snapshotter.usage(key);
      return { size: sizeBytes, inodes };
    }),
    cleanup: unary('Cleanup', async () => {
      await snapshotter.cleanup();
      return {};
    }),
    list: (call) => {
      list(snapshotter, call);
    },
  };
}

function text(request: object, field: string): string {
  const value: unknown = Object.entries(request).find(([name]) => name === field)?.[1];
  return typeof value === 'string' ? value : '';
}

/** Filters may be ignored: containerd checks them again on what it gets. */
function list(
  snapshotter: Snapshotter,
  call: ServerWritableStream<ListSnapshotsRequest, ListSnapshotsResponse>,
): void {
  try {
    const infos = snapshotter.list().map(toInfo);
    for (let index = 0; index < infos.length; index += LIST_BATCH) {
      call.write({ info: infos.slice(index, index + LIST_BATCH) });
    }
    call.end();
  } catch (error) {
    // Not destroy(), which would leave the caller without an answer.
    call.emit('error', toGrpcStatus(error));
  }
}

function toInfo(snapshot: Snapshot): Info {
  return {
    name: snapshot.key,
    parent: snapshot.parent ?? '',
    kind: KINDS[snapshot.kind],
    createdAt: toTimestamp(snapshot.createdAtMs),
    updatedAt: toTimestamp(snapshot.updatedAtMs),
    labels: { ...snapshot.labels },
  };
}

function toTimestamp(timeMs: number): { seconds: number; nanos: number } {
  return { seconds: Math.floor(timeMs / 1000), nanos: (timeMs % 1000) * 1_000_000 };
}
