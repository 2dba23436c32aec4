/** The mounts containerd is given for a snapshot: what its own overlayfs snapshotter would answer. */
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import type { SnapshotKind } from './snapshot.ts';

export interface MountPlan {
  readonly kind: SnapshotKind;
  /** The snapshot's own files. */
  readonly upperDirectory: string;
  readonly workDirectory: string;
  /** The parents' files, nearest first. */
  readonly lowerDirectories: readonly string[];
  /** Options the kernel's overlayfs needs, as found at start: `index=off`. */
  readonly overlayOptions: readonly string[];
}

/** Pure: the mounts for a plan. */
export function planMounts(plan: MountPlan): Mount[] {
  const [nearest, ...others] = plan.lowerDirectories;
  if (nearest === undefined) {
    return [bindMount(plan.upperDirectory, plan.kind === 'active' ? 'rw' : 'ro')];
  }
  const lower = `lowerdir=${plan.lowerDirectories.join(':')}`;
  if (plan.kind === 'active') {
    const upper = [`workdir=${plan.workDirectory}`, `upperdir=${plan.upperDirectory}`];
    return [overlayMount([...plan.overlayOptions, ...upper, lower])];
  }
  return others.length === 0 ? [bindMount(nearest, 'ro')] : [overlayMount([...plan.overlayOptions, lower])];
}

function bindMount(source: string, access: 'rw' | 'ro'): Mount {
  return { type: 'bind', source, target: '', options: [access, 'rbind'] };
}

function overlayMount(options: string[]): Mount {
  return { type: 'overlay', source: 'overlay', target: '', options };
}
