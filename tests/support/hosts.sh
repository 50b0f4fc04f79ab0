#!/usr/bin/env bash
# Test hosts: real sshd servers, each with its own network, processes, files, hostname and boot id.
#
# One *rack* is a pid, network and mount namespace; the hosts live inside it (hosts/inside.sh), so that killing the rack's
# first process ends everything, and the kernel takes interfaces and mounts away with it. The machine itself sees one
# interface (lfhB, an address of 198.18.0.0/15) and the state folder. The interface is also the claim: a rack owns the
# block of 1022 addresses whose interface it could create, so any number of test programs run side by side.
#
# `serve` is tied to its standard input: when whoever holds the other end dies, even by SIGKILL, everything goes.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
inside=$here/hosts/inside.sh
state=${LANDFALL_HOSTS_STATE:-${TMPDIR:-/tmp}/landfall-hosts}

usage() {
  cat >&2 <<'USAGE'
usage: hosts.sh COMMAND [--state DIR] ...
  up N [options]          start N hosts, leave them running until `down`
  serve N [options]       the same in the foreground, until standard input ends
      --shell dash|busybox|bash|mksh   what /bin/sh is        --shell-of HOST=SHELL   on one host
      --sshd "Option value"            a line of sshd_config  --sshd-of "HOST=Option value"
      --user root|deploy (of the HostGroup)  --port 22  --disk-mib 64  --disk-inodes 16384
      --disk-mib 0 puts the files of the hosts into the state folder, on whatever disk that is (no fill, no drain)
  down                    stop all, remove the state folder
  list                    name, address and port of each host
  yaml NAMESPACE GROUP    HostGroup and Secrets for kubectl apply -f -
  known-hosts             the keys that the hosts have now (the file known_hosts keeps the first ones)
  exec HOST CMD...        run CMD on the host, not over SSH
  reboot HOST             kill everything, new boot id; /srv, /root and /home stay
  freeze HOST | thaw HOST      stop all its processes; connections are accepted and silent
  cut HOST                drop every packet, both ways, without a word
  refuse HOST             end the listening sshd: connections are refused, sessions live on
  mute HOST               stop the listening sshd: connections are accepted and silent, sessions live on
  hangup HOST             end every SSH session
  slow HOST RATE          what is sent to it arrives at RATE (tc's words: 8kbit, 1mbit)
  mend HOST               undo cut, refuse, mute and slow
  fill HOST [KIB]         leave KIB (0) free on its disk      fill-inodes HOST    leave no inode
  drain HOST              undo fill and fill-inodes
  rekey HOST              new host keys
  pid-next HOST PID [CMD...]   the next process (CMD) gets this pid
USAGE
  exit 2
}

fail() { printf 'hosts.sh: %s\n' "$*" >&2; exit 1; }

need_tools() {
  local tool missing=()
  export PATH=$PATH:/usr/sbin:/sbin
  for tool in sshd ssh-keygen unshare nsenter setpriv setsid flock ip iptables mount; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} = 0 ] || fail "missing on this machine: ${missing[*]}. Run scripts/install-test-tools.sh as root."
  [ "$(id -u)" = 0 ] || fail "test hosts need root: namespaces, mounts and interfaces are made for them"
  unshare -m -n -p -u -i -f true || fail "this machine does not allow namespaces (unshare failed); run where CAP_SYS_ADMIN is given"
}

# ---- starting -----------------------------------------------------------------------------------------------------------

parse_options() {
  shells=() sshds=() user=root port=22 shell=dash sshd_line='' disk_mib=64 disk_inodes=16384
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
      --shell) shell=$2 ;;
      --shell-of) shells+=("$2") ;;
      --sshd) sshd_line+=$2$'\n' ;;
      --sshd-of) sshds+=("$2") ;;
      --user) user=$2 ;;
      --port) port=$2 ;;
      --disk-mib) disk_mib=$2 ;;
      --disk-inodes) disk_inodes=$2 ;;
      *) usage ;;
    esac
    shift 2
  done
}

# The folder is ours as long as its lock is held; one without a holder is left over from a killed machine or rack.
claim_state() {
  if [ -e "$state" ]; then
    [ -e "$state/lock" ] || fail "$state exists and is not a state folder of test hosts; name another with --state"
    exec 9>>"$state/lock"
    flock -n 9 || fail "hosts are up in $state already; end them with: $0 down --state $state"
    rm -rf -- "$state"
  fi
  mkdir -p -- "$state"
  exec 9>"$state/lock"
  flock -n 9 || fail "another hosts.sh took $state"
  chmod 755 "$state"
}

