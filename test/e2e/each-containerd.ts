/** The same tests on every containerd that can be had. */
import { CONTAINERD_VERSIONS, type ContainerdVersion } from '../../lab/containerd-versions.ts';
import { describeOnContainerds } from '../fakes/on-containerds.ts';
import { siteSkipReason } from './gated-site.ts';

/** A group of tests once for each version; those of a version that is not here are skipped and say what it needs. */
export function describeOnEachContainerd(
  title: string,
  body: (containerd: ContainerdVersion) => void,
  versions: readonly ContainerdVersion[] = CONTAINERD_VERSIONS,
): void {
  describeOnContainerds({ title, versions, skipReason: siteSkipReason() }, body);
}
