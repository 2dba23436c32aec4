/** Debian 13's skopeo, buildah, podman and ctd-decoder: the oldest in Debian that know key providers. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const FETCHED = join(import.meta.dirname, '..', '.cache', 'debian-13');
/** Parts that podman and buildah want there, whatever they do; Debian 12's will do. */
const SYSTEM_PARTS = ['/usr/bin/conmon', '/usr/lib/podman/netavark'];

export type PeerTool = 'skopeo' | 'buildah' | 'podman' | 'ctd-decoder';

/** Why they cannot be run; undefined when they are there. Podman and buildah run as root only. */
export function peerToolsSkipReason(...tools: readonly PeerTool[]): string | undefined {
  if (!existsSync(join(FETCHED, 'ready'))) {
    return "needs Debian 13's skopeo, buildah, podman and ctd-decoder: sh scripts/fetch-peer-tools.sh";
  }
  if (!tools.includes('podman') && !tools.includes('buildah')) return undefined;
  if (process.getuid?.() !== 0) return 'needs root, to run podman and buildah';
  const missing = SYSTEM_PARTS.filter((path) => !existsSync(path));
  return missing.length === 0 ? undefined : `needs ${missing.join(' and ')}: apt-get install conmon netavark`;
}

/** The program that runs a tool. */
export function peerTool(name: PeerTool): string {
  return join(FETCHED, 'bin', name);
}