# Sets block and base (the block's first address as a number); the kernel answers who was first.
claim_network() {
  local try first=$((RANDOM % 128)) message
  for try in {0..127}; do
    block=$(((first + try) % 128))
    if message=$(ip link add "lfh$block" type veth peer name uplink netns "$1" 2>&1); then
      base=$(((198 << 24) + (18 << 16) + block * 1024))
      ip addr add "$(address 1)/22" dev "lfh$block"
      # Where the machine has no IPv6, the hosts have none either.
      ip addr add "fd6c:66::$(address 1)/118" dev "lfh$block" nodad 2>/dev/null || :
      ip link set "lfh$block" up
      return
    fi
    case $message in *exists*) ;; *) fail "ip link add: $message" ;; esac
  done
  fail "all 128 networks of 198.18.0.0/15 are in use (ip link shows them as lfh...); end some hosts"
}

address() {
  local n=$((base + $1))
  echo "$((n >> 24)).$((n >> 16 & 255)).$((n >> 8 & 255)).$((n & 255))"
}

write_plan() {
  local i name item count=$1
  ssh-keygen -q -t ed25519 -N '' -C 'test operator' -f "$state/identity"
  ssh-keygen -q -t ed25519 -N '' -C 'authorized nowhere' -f "$state/stranger"
  for ((i = 1; i <= count; i++)); do
    printf -v name 'web-%02d' "$i"
    mkdir -p "$state/hosts/$name"/{etc,disk}
    printf '%s\n' "$shell" >"$state/hosts/$name/shell"
    printf '%s' "$sshd_line" >"$state/hosts/$name/sshd_extra"
    printf '%s\t%s\t%s\n' "$name" "$(address "$((i + 1))")" "$port"
  done >"$state/list"
  for item in ${shells[@]+"${shells[@]}"}; do
    printf '%s\n' "${item#*=}" >"$(folder "${item%%=*}")/shell"
  done
  for item in ${sshds[@]+"${sshds[@]}"}; do
    printf '%s\n' "${item#*=}" >>"$(folder "${item%%=*}")/sshd_extra"
  done
  cp "$inside" "$state/inside.sh"
  printf '%s\n' "$user" >"$state/user"
  printf '%s\n' "$disk_mib $disk_inodes $port $(address 1)" >"$state/settings"
}

teardown() {
  trap '' TERM INT HUP
  [ -z "${watch:-}" ] || kill -KILL "$watch" 2>/dev/null || true
  [ -z "${rack:-}" ] || kill -KILL "$rack" 2>/dev/null || true
  [ -z "${rack_parent:-}" ] || wait "$rack_parent" 2>/dev/null || true
  [ -z "${block:-}" ] || ip link del "lfh$block" 2>/dev/null || true
  rm -rf -- "$state"
}

# serve COUNT attached|detached
serve() {
  local line
  claim_state
  trap teardown EXIT
  trap 'exit 0' TERM INT HUP
  echo $$ >"$state/serve.pid"
  mkfifo "$state/from-rack" "$state/to-rack"
  exec 7<>"$state/from-rack" 8<>"$state/to-rack"
  setpriv --pdeathsig KILL unshare -m -n -p -u -i -f --kill-child=KILL "$inside" rack "$state" </dev/null >"$state/log" 2>&1 &
  rack_parent=$!
  read -r -t 20 rack <&7 || fail "the rack did not start: $(tail -n 3 "$state/log")"
  claim_network "$rack"
  write_plan "$1"
  echo "$rack" >"$state/rack.pid"
  echo go >&8
  read -r -t $((30 + $1)) line <&7 || line="not all hosts came up in time: $(tail -n 3 "$state/log")"
  [ "$line" = ready ] || fail "$line"
  known_hosts >"$state/known_hosts"
  printf '%s\n' "$state"
  exec >/dev/null 2>>"$state/log"
  if [ "$2" = attached ]; then
    setpriv --pdeathsig KILL sh -c 'cat >/dev/null; kill -TERM '$$ <&0 &
    watch=$!
  fi
  wait "$rack_parent" || true
}

