#!/usr/bin/env bash
# docker-engine.sh [start|stop]: a Docker engine with the test image, for a run of the tests with Docker. `make test-docker` runs it.
#
# start (the default) uses the engine that answers. Where none does, as root on Debian or Ubuntu, it installs docker.io
# and runs dockerd by hand. Then it sees to the image: present, pulled, or built by HINDSIGHT_TEST_IMAGE_BUILDER.
# Standard output is `export` lines for the shell that runs the tests, and nothing else:
#
#   settings=$(internal/devdb/docker-engine.sh) && eval "$settings" && go test ./...
#
# stop ends the engine that start has started, and no other; its images stay for the next time.
#
# HINDSIGHT_TEST_IMAGE          the image; defaults to pgvector/pgvector:pg17
# HINDSIGHT_TEST_IMAGE_BUILDER  a command that builds the image it gets as its argument, for machines that reach no registry
# HINDSIGHT_DOCKER_DIR          the engine's data, log and pid file; defaults to /var/lib/hindsight-docker
set -euo pipefail

image=${HINDSIGHT_TEST_IMAGE:-pgvector/pgvector:pg17}
builder=${HINDSIGHT_TEST_IMAGE_BUILDER:-}
dir=${HINDSIGHT_DOCKER_DIR:-/var/lib/hindsight-docker}
pidfile=$dir/dockerd.pid
log=$dir/dockerd.log

say() { printf 'docker-engine: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

answers() { command -v docker >/dev/null && timeout 5 docker version >/dev/null 2>&1; }

# Prints the process id of the engine that we started, if it runs.
our_engine() {
  local pid
  pid=$(cat "$pidfile" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

install() { # says so beforehand; apt's output is shown only when it fails
  local packages=("$@") output
  command -v apt-get >/dev/null || die "${packages[*]} should be installed, and this is neither Debian nor Ubuntu: start a Docker engine yourself"
  [ "$(id -u)" = 0 ] || die "${packages[*]} should be installed, which needs root: run it as root, or start a Docker engine yourself"
  say "installing ${packages[*]} for the tests with Docker"
  output=$(mktemp)
  if ! { apt-get -q update && apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${packages[@]}"; } \
    >"$output" 2>&1 </dev/null; then
    tail -n 30 "$output" >&2
    rm -f "$output"
    die "apt-get did not succeed"
  fi
  rm -f "$output"
}

start_engine() {
  if [ -n "${DOCKER_HOST:-}" ]; then die "no engine answers at DOCKER_HOST=$DOCKER_HOST"; fi
  if ! command -v dockerd >/dev/null; then
    install docker.io iptables
    answers && return # where there is systemd, the package has started it
  fi
  [ "$(id -u)" = 0 ] || die "no engine answers, and starting one needs root"
  say "starting dockerd; its data and log are in $dir"
  mkdir -p "$dir"
  setsid dockerd --data-root "$dir/data" --pidfile "$pidfile" >"$log" 2>&1 </dev/null &
  local dockerd=$! tries=0
  until answers; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 "$dockerd" 2>/dev/null; then
      tail -n 20 "$log" >&2
      die "dockerd did not come up"
    fi
    sleep 0.2
  done
}

ensure_image() {
  docker image inspect "$image" >/dev/null 2>&1 && return
  local patience=600
  if [ -n "$builder" ]; then patience=20; fi # there is another way
  say "pulling $image"
  timeout $patience docker pull --quiet "$image" >/dev/null 2>&1 && return
  [ -n "$builder" ] || die "$image cannot be pulled: load it, or name a builder in HINDSIGHT_TEST_IMAGE_BUILDER"
  command -v debootstrap >/dev/null || install debootstrap
  say "it cannot be pulled; building it with $builder"
  "$builder" "$image" >&2
  docker image inspect "$image" >/dev/null || die "$builder built no $image"
}

case ${1:-start} in
  start)
    export DEBIAN_FRONTEND=noninteractive
    if answers; then say "an engine answers"; else start_engine; fi
    ensure_image
    echo "export HINDSIGHT_DATABASE_FROM=docker"
    if [ -n "$(our_engine)" ]; then
      # Our engine may reach no registry for testcontainers' reaper, and its ports are on this machine, even where this
      # machine is a container, which testcontainers takes for a guest of the engine.
      echo "export TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1"
    fi
    ;;
  stop)
    pid=$(our_engine) || { say "no engine of ours runs"; exit 0; }
    kill "$pid"
    timeout 60 tail --pid="$pid" -f /dev/null || die "dockerd ($pid) does not stop"
    rm -f "$pidfile"
    say "stopped"
    ;;
  *) die "usage: docker-engine.sh [start|stop]" ;;
esac
