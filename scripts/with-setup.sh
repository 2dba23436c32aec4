#!/bin/sh
# Sets up what a command of package.json needs, says what it does and why, then runs it. Works on a bare
# Debian 12 with Node 20 and npm; a second run finds everything there and starts in seconds.
set -eu
cd "$(dirname "$0")/.."
command=${1:?usage: with-setup.sh demo|test|bench|package [arguments]}
shift

say() { printf 'latchkey: %s\n' "$*" >&2; }

# npm packages, Node 24 among them: the lock file decides whether they are the right ones.
stamp=node_modules/.latchkey-setup
if [ ! -x node_modules/.bin/node ] || ! cmp -s package-lock.json "$stamp"; then
  say 'installing npm packages, with Node.js 24 among them (npm ci)'
  # Without scripts: where the only native package cannot be compiled, npm would silently leave it out.
  npm ci --ignore-scripts --loglevel=error --no-progress
  cp package-lock.json "$stamp"
fi
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

needs_everything() { [ "$command" = test ] || [ "$command" = bench ]; }

# Debian packages, each with what it is for.
needed() {
  if [ "$command" = package ]; then
    echo 'dpkg|builds the Debian packages (dpkg-deb)'
    return
  fi
  cat <<'LIST'
containerd|runs the containers, started separately from any containerd of this machine
runc|starts each container
docker-registry|holds the images, on a free port of the loopback
LIST
  ! needs_everything || cat <<'LIST'
skopeo|encrypts and decrypts images as an independent peer
buildah|encrypts and decrypts images as an independent peer
gpg|holds the keyring of PGP recipients
gpg-agent|holds the private keys of PGP recipients
softhsm2|is a PKCS#11 token in software
zstd|unpacks layers as an independent peer
g++|compiles the optional PKCS#11 support
make|compiles the optional PKCS#11 support
apache2-utils|makes password files for the registry (htpasswd)
postgresql|is the database of several key servers, started separately from any PostgreSQL of this machine
systemd|checks the text of the service (systemd-analyze)
openssl|makes and reads keys as an independent peer
python3|runs the auditor's own check of the audit log
patchelf|lets programs of Debian 13 run here
qemu-user-static|runs what is built for arm64
conmon|is a part of podman, without which it does not start
erofs-utils|packs layers for the compressed plaintext store
gocryptfs|encrypts the plaintext store on a disk
fuse3|is a part of gocryptfs, without which it does not start
e2fsprogs|makes the file system of that store
attr|writes extended attributes of test layers (setfattr)
libcap2-bin|writes capabilities of test layers (setcap)
netavark|is a part of podman and buildah, without which they do not start
LIST
}

missing=''
if command -v dpkg-query >/dev/null 2>&1; then
  while IFS='|' read -r package purpose; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
      say "needs the Debian package $package: it $purpose"
      missing="$missing $package"
    fi
  done <<LIST
$(needed)
LIST
else
  say 'this is not a Debian system; what is not installed is reported where it is needed'
fi

if [ -n "$missing" ]; then
  install="apt-get install --yes --no-install-recommends$missing"
  if [ "$(id -u)" != 0 ]; then
    say "run this first, then try again: sudo apt-get update && sudo $install"
    [ "$command" = test ] || exit 78
  else
    say "installing:$missing"
    # Without this Debian would start the packages' services, on ports and sockets that are not ours.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      trap 'exit 130' INT TERM
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # words of the command are meant to be split
    $install -qq >/dev/null
  fi
fi

# The contents of the demo's and the tests' images are Debian packages as well, unpacked without installing them.
if [ "$command" != package ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
  ! apt-get download --print-uris nginx >/dev/null 2>&1; then
  say "fetching Debian's package lists (apt-get update)"
  apt-get update -qq
fi

# Node's own header files: they come with most of its packages, and those of another major do for Node-API.
node_headers() {
  for prefix in /usr /usr/local "$(dirname "$(dirname "$(command -v npm)")")" "$PWD/.cache/node-headers/usr"; do
    if [ -e "$prefix/include/node/node_api.h" ]; then
      echo "$prefix"
      return
    fi
  done
  return 1
}

# Debian's are unpacked only: installed, they would bring an old Node.js along.
fetch_node_headers() {
  say "fetching Node's header files from Debian's package libnode-dev into .cache"
  mkdir -p .cache/node-headers
  (cd .cache/node-headers && apt-get download -qq -o APT::Sandbox::User= libnode-dev &&
    dpkg-deb --extract libnode-dev_*.deb . && rm libnode-dev_*.deb)
}

compile_pkcs11() {
  for program in g++ make python3; do
    command -v "$program" >/dev/null || return
  done
  node_headers >/dev/null || fetch_node_headers || return
  say 'compiling the optional PKCS#11 support (pkcs11js)'
  npm rebuild pkcs11js --nodedir="$(node_headers)" --loglevel=error >/dev/null
}

# The one native package; without it everything but PKCS#11 works.
if needs_everything && [ ! -e node_modules/pkcs11js/build/Release/pkcs11.node ] && ! compile_pkcs11; then
  say 'PKCS#11 could not be compiled'
  [ -z "${CI:-}" ] || exit 1
  say 'it does not work here, and its tests are skipped'
fi

# The peers that know key providers; it says what it fetches, or why it cannot. In CI no test may be skipped.
if needs_everything && ! sh scripts/fetch-peer-tools.sh; then
  [ -z "${CI:-}" ] || exit 1
  say 'the tests and benchmarks that need them are skipped'
fi

if [ "$command" = test ] && ! sh scripts/fetch-containerd-versions.sh; then
  [ -z "${CI:-}" ] || exit 1
  say 'the tests on it are skipped'
fi

# The command in one file, which starts in half the time. Sources that are newer than it run as they are.
node scripts/bundle.ts

case $command in
  demo)
    if [ "$(id -u)" != 0 ]; then
      say 'the demo starts containers and so needs root: sudo npm run demo'
      exit 78
    fi
    node scripts/demo.ts "$@"
    ;;
  test)
    [ "$(id -u)" = 0 ] || say 'without root the tests that start containers are skipped'
    eslint .
    prettier --check --log-level warn .
    tsc --noEmit
    vitest run "$@"
    ;;
  bench) node bench/run.ts "$@" ;;
  package) node scripts/package.ts "$@" ;;
  *)
    say "unknown command: $command"
    exit 2
    ;;
esac
