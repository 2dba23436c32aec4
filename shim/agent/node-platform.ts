/** For which platform this node takes images, in OCI's words (which are Go's). */
import type { Platform } from '#src/oci/platform.ts';

/** Node.js's name of an architecture -> Go's, where they differ. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  mipsel: 'mipsle',
};

/** @param architecture as `process.arch` says it */
export function nodePlatform(architecture: string): Pick<Platform, 'os' | 'architecture'> {
  return { os: 'linux', architecture: ARCHITECTURES[architecture] ?? architecture };
}
