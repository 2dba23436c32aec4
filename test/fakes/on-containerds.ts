/** Groups of tests that run on several containerds. Their titles are what the table of versions is made from. */
import { describe } from 'vitest';
import { type ContainerdVersion, containerdSkipReason } from '../../lab/containerd-versions.ts';

export interface OnContainerds {
  readonly title: string;
  readonly versions: readonly ContainerdVersion[];
  /** Why no version can be run here; undefined where they can. */
  readonly skipReason: string | undefined;
}

/** A group of tests once for each version; those of a version that is not here are skipped and say what it needs. */
export function describeOnContainerds(
  { title, versions, skipReason }: OnContainerds,
  body: (containerd: ContainerdVersion) => void,
): void {
  for (const version of versions) {
    const reason = skipReason ?? containerdSkipReason(version);
    const suffix = reason === undefined ? '' : `: ${reason}`;
    describe.skipIf(reason !== undefined)(`${title} on containerd ${version}${suffix}`, () => {
      body(version);
    });
  }
}
