/** What runs: which snapshots are in use by a task, and how to end one. */
import { Status } from '#src/wire/generated/containerd/tasks.ts';
import type { ContainerdConnection } from './connection.ts';

export interface Workload {
  readonly namespace: string;
  readonly containerId: string;
  readonly snapshotter: string;
  /** The container's name for its snapshot, as in the last part of the backend key. */
  readonly snapshotKey: string;
}

/** The containers of all namespaces that have a task that has not ended. */
export async function runningWorkloads(containerd: ContainerdConnection): Promise<Workload[]> {
  const { containers, tasks } = containerd.clients;
  const workloads: Workload[] = [];
  for (const namespace of await containerd.namespaces()) {
    const running = await containerd.call(tasks.list.bind(tasks), { filter: '' }, namespace);
    const alive = new Set(
      running.tasks
        .filter(({ status }) => status !== Status.STOPPED)
        .map(({ containerId, id }) => containerId || id),
    );
    if (alive.size === 0) continue;
    const known = await containerd.call(containers.list.bind(containers), { filters: [] }, namespace);
    for (const { id, snapshotter, snapshotKey } of known.containers) {
      if (alive.has(id)) workloads.push({ namespace, containerId: id, snapshotter, snapshotKey });
    }
  }
  return workloads;
}

/** Sends a signal to every process of a container; one that has ended meanwhile is fine. */
export async function signalWorkload(
  containerd: ContainerdConnection,
  workload: Workload,
  signal: number,
): Promise<void> {
  const { tasks } = containerd.clients;
  const request = { containerId: workload.containerId, execId: '', signal, all: true };
  await containerd.call(tasks.kill.bind(tasks), request, workload.namespace).catch(() => undefined);
}
