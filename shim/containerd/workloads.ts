/** What runs: which snapshots are in use by a task, and how to end one. */
import { Status } from '#src/wire/generated/containerd/tasks.ts';
import type { ContainerdConnection } from './connection.ts';

export type WorkloadState = 'created' | 'running' | 'paused' | 'unknown';

export interface Workload {
  readonly namespace: string;
  readonly containerId: string;
  /** Name of the image that it was made from; '' when its client said none. */
  readonly image: string;
  readonly snapshotter: string;
  /** The container's name for its snapshot, as in the last part of the backend key. */
  readonly snapshotKey: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Wall clock; 0 = containerd does not say. */
  readonly createdAtMs: number;
  readonly state: WorkloadState;
}

const STATES: Partial<Record<Status, WorkloadState>> = {
  [Status.CREATED]: 'created',
  [Status.RUNNING]: 'running',
  [Status.PAUSED]: 'paused',
  [Status.PAUSING]: 'paused',
};

/** The containers of all namespaces that have a task that has not ended. */
export async function runningWorkloads(containerd: ContainerdConnection): Promise<Workload[]> {
  const { containers, tasks } = containerd.clients;
  const workloads: Workload[] = [];
  for (const namespace of await containerd.namespaces()) {
    const answer = await containerd.call(tasks.list.bind(tasks), { filter: '' }, namespace);
    const states = new Map<string, WorkloadState>();
    for (const { containerId, id, status } of answer.tasks) {
      if (status !== Status.STOPPED) states.set(containerId || id, STATES[status] ?? 'unknown');
    }
    if (states.size === 0) continue;
    const known = await containerd.call(containers.list.bind(containers), { filters: [] }, namespace);
    for (const { id, image, labels, snapshotter, snapshotKey, createdAt } of known.containers) {
      const state = states.get(id);
      if (state === undefined) continue;
      const createdAtMs = createdAt === undefined ? 0 : createdAt.seconds * 1000;
      workloads.push({
        ...{ namespace, containerId: id, image, labels, snapshotter, snapshotKey, createdAtMs, state },
      });
    }
  }
  return workloads;
}

/**
 * Sends a signal to every process of a container; one that has ended meanwhile is fine. A paused one goes on for it, as
 * it could not end otherwise: the signal is there before its next instruction.
 */
export async function signalWorkload(
  containerd: ContainerdConnection,
  workload: Workload,
  signal: number,
): Promise<void> {
  const { tasks } = containerd.clients;
  const { containerId, namespace } = workload;
  const request = { containerId, execId: '', signal, all: true };
  await containerd.call(tasks.kill.bind(tasks), request, namespace).catch(() => undefined);
  if (workload.state !== 'paused') return;
  await containerd.call(tasks.resume.bind(tasks), { containerId }, namespace).catch(() => undefined);
}
