/** The same tests on every containerd that can be had. */
import { describe } from 'vitest';
import {
  CONTAINERD_VERSIONS,
  type ContainerdVersion,
  containerdSkipReason,
} from '../../lab/containerd-versions.ts';
import { siteSkipReason } from './gated-site.ts';

/** A group of tests once for each version; those of a version that is not here are skipped and say what it needs. */
export function describeOnEachContainerd(
  title: string,
  body: (containerd: ContainerdVersion) => void,
  versions: readonly ContainerdVersion[] = CONTAINERD_VERSIONS,
): void {
  for (const version of versions) {
    const reason = siteSkipReason() ?? containerdSkipReason(version);
    const suffix = reason === undefined ? '' : `: ${reason}`;
    describe.skipIf(reason !== undefined)(`${title} on containerd ${version}${suffix}`, () => {
      body(version);
    });
  }
}
