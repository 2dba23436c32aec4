/** The containerds that tests run on: Debian 12's, which is installed, and newer ones fetched from other suites. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { configurationVersion, parseContainerdVersion } from '../shim/install/containerd-config.ts';

const FETCHED = join(import.meta.dirname, '..', '.cache', 'containerd');

/** Oldest first. Debian 12, Debian 13 and Debian unstable have them. */
export const CONTAINERD_VERSIONS = ['1.6', '1.7', '2'] as const;
export type ContainerdVersion = (typeof CONTAINERD_VERSIONS)[number];

export const INSTALLED_CONTAINERD: ContainerdVersion = '1.6';

/** Directory of a fetched containerd with its shim and its ctr; undefined for the installed one. */
export function containerdDirectory(version: ContainerdVersion): string | undefined {
  return version === INSTALLED_CONTAINERD ? undefined : join(FETCHED, version, 'bin');
}

/** Why a version cannot be run; undefined when it is there. */
export function containerdSkipReason(version: ContainerdVersion): string | undefined {
  const directory = containerdDirectory(version);
  return directory === undefined || existsSync(join(directory, '..', 'ready'))
    ? undefined
    : `needs containerd ${version}: sh scripts/fetch-containerd-versions.sh`;
}

/** Version of the configuration file that a containerd takes. */
export function configurationVersionOf(version: ContainerdVersion): 2 | 3 {
  return configurationVersion(parseContainerdVersion(`${version}.0`));
}