up() {
  local line
  # Its first line says that all are up; no line, that it failed and said why on standard error.
  read -r line < <(exec setsid "$0" serve-detached "$@" --state "$state" </dev/null) || exit 1
  echo "$(wc -l <"$line/list") hosts are up; state in $line; end them with: $0 down --state $line" >&2
}

down() {
  local pid
  [ -e "$state/lock" ] || { echo "no hosts are up in $state" >&2; return; }
  exec 9>>"$state/lock"
  if ! flock -n 9; then
    read -r pid <"$state/serve.pid"
    kill -TERM "$pid"
    flock -w 60 9 || fail "the hosts in $state did not end within a minute (process $pid)"
  fi
  rm -rf -- "$state"
}

# ---- looking --------------------------------------------------------------------------------------------------------------

folder() {
  [ -d "$state/hosts/$1" ] || fail "no host $1 in $state; there are: $(cut -f 1 "$state/list" | tr '\n' ' ')"
  printf '%s\n' "$state/hosts/$1"
}

known_hosts() {
  local name address port key shown
  while read -r name address port; do
    shown=$address
    [ "$port" = 22 ] || shown="[$address]:$port"
    for key in "$state/hosts/$name"/etc/ssh_host_*_key.pub; do
      printf '%s %s\n' "$shown" "$(cut -d ' ' -f 1,2 "$key")"
    done
  done <"$state/list"
}

yaml() {
  local name address port i=0 zones=(a b c)
  [ $# = 2 ] || usage
  cat <<EOT
apiVersion: v1
kind: Secret
metadata: { name: $2-identity, namespace: $1, labels: { use.landfall.dev/ssh: $2 } }
stringData:
  identity: |
$(sed 's/^/    /' "$state/identity")
---
apiVersion: v1
kind: Secret
metadata: { name: $2-known-hosts, namespace: $1, labels: { use.landfall.dev/ssh: $2 } }
stringData:
  known_hosts: |
$(sed 's/^/    /' "$state/known_hosts")
---
apiVersion: landfall.dev/v1alpha1
kind: HostGroup
metadata: { name: $2, namespace: $1 }
spec:
  ssh:
    user: $(cat "$state/user")
    port: $(cut -d ' ' -f 3 "$state/settings")
    credentialsRef: { name: $2-identity }
    hostKeys: { policy: Strict, knownHostsRef: { name: $2-known-hosts } }
  root: /srv/landfall
  hosts:
EOT
  while read -r name address port; do
    echo "    - { name: $name, address: $address, labels: { zone: ${zones[i++ % 3]} } }"
  done <"$state/list"
}

# ---- acting on one host ---------------------------------------------------------------------------------------------------

in_rack() {
  local pid
  [ -e "$state/rack.pid" ] || fail "no hosts are up in $state"
  read -r pid <"$state/rack.pid"
  exec 9>&-
  exec nsenter -t "$pid" -m -n -p -- "$inside" "$command" "$state" "$@"
}

command=${1:-}
[ -n "$command" ] || usage
shift
arguments=()
while [ $# -gt 0 ]; do
  # What follows the host's name in exec and pid-next belongs to the command there.
  case $command:${#arguments[@]} in exec:1 | pid-next:2) arguments+=("$@"); break ;; esac
  if [ "$1" = --state ]; then state=${2:?--state needs a folder}; shift 2; else arguments+=("$1"); shift; fi
done
set -- ${arguments[@]+"${arguments[@]}"}
case $state in /*) ;; *) state=$PWD/$state ;; esac

case $command in
  up | serve | serve-detached)
    case ${1:-} in '' | *[!0-9]* | 0) usage ;; esac
    [ "$1" -le 1000 ] || fail "at most 1000 hosts"
    need_tools
    if [ "$command" = up ]; then up "$@"; exit; fi
    count=$1
    shift
    parse_options "$@"
    case $command in serve) serve "$count" attached ;; *) serve "$count" detached ;; esac
    ;;
  down) down ;;
  list) cat "$state/list" ;;
  yaml) yaml "$@" ;;
  known-hosts) known_hosts ;;
  exec | reboot | freeze | thaw | cut | refuse | mute | hangup | slow | mend | fill | fill-inodes | drain | rekey | pid-next)
    [ $# -ge 1 ] || usage
    folder "$1" >/dev/null
    in_rack "$@"
    ;;
  *) usage ;;
esac
