/** Snapshots as a client of containerd sees them, of whichever snapshotter, and how they are taken away. */
import { status as grpcStatus } from '@grpc/grpc-js';
import { type Info, Kind, type ListSnapshotsResponse } from '#src/wire/generated/containerd/snapshots.ts';
import { type ContainerdConnection, answeredStatus } from './connection.ts';

/** The collection that the lease is for runs at once; should this process die first, containerd lets it go by itself. */
const LEASE_LIFE_MS = 3_600_000;
/** A collection unlinks the files of what was removed. */
const COLLECT_TIMEOUT_MS = 120_000;

export interface ContainerdSnapshot {
  readonly name: string;
  /** Empty at the bottom of a chain. */
  readonly parent: string;
  readonly isCommitted: boolean;
  readonly createdAtMs: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** All snapshots of a snapshotter in a namespace; none when containerd has no such snapshotter. */
export async function listSnapshots(
  containerd: ContainerdConnection,
  namespace: string,
  snapshotter: string,
): Promise<ContainerdSnapshot[]> {
  const { snapshots } = containerd.clients;
  const stream = snapshots.list({ snapshotter, filters: [] }, containerd.inNamespace(namespace));
  const found: ContainerdSnapshot[] = [];
  try {
    for await (const { info } of stream as AsyncIterable<ListSnapshotsResponse>) {
      found.push(...info.map(toSnapshot));
    }
  } catch (error) {
    const known = containerd.explain(error);
    // "snapshotter not loaded": it was taken out of containerd's configuration.
    if (answeredStatus(known) === grpcStatus.INVALID_ARGUMENT) return [];
    throw known;
  }
  return found;
}

function toSnapshot({ name, parent, kind, createdAt, labels }: Info): ContainerdSnapshot {
  const createdAtMs = (createdAt?.seconds ?? 0) * 1000 + (createdAt?.nanos ?? 0) / 1e6;
  return { name, parent, isCommitted: kind === Kind.COMMITTED, createdAtMs, labels };
}

/**
 * Takes a snapshot out of containerd's books; its files go with the next collection.
 * @returns false when it stays because something stands on it
 */
export async function removeSnapshot(
  containerd: ContainerdConnection,
  namespace: string,
  snapshotter: string,
  name: string,
): Promise<boolean> {
  const { snapshots } = containerd.clients;
  try {
    await containerd.call(snapshots.remove.bind(snapshots), { snapshotter, key: name }, namespace);
    return true;
  } catch (error) {
    switch (answeredStatus(error)) {
      case grpcStatus.NOT_FOUND:
        return true;
      case grpcStatus.FAILED_PRECONDITION:
        return false;
      default:
        throw error;
    }
  }
}

/**
 * Has containerd delete the files of what was removed, and waits for it: left alone it does that after a hundred
 * changes only (gc/scheduler). A lease deleted in step is how its own clients ask for it.
 */
export async function collectGarbage(containerd: ContainerdConnection, namespace: string): Promise<void> {
  const { leases } = containerd.clients;
  const expiresAt = new Date(Date.now() + LEASE_LIFE_MS).toISOString();
  const request = { id: '', labels: { 'containerd.io/gc.expire': expiresAt } };
  const { lease } = await containerd.call(leases.create.bind(leases), request, namespace);
  const deadline = { deadline: Date.now() + COLLECT_TIMEOUT_MS };
  const id = lease?.id ?? '';
  await containerd.call(leases.delete.bind(leases), { id, sync: true }, namespace, deadline);
}
