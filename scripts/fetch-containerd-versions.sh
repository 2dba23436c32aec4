#!/bin/sh
# Unpacks Debian 13's containerd (1.7) and Debian unstable's (2.x) into .cache/containerd, for tests beside the installed
# one of Debian 12 (1.6): each with its shim and ctr. Needs no root. A version that cannot be had is named in one line on
# stderr (exit 1); the others are there all the same.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache="$root/.cache/containerd"
# shellcheck source=scripts/debian-suite.sh
. "$root/scripts/debian-suite.sh"
# Unstable moves on: what was fetched stays until this script or the cache changes.
stamp=$(cat "$0" "$root/scripts/debian-suite.sh" | cksum)

# VERSION SUITE: into $cache/VERSION, which is there whole or not at all.
fetch() {
  target="$cache/$1"
  [ "$(cat "$target/ready" 2>/dev/null)" = "$stamp" ] && return
  reason=$(debian_suite_reason "$cache")
  [ -z "$reason" ] || { give_up "$1" "$reason"; return 1; }
  work="$cache/$1.partial"
  rm -rf "$target" "$work"
  mkdir -p "$work/debs" "$work/bin"
  echo "latchkey: fetching containerd $1 of Debian $2 into .cache (about 30 MB)" >&2
  (
    use_debian_suite "$2" "$work" && cd "$work/debs" && apt-get -q download containerd >>"$work/log" 2>&1
  ) || { give_up "$1" "the package cannot be downloaded, see $work/log"; return 1; }
  for program in containerd containerd-shim-runc-v2 ctr; do
    dpkg-deb --fsys-tarfile "$work"/debs/containerd_*.deb | tar -xO "./usr/bin/$program" >"$work/bin/$program" &&
      chmod +x "$work/bin/$program" || { give_up "$1" "its package has no $program"; return 1; }
  done
  # So far they need no newer libc than Debian 12 has.
  "$work/bin/containerd" --version >"$work/version" 2>>"$work/log" ||
    { give_up "$1" "it does not run here, see $work/log"; return 1; }
  rm -rf "$work/apt" "$work/debs"
  echo "$stamp" >"$work/ready"
  mv "$work" "$target"
}

give_up() { echo "latchkey: there is no containerd $1 to test with: $2" >&2; }

mkdir -p "$root/.cache" 2>/dev/null || true
exec 9>"$cache.lock"
flock 9
status=0
fetch 1.7 trixie || status=1
fetch 2 sid || status=1
exit $status
