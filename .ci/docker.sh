# A docker daemon for this shell, where none is reachable: to be sourced (`. .ci/docker.sh`), in bash.
#
# If this is root with apt-get, docker is installed and a daemon of this shell's own is started: without a bridge, so
# that it changes no network settings, with all its data in a temporary folder. DOCKER_HOST is set. When the shell
# ends, the daemon, its containers and its data go. Where it cannot be, that is said loudly, and the tests of the docker
# sandbox are skipped. Works under `set -euo pipefail`, reads no input, and never fails.

aem_docker_reachable() { command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1 </dev/null; }

aem_docker_missing() {
  printf '%s\n' "" "DOCKER IS NOT AVAILABLE: $1" "The tests of the docker sandbox are skipped." "" >&2
}

aem_docker_install() {
  command -v apt-get >/dev/null || return 1
  apt-get update -qq </dev/null >&2 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io debootstrap bubblewrap \
    </dev/null >&2
}

# Start a daemon with storage driver $1 in the folder $AEM_DOCKER_FOLDER; fails if it does not answer in time.
aem_docker_start() {
  local folder=$AEM_DOCKER_FOLDER waited
  setsid "$(PATH=$PATH:/usr/sbin command -v dockerd)" --data-root "$folder/root" --exec-root "$folder/exec" \
    -H "unix://$folder/docker.sock" --pidfile "$folder/pid" --iptables=false --ip6tables=false --bridge=none \
    --storage-driver="$1" >"$folder/log" 2>&1 </dev/null &
  AEM_DOCKER_PID=$!
  disown "$AEM_DOCKER_PID" 2>/dev/null || true
  for waited in $(seq 60); do
    if DOCKER_HOST="unix://$folder/docker.sock" aem_docker_reachable; then return 0; fi
    [ -e "/proc/$AEM_DOCKER_PID" ] || return 1
    sleep 0.5
  done
  return 1
}

aem_docker_stop() {
  local folder=${AEM_DOCKER_FOLDER:-} pid waited mounted
  [ -n "$folder" ] && [ -d "$folder" ] || return 0
  if [ -S "$folder/docker.sock" ]; then
    { DOCKER_HOST="unix://$folder/docker.sock" timeout 20 docker ps -aq |
      DOCKER_HOST="unix://$folder/docker.sock" xargs -r timeout 60 docker rm -f -v; } >/dev/null 2>&1 </dev/null || true
  fi
  pid=$(cat "$folder/pid" 2>/dev/null || echo "${AEM_DOCKER_PID:-}")
  if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then
    for waited in $(seq 100); do
      [ -e "/proc/$pid" ] || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  fi
  while read -r _ mounted _; do
    case $mounted in "$folder"/*) umount -l "$mounted" 2>/dev/null || true ;; esac
  done </proc/mounts
  rm -rf "$folder" || true
  AEM_DOCKER_FOLDER=
}

aem_docker_at_exit() { # the command of an EXIT trap, as `trap -p` gives it: trap -- 'command' EXIT
  # shellcheck disable=SC2064
  trap "aem_docker_stop; ${3:-:}" EXIT
}

aem_docker() {
  if aem_docker_reachable; then return 0; fi
  if [ "$(id -u)" != 0 ]; then
    aem_docker_missing "no daemon is reachable at ${DOCKER_HOST:-the usual socket}, and only root can start one."
    return 0
  fi
  if ! { command -v docker && PATH=$PATH:/usr/sbin command -v dockerd; } >/dev/null && ! aem_docker_install; then
    aem_docker_missing "it could not be installed (apt-get install docker.io)."
    return 0
  fi
  AEM_DOCKER_FOLDER=$(mktemp -d /tmp/aem-docker.XXXXXX) || return 0
  eval "aem_docker_at_exit $(trap -p EXIT)"
  # overlay2 needs a file system that can lie under an overlay; vfs copies instead, which is slow and always works.
  if aem_docker_start overlay2 || aem_docker_start vfs; then
    export DOCKER_HOST="unix://$AEM_DOCKER_FOLDER/docker.sock"
    return 0
  fi
  aem_docker_missing "the daemon did not start: $(tail -n 3 "$AEM_DOCKER_FOLDER/log" 2>/dev/null || true)"
  aem_docker_stop
}

aem_docker || true
