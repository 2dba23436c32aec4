#!/bin/sh
# Unpacks Debian 13's skopeo, buildah, podman and ctd-decoder into .cache/debian-13/bin, for tests and benchmarks: Debian
# 12's know no key providers, and are too slow to be a yardstick. Needs no root. Where they cannot be had, one line on
# stderr says why (exit 1).
set -eu

tools='skopeo buildah podman ctd-decoder'
# The programs, and all the libraries that they load: the system's may be too old for them.
packages='skopeo buildah podman imgcrypt libc6 libgpgme11t64 libassuan9 libgpg-error0 libsqlite3-0 libseccomp2 libsubid5
  libaudit1 libcap-ng0 libselinux1 libpcre2-8-0 libsemanage2 libsepol2 libbz2-1.0 libcrypt1 libacl1 libattr1 libpam0g
  libbsd0 libmd0'

root=$(cd "$(dirname "$0")/.." && pwd)
cache="$root/.cache/debian-13"
log="$cache/log"
# shellcheck source=scripts/debian-suite.sh
. "$root/scripts/debian-suite.sh"
# What is there was made by these very scripts, for this place.
stamp="$(cat "$0" "$root/scripts/debian-suite.sh" | cksum) $cache"

give_up() {
  echo "latchkey: there are no tools of Debian 13: $1" >&2
  exit 1
}

is_ready() { [ "$(cat "$cache/ready" 2>/dev/null)" = "$stamp" ]; }

if is_ready; then exit 0; fi
command -v patchelf >/dev/null || give_up 'it needs patchelf: apt-get install patchelf'
reason=$(debian_suite_reason "$root/.cache")
[ -z "$reason" ] || give_up "$reason"
exec 9>"$cache.lock"
flock 9
if is_ready; then exit 0; fi
echo 'latchkey: fetching skopeo, buildah, podman and ctd-decoder of Debian 13 into .cache (about 100 MB)' >&2

rm -rf "$cache"
mkdir -p "$cache/debs" "$cache/root" "$cache/bin"
use_debian_suite trixie "$cache" || give_up "apt-get update failed, see $log"
# shellcheck disable=SC2086 # words of the list are meant to be split
(cd "$cache/debs" && apt-get -q download $packages) >>"$log" 2>&1 ||
  give_up "the packages could not be downloaded, see $log"
for deb in "$cache"/debs/*.deb; do
  dpkg-deb --extract "$deb" "$cache/root"
done

mv "$(dirname "$(find "$cache/root/usr/lib" -name libc.so.6)")" "$cache/lib"
loader=$(find "$cache/lib" -name 'ld-linux-*')
# A launcher would not do: the tools start themselves again by /proc/self/exe.
for tool in $tools; do
  cp "$cache/root/usr/bin/$tool" "$cache/bin"
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$cache/lib" "$cache/bin/$tool" >>"$log" 2>&1 ||
    give_up "patchelf failed, see $log"
  "$cache/bin/$tool" --help >>"$log" 2>&1 || give_up "$tool does not run here, see $log"
done
rm -rf "$cache/apt" "$cache/debs" "$cache/root"
echo "$stamp" >"$cache/ready"
