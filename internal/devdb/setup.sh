#!/usr/bin/env bash
# setup.sh [pgbouncer | browser | polish]: gives this machine a database that internal/devdb can use, and says beforehand what it installs.
# `make setup` runs it. With pgbouncer it gives this program instead, for `make test-pgbouncer`; with browser a browser that
# runs without a screen, for the test of a page: `make setup-browser`; with polish the dictionary that PostgreSQL finds Polish
# words by: `make setup-polish`.
#
# It installs nothing where there is one already: HINDSIGHT_DATABASE_URL, PostgreSQL 15 or later with pgvector, or a
# Docker engine with the image. Else, on Debian and Ubuntu, it installs PostgreSQL and pgvector from the distribution.
# HINDSIGHT_DATABASE_FROM=docker or =local asks for that source alone, as it does in internal/devdb.
set -euo pipefail

image=${HINDSIGHT_TEST_IMAGE:-pgvector/pgvector:pg17}
from=${HINDSIGHT_DATABASE_FROM:-}
oldest=15
what=${1:-database}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

within() { # macOS has no timeout(1)
  local seconds=$1; shift
  if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi
}

# --- what is here already ---------------------------------------------------------------------------------------------

# Prints the directories that may hold a server's binaries: the places internal/devdb looks in (find.go).
bin_dirs() {
  { pg_config --bindir 2>/dev/null || true
    if command -v postgres >/dev/null; then dirname "$(readlink -f "$(command -v postgres)")"; fi
    ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin 2>/dev/null || true
  } | sort -u
}

major() { "$1/postgres" --version 2>/dev/null | sed -nE 's/^[^0-9]*([0-9]+).*/\1/p'; }

# Prints the newest usable major version of a server, or nothing; with an argument, only of those with pgvector.
newest_server() {
  local dir version share best=0
  while read -r dir; do
    if [ ! -x "$dir/postgres" ] || [ ! -x "$dir/initdb" ]; then continue; fi
    version=$(major "$dir")
    if [ "${version:-0}" -lt "$oldest" ] || [ "$version" -le "$best" ]; then continue; fi
    if [ "${1:-}" = with-pgvector ]; then
      share=$("$dir/pg_config" --sharedir 2>/dev/null) || share=/usr/share/postgresql/$version
      [ -e "$share/extension/vector.control" ] || continue
    fi
    best=$version
  done < <(bin_dirs)
  [ "$best" = 0 ] || echo "$best"
}

docker_has_image() {
  command -v docker >/dev/null && within 5 docker version >/dev/null 2>&1 || return 1
  docker image inspect "$image" >/dev/null 2>&1 && return 0
  say "a Docker engine answers; fetching the image $image"
  within 600 docker pull --quiet "$image" >/dev/null 2>&1 && return 0
  say "the image $image could not be fetched"
  return 1
}

nothing_to_do() { say "nothing to do: $*"; exit 0; }

look_for_database() {
  case $from in '' | docker | local) ;; *) die "HINDSIGHT_DATABASE_FROM is \"$from\"; it may be docker or local" ;; esac
  [ -z "$from" ] && [ -n "${HINDSIGHT_DATABASE_URL:-}" ] && nothing_to_do "HINDSIGHT_DATABASE_URL names a database"
  if [ "$from" != docker ]; then
    version=$(newest_server with-pgvector)
    [ -n "$version" ] && nothing_to_do "PostgreSQL $version with pgvector is on this machine"
  fi
  if [ "$from" != local ]; then
    docker_has_image && nothing_to_do "a Docker engine answers and has the image $image"
  fi
  [ "$from" != docker ] || die "HINDSIGHT_DATABASE_FROM=docker, and no Docker engine with the image $image answers: start one"
}

