/** What a Debian package says of itself, and what it does when it comes and goes (Debian Policy, chapters 5 and 6). */
import { NODE_SERVICE } from '../../shim/install/systemd-units.ts';
import type { Architecture } from '../executable/node-binary.ts';

export const PACKAGE = 'latchkey-node';

const MAINTAINER = 'Latchkey maintainers <maintainers@latchkey.example>';
const DEBIAN_ARCHITECTURE: Readonly<Record<Architecture, string>> = { x64: 'amd64', arm64: 'arm64' };

/** The newest versions of the C and C++ libraries that Node's executable names; a test reads them from it. */
export const LIBRARY_SYMBOLS = { glibc: '2.28', glibcxx: '3.4.21' } as const;
/** libstdc++6 5.2 is the first with GLIBCXX_3.4.21. */
const DEPENDS = `libc6 (>= ${LIBRARY_SYMBOLS.glibc}), libgcc-s1 (>= 3.4), libstdc++6 (>= 5.2)`;

export function debianArchitecture(architecture: Architecture): string {
  return DEBIAN_ARCHITECTURE[architecture];
}

/** In Debian a version before its release sorts after a tilde. */
export function debianVersion(version: string): string {
  return version.replace('-', '~');
}

export function packageFileName(version: string, architecture: Architecture): string {
  return `${PACKAGE}_${debianVersion(version)}_${debianArchitecture(architecture)}.deb`;
}

/** The control file. */
export function controlFile(version: string, architecture: Architecture, installedKibibytes: number): string {
  return `Package: ${PACKAGE}
Version: ${debianVersion(version)}
Architecture: ${debianArchitecture(architecture)}
Maintainer: ${MAINTAINER}
Installed-Size: ${installedKibibytes}
Depends: ${DEPENDS}
Recommends: containerd | containerd.io
Suggests: erofs-utils, gocryptfs
Section: admin
Priority: optional
Description: container images that run only with a license
 The node agent of Latchkey: containerd asks it for the filesystem of every
 container, and an encrypted image starts only while its license is good.
 .
 One executable with all of the latchkey command and Node.js in it; nothing
 else is needed but a containerd.
`;
}

/**
 * The maintainer scripts by name. An upgrade restarts the agent and touches nothing else: containers go on, since they do
 * not need the agent to run. Only a purge takes the state, with the node's identity in it.
 */
export const MAINTAINER_SCRIPTS: Readonly<Record<string, string>> = {
  postinst: `#!/bin/sh
set -e
has_systemd() { [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; }
if [ "$1" = configure ]; then
  if has_systemd; then
    systemctl daemon-reload || true
    # Restarts it only where it runs.
    [ -z "$2" ] || systemctl try-restart ${NODE_SERVICE} || true
  fi
  if [ -z "$2" ] && [ ! -e "$DPKG_ROOT/etc/latchkey/node.toml" ]; then
    echo "latchkey-node: now run 'latchkey node install', which sets up this machine; --help shows what it needs"
  fi
fi
`,
  prerm: `#!/bin/sh
set -e
# What 'node install' has set up starts nothing without the agent, whichever runtime and file that is.
if [ "$1" = remove ] && { grep -qs latchkey "$DPKG_ROOT/etc/containerd/config.toml" ||
  [ -e "$DPKG_ROOT/var/lib/latchkey/node/installation.json" ]; }; then
  echo "latchkey-node: this machine is still set up for the agent, and starts nothing without it;" \\
    "'latchkey node uninstall' comes before the removal"
fi
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl stop ${NODE_SERVICE} || true
fi
`,
  postrm: `#!/bin/sh
set -e
if [ "$1" = purge ]; then
  state="$DPKG_ROOT/var/lib/latchkey/node"
  # Plaintext that is still mounted, the innermost first.
  awk -v below="$state/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r point; do
    umount "$point" || umount --lazy "$point"
  done
  rm -rf --one-file-system "$state" "$DPKG_ROOT/run/latchkey"
  # What the operator has written stays.
  rmdir --ignore-fail-on-non-empty "$DPKG_ROOT/var/lib/latchkey" "$DPKG_ROOT/etc/latchkey" 2>/dev/null || true
fi
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
`,
};

/** The changelog in Debian's form: it only says where ours is. */
export function changelogFile(version: string, timeSeconds: number): string {
  const date = new Date(timeSeconds * 1000).toUTCString().replace('GMT', '+0000');
  return `${PACKAGE} (${debianVersion(version)}) unstable; urgency=medium

  * See CHANGELOG.md.gz in this directory.

 -- ${MAINTAINER}  ${date}
`;
}

/** debian/copyright (machine-readable format 1.0). */
export function copyrightFile(license: string): string {
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: latchkey
Comment: The executable contains Node.js and npm packages. Each is named in
 sbom.cdx.json.gz and has its license in third-party-licenses.gz, both in this
 directory.

Files: *
Copyright: 2026 the Latchkey authors
License: ${license}

License: ${license}
 On Debian systems, the full text of the Apache License version 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
`;
}
