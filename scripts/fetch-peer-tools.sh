#!/bin/sh
# Unpacks Debian 13's skopeo, buildah, podman and ctd-decoder into .cache/debian-13/bin, for tests and benchmarks: Debian
# 12's know no key providers, and are too slow to be a yardstick. Uses an apt configuration of its own, so that the
# system stays as it is; needs no root. Where they cannot be had, one line on stderr says why (exit 1).
set -eu

tools='skopeo buildah podman ctd-decoder'
# The programs, and all the libraries that they load: the system's may be too old for them.
packages='skopeo buildah podman imgcrypt libc6 libgpgme11t64 libassuan9 libgpg-error0 libsqlite3-0 libseccomp2 libsubid5
  libaudit1 libcap-ng0 libselinux1 libpcre2-8-0 libsemanage2 libsepol2 libbz2-1.0 libcrypt1 libacl1 libattr1 libpam0g
  libbsd0 libmd0'

root=$(cd "$(dirname "$0")/.." && pwd)
cache="$root/.cache/debian-13"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
log="$cache/log"
# What is there was made by this very script, for this place.
stamp="$(cksum <"$0") $cache"

give_up() {
  echo "latchkey: there are no tools of Debian 13: $1" >&2
  exit 1
}

is_ready() { [ "$(cat "$cache/ready" 2>/dev/null)" = "$stamp" ]; }

if is_ready; then exit 0; fi
command -v apt-get >/dev/null || give_up 'this system has no apt-get'
command -v patchelf >/dev/null || give_up 'it needs patchelf: apt-get install patchelf'
[ -r "$keyring" ] || give_up "$keyring is missing"
mkdir -p "$root/.cache" 2>/dev/null || true
[ -w "$root/.cache" ] || give_up "$root/.cache cannot be written"
exec 9>"$cache.lock"
flock 9
if is_ready; then exit 0; fi
echo 'latchkey: fetching skopeo, buildah, podman and ctd-decoder of Debian 13 into .cache (about 100 MB)' >&2

rm -rf "$cache"
apt="$cache/apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$cache/debs" "$cache/root" "$cache/bin"
: >"$apt/status"
# The mirror that this machine uses for Debian itself.
# shellcheck disable=SC2016 # $(REPO_URI) is for apt-get
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$') || mirror=http://deb.debian.org/debian/
echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "$(dpkg --print-architecture)";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
export APT_CONFIG="$apt/apt.conf"
apt-get -q update >"$log" 2>&1 || give_up "apt-get update failed, see $log"
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
rm -rf "$apt" "$cache/debs" "$cache/root"
echo "$stamp" >"$cache/ready"
