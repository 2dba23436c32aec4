#!/bin/sh
# Sets up what a command of package.json needs, says what it does and why, then runs it. Works on a bare
# Debian 12 with Node 20 and npm; a second run finds everything there and starts in seconds.
set -eu
cd "$(dirname "$0")/.."
command=${1:?usage: with-setup.sh demo|test|bench [arguments]}
shift

say() { printf 'latchkey: %s\n' "$*" >&2; }

# npm packages, Node 24 among them: the lock file decides whether they are the right ones.
stamp=node_modules/.latchkey-setup
if [ ! -x node_modules/.bin/node ] || ! cmp -s package-lock.json "$stamp"; then
  say 'installing npm packages, with Node.js 24 among them (npm ci)'
  npm ci --loglevel=error --no-progress
  cp package-lock.json "$stamp"
fi
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

# Debian packages, each with what it is for.
needed() {
  cat <<'LIST'
containerd|runs the containers, started separately from any containerd of this machine
runc|starts each container
docker-registry|holds the images, on a free port of the loopback
LIST
  [ "$command" = demo ] || cat <<'LIST'
skopeo|encrypts and decrypts images as an independent peer
apache2-utils|makes password files for the registry (htpasswd)
openssl|makes and reads keys as an independent peer
python3|runs the auditor's own check of the audit log
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
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # words of the command are meant to be split
    $install -qq >/dev/null
  fi
fi

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
    eslint . && prettier --check --log-level warn . && tsc --noEmit
    vitest run "$@"
    ;;
  bench) node bench/run.ts "$@" ;;
  *)
    say "unknown command: $command"
    exit 2
    ;;
esac
