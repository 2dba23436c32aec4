#!/bin/sh
# Unpacks Debian 13's skopeo beside the system, for the benchmark: Debian 12's is three times slower and no yardstick.
# Uses an apt configuration of its own under .cache, so that the system's package lists stay as they are.
# Prints the path of a launcher, or one line on stderr that says why there is none (exit 1).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache="$root/.cache/peer-skopeo"
launcher="$cache/skopeo"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

skip() {
  echo "skipping skopeo of Debian 13: $1" >&2
  exit 1
}

if [ -x "$launcher" ]; then
  echo "$launcher"
  exit 0
fi
command -v apt-get >/dev/null || skip "this system has no apt-get"
[ -r "$keyring" ] || skip "$keyring is missing"
arch=$(dpkg --print-architecture)
apt="$cache/apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$cache/debs" "$cache/root"
: >"$apt/status"
# The mirror that this machine uses for Debian itself.
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$') || skip "no Debian mirror is configured"
echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "-";
APT::Architecture "$arch";
APT::Sandbox::User "root";
CONF
APT_CONFIG="$apt/apt.conf"
export APT_CONFIG
apt-get -qq update >"$cache/apt.log" 2>&1 || skip "apt-get update failed, see $cache/apt.log"
apt-get -qq -y --no-install-recommends --download-only install skopeo >>"$cache/apt.log" 2>&1 ||
  skip "the packages could not be downloaded, see $cache/apt.log"
for deb in "$apt"/archives/*.deb; do
  dpkg-deb --extract "$deb" "$cache/root"
done
# Debian 13 has a merged /usr; its packages rely on links that are not in them.
for name in lib lib64; do
  [ -e "$cache/root/$name" ] || ln -s "usr/$name" "$cache/root/$name"
done
loader=$(find "$cache/root/usr/lib64" "$cache/root/usr/lib" -name 'ld-linux-*' | head -n 1)
[ -n "$loader" ] || skip "the packages have no dynamic loader"
libraries=$(find "$cache/root/usr/lib" -maxdepth 1 -type d -name '*-linux-gnu*' | head -n 1)
cat >"$launcher.new" <<LAUNCH
#!/bin/sh
exec "$loader" --library-path "$libraries" "$cache/root/usr/bin/skopeo" "\$@"
LAUNCH
chmod +x "$launcher.new"
"$launcher.new" --version >>"$cache/apt.log" 2>&1 || skip "it does not run here, see $cache/apt.log"
mv "$launcher.new" "$launcher"
rm -rf "$apt/archives"
echo "$launcher"
