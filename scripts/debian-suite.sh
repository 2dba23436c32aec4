# Sourced: packages of another Debian suite than this system's, unpacked without installing them. apt gets a configuration
# of its own, so that the system stays as it is; needs no root.
#
#   use_debian_suite SUITE DIRECTORY     makes the configuration, fetches the lists and exports APT_CONFIG
#   debian_suite_reason DIRECTORY        why packages cannot be had; empty when they can
#
# Both print nothing else; apt's own words go to DIRECTORY/log.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

debian_suite_reason() {
  if ! command -v apt-get >/dev/null; then
    echo 'this system has no apt-get'
  elif [ ! -r "$debian_keyring" ]; then
    echo "$debian_keyring is missing"
  elif ! mkdir -p "$1" 2>/dev/null || [ ! -w "$1" ]; then
    echo "$1 cannot be written"
  fi
}

use_debian_suite() {
  apt="$2/apt"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  : >"$apt/status"
  # The mirror that this machine uses for Debian itself.
  # shellcheck disable=SC2016 # $(REPO_URI) is for apt-get
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$') || mirror=http://deb.debian.org/debian/
  echo "deb [signed-by=$debian_keyring] $mirror $1 main" >"$apt/sources.list"
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
  apt-get -q update >>"$2/log" 2>&1
}