case $what in
  database)
    look_for_database
    missing="no PostgreSQL $oldest or later with pgvector is on this machine, and no Docker engine with $image answers"
    otherwise=("Start Docker, or set HINDSIGHT_DATABASE_URL, or install PostgreSQL and pgvector yourself:"
      "  macOS:   brew install postgresql@17 pgvector"
      "  Fedora:  sudo dnf install postgresql-server pgvector")
    ;;
  pgbouncer)
    if command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; then nothing_to_do "pgbouncer is on this machine"; fi
    missing="no pgbouncer is on this machine, and the tests are to run through one"
    otherwise=("Install it yourself:" "  macOS:   brew install pgbouncer" "  Fedora:  sudo dnf install pgbouncer")
    ;;
  browser)
    for program in chromium chromium-browser google-chrome google-chrome-stable chrome; do # as examples/timetravel looks for it
      if command -v "$program" >/dev/null; then nothing_to_do "$program is on this machine"; fi
    done
    missing="no Chromium or Chrome is on this machine, and a test is to open a page in one"
    otherwise=("Install one yourself:" "  macOS:   brew install --cask google-chrome" "  Fedora:  sudo dnf install chromium")
    ;;
  polish)
    for file in /usr/share/postgresql/*/tsearch_data/pl_pl.affix; do
      if [ -e "$file" ]; then nothing_to_do "the server has $file"; fi
    done
    missing="no PostgreSQL on this machine has a Polish dictionary, and Polish words are to be found by their stems"
    otherwise=("Put hunspell's pl_PL.dic and pl_PL.aff into the server's tsearch_data as pl_pl.dict and pl_pl.affix, in UTF-8")
    ;;
  *) die "usage: setup.sh [pgbouncer | browser | polish]" ;;
esac

# --- who may install, and where ---------------------------------------------------------------------------------------

release() { sed -nE "s/^$1=\"?([^\"]*)\"?$/\1/p" /etc/os-release 2>/dev/null || true; }

if ! command -v apt-get >/dev/null; then
  die "$missing. This script installs on Debian and Ubuntu only." "${otherwise[@]}"
fi
if [ "$(id -u)" != 0 ]; then
  self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    exec sudo -n env HINDSIGHT_DATABASE_FROM=local bash "$self" "$@"
  fi
  die "$missing; installing it needs root. Run: sudo bash $self $*" "Or:" "${otherwise[@]}"
fi

# --- installing -------------------------------------------------------------------------------------------------------

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
chmod 755 "$work" # apt drops its rights to a user of its own while it downloads

quietly() { # runs a command; its output is shown only when it fails
  if "$@" >"$log" 2>&1; then return 0; fi
  tail -n 30 "$log" >&2
  die "this command did not succeed: $*"
}

apt() {
  quietly env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

# Prints the major version to install from the archive's own pgvector packages: a server's that is here, else the newest.
archive_version() {
  local versions installed
  versions=$(apt-cache search --names-only '^postgresql-[0-9]+-pgvector$' | sed -nE 's/^postgresql-([0-9]+)-.*/\1/p' | sort -n | awk -v oldest=$oldest '$1 >= oldest')
  installed=$(newest_server)
  if [ -n "$installed" ] && grep -qx "$installed" <<<"$versions"; then echo "$installed"; else tail -n 1 <<<"$versions"; fi
}

# Writes an apt source for the named suite's source packages, derived from the entries of this machine's own release.
source_entries() {
  local suite=$1 codename=$2 file
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    awk -v suite="$suite" -v codename="$codename" '
      function flush() { if (stanza != "" && ours && !off) printf "%s\n", stanza; stanza = ""; ours = 0; off = 0 }
      /^[[:space:]]*$/ { flush(); next }
      /^#/ { next }
      tolower($0) ~ /^types:/ { stanza = stanza "Types: deb-src\n"; next }
      tolower($0) ~ /^suites:/ { for (i = 2; i <= NF; i++) if ($i == codename) ours = 1; stanza = stanza "Suites: " suite "\n"; next }
      tolower($0) ~ /^enabled:[[:space:]]*(no|false|0)/ { off = 1 }
      { stanza = stanza $0 "\n" }
      END { flush() }' "$file"
  done >"$work/source.sources"
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk -v suite="$suite" -v codename="$codename" '
      $1 == "deb" { for (i = 2; i < NF; i++) if ($i == codename) { $1 = "deb-src"; $i = suite; print; break } }' >"$work/source.list" || true
  if [ -s "$work/source.sources" ]; then echo "$work/source.sources"; else echo "$work/source.list"; fi
}

# Builds pgvector from the source package of the next Debian: its binary package would bring that release's libc along.
build_pgvector() {
  local version=$1 entries
  entries=$(source_entries trixie bookworm)
  [ -s "$entries" ] || die "apt's sources name no bookworm archive to derive a source package's from; start Docker, or set HINDSIGHT_DATABASE_URL"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/source"
  chown -R _apt "$work/lists" "$work/cache" "$work/source" 2>/dev/null || true
  # Own lists and cache: the machine's stay as they are.
  local own=(-o "Dir::Etc::sourcelist=$entries" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache")
  apt "${own[@]}" update
  cd "$work/source"
  apt "${own[@]}" source pgvector
  cd pgvector-*/
  # Without -march=native and LLVM bitcode: it works on another CPU of the same kind, and needs no clang.
  local make=(make "PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config" OPTFLAGS= with_llvm=no)
  quietly "${make[@]}"
  quietly "${make[@]}" install
  cd /
}

# Installs the program alone: the tests start it themselves, and a service of the package's own would stay on port 6432.
install_pgbouncer() {
  say "installing pgbouncer: the connection pooler; its own service is not started"
  local policy=/usr/sbin/policy-rc.d # Debian's way to forbid the start, which a machine may have closed already
  if [ ! -e "$policy" ]; then
    trap 'rm -rf "$work" "'"$policy"'"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt install --no-install-recommends pgbouncer
  update-rc.d pgbouncer disable >/dev/null 2>&1 || true # nor at the next boot
  say "done: $(/usr/sbin/pgbouncer --version | head -n 1) is on this machine"
  exit 0
}

# Debian names its package chromium, Ubuntu chromium-browser.
install_browser() {
  local package
  package=$(apt-cache search --names-only '^chromium(-browser)?$' | awk 'NR == 1 { print $1 }')
  [ -n "$package" ] || die "$missing, and $(release PRETTY_NAME) has no package of it" "${otherwise[@]}"
  say "installing $package: the browser (a few hundred MB with what it needs); nothing is started"
  apt install --no-install-recommends "$package"
  say "done: $("$package" --version 2>/dev/null | head -n 1) is on this machine"
  exit 0
}

# The package's trigger makes the files for the servers that are here; where there is none yet, the server's package does.
install_polish() {
  say "installing hunspell-pl: the Polish dictionary (8 MB), which PostgreSQL's packages convert for its servers"
  apt install --no-install-recommends hunspell-pl
  if command -v pg_updatedicts >/dev/null; then quietly pg_updatedicts; fi
  say "done: PostgreSQL's servers on this machine have a Polish dictionary"
  exit 0
}

say "$missing"
say "reading the package lists (apt-get update)"
apt update
case $what in
  pgbouncer) install_pgbouncer ;;
  browser) install_browser ;;
  polish) install_polish ;;
esac
version=$(archive_version)
if [ -n "$version" ]; then
  say "installing postgresql-$version and postgresql-$version-pgvector: the server, and vector search in it"
  say "(the package may start a server of its own on port 5432; Hindsight does not use it)"
  apt install --no-install-recommends "postgresql-$version" "postgresql-$version-pgvector"
elif [ "$(release VERSION_CODENAME)" = bookworm ]; then
  version=15
  say "installing postgresql-$version, and postgresql-server-dev-$version, gcc, make and dpkg-dev to build pgvector with; g++ for a test with DuckDB:"
  say "this release has no pgvector package, so the source package of the next one (trixie) is built and installed"
  say "(the package may start a server of its own on port 5432; Hindsight does not use it)"
  apt install --no-install-recommends "postgresql-$version" "postgresql-server-dev-$version" gcc g++ libc6-dev make dpkg-dev
  build_pgvector "$version"
else
  die "$(release PRETTY_NAME) has no pgvector package for PostgreSQL $oldest or later: start Docker, or set HINDSIGHT_DATABASE_URL"
fi

[ -n "$(newest_server with-pgvector)" ] || die "everything is installed, and still no server with pgvector is found"
say "done: PostgreSQL $version with pgvector is on this machine"
