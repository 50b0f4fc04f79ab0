#!/usr/bin/env bash
# What runs inside a rack of test hosts; started by hosts.sh only. Three nested layers, each ended with the one above:
#   rack     pid 1 of the rack's namespaces: a bridge, and one *machine* for each host
#   machine  network namespace and disk of one host, which outlive its reboots
#   boot     pid 1 of the host itself: mounts, hostname, boot id, sshd, and reaping
# The rest are the acts on one host, entered from outside.
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf 'hosts: %s\n' "$*" >&2; }

# ---- rack -----------------------------------------------------------------------------------------------------------------

rack() {
  local pid name address port left=0 index=1 up=yes
  read -r pid _ </proc/self/stat # still the outer /proc: our pid as hosts.sh sees it
  exec 7<>"$state/from-rack" 8<>"$state/to-rack" 9>&-
  mount -t proc proc /proc
  echo "$pid" >&7
  read -r _ <&8
  ip -batch - <<EOT
link set lo up
link add br0 type bridge
link set br0 up
link set uplink master br0 up
EOT
  mkfifo "$state/came-up"
  exec 5<>"$state/came-up"
  common_etc
  while read -r name address port; do
    [ "$left" -lt "$at_once" ] || next_up || break
    index=$((index + 1)) left=$((left + 1))
    unshare -m -n -- "${BASH_SOURCE[0]}" machine "$state" "$name" "$address" "$index" 7>&- 8>&- &
  done <"$state/list"
  while [ "$left" -gt 0 ] && [ $up = yes ]; do next_up || break; done
  [ $up = no ] || echo ready >&7
  wait_forever
}

# Waits for one of the hosts that come up; at once many hundreds would pass each other's deadlines.
at_once=16
next_up() {
  local name line
  read -r name line <&5
  if [ "$line" != up ]; then up=no; echo "$name: $line" >&7; return 1; fi
  left=$((left - 1))
}

# A shell that blocks in read still reaps what is handed down to it; it is never woken.
wait_forever() {
  local fifo
  fifo=$(mktemp -u)
  mkfifo "$fifo"
  exec 3<>"$fifo"
  rm -f "$fifo"
  while :; do read -r _ <&3 || :; done
}

# ---- machine --------------------------------------------------------------------------------------------------------------

machine() {
  local name=$1 address=$2 index=$3 line init first=yes
  home=$state/hosts/$name
  settings
  ip -batch - <<EOT
link add eth0 type veth peer name h$index netns 1
link set lo up
addr add $address/22 dev eth0
link set eth0 up
route add default via $gateway
EOT
  ip addr add "fd6c:66::$address/118" dev eth0 nodad 2>/dev/null || :
  nsenter -t 1 -n -- ip link set "h$index" master br0 up
  mount --bind "$home" /mnt
  # Without a size the files lie in the state folder itself.
  [ "$disk_mib" = 0 ] || mount -t tmpfs -o "size=${disk_mib}m,nr_inodes=$disk_inodes,mode=755" disk /mnt/disk
  mkdir -p /mnt/disk/{srv,root,home/deploy}
  echo >/mnt/disk/.not-empty # a tmpfs of size 0 is one without bounds, see disk_full
  chmod 700 /mnt/disk/root
  chown 2000:2000 /mnt/disk/home/deploy
  # Programs of root's do not lie in somebody else's folder.
  if [ "$(<"$state/user")" = deploy ]; then chown 2000:2000 /mnt/disk/srv; fi
  write_etc "$name"
  new_keys
  mkfifo "$home/booted" "$home/rebooted"
  exec 4<>"$home/booted"
  echo $BASHPID >"$home/machine.pid"
  while :; do
    echo "$(</proc/sys/kernel/random/uuid)" >"$home/etc/boot_id"
    unshare -m -p -u -i -f --kill-child=KILL -- "${BASH_SOURCE[0]}" boot "$state" "$name" 5>&- </dev/null &
    if ! read -r -t 30 init line <&4 || [ "$line" != up ]; then
      echo "$name did not boot: ${line:-no answer in 30 s}" >&5
      wait_forever
    fi
    echo "$init" >"$home/init.pid"
    if [ $first = yes ]; then echo "$name up" >&5; first=no; else echo "$init" 1<>"$home/rebooted"; fi
    wait $! || true
  done
}

settings() { read -r disk_mib disk_inodes port gateway <"$state/settings"; }

# What is the same on every host, made once.
common_etc() {
  local etc=$state/etc
  mkdir -p "$etc"
  {
    grep -v -e '^root:' -e '^deploy:' -e '^app:' -e '^web:' /etc/passwd
    echo root:x:0:0:root:/root:/bin/sh
    echo deploy:x:2000:2000::/home/deploy:/bin/bash
    echo app:x:2001:2001::/nonexistent:/usr/sbin/nologin
    echo web:x:2002:2002::/nonexistent:/usr/sbin/nologin
  } >"$etc/passwd"
  { grep -v -e '^deploy:' -e '^app:' -e '^web:' /etc/group; printf '%s:\n' deploy:x:2000 app:x:2001 web:x:2002; } >"$etc/group"
  # Whom deploy may become: app, and not web. The defaults are Debian's.
  printf '%s\n' 'Defaults env_reset, use_pty' 'root ALL=(ALL:ALL) ALL' 'deploy ALL=(app) NOPASSWD: /bin/sh' >"$etc/sudoers"
  chmod 440 "$etc/sudoers"
  cut -d : -f 1 "$etc/passwd" | sed 's/$/:*:19000:0:99999:7:::/' >"$etc/shadow"
  chmod 640 "$etc/shadow"
  cp "$state/identity.pub" "$etc/authorized_keys"
  cp "$state/inside.sh" "$etc/inside.sh"
}

write_etc() {
  local etc=$home/etc
  cp "$state"/etc/* "$etc"
  echo "$1" >"$etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$1" >"$etc/hosts"
  # First value wins in sshd_config: what the test asked for comes first.
  cat >"$etc/sshd_config" <<EOT
$(<"$home/sshd_extra")
Port $port
HostKey /run/host/ssh_host_ed25519_key
HostKey /run/host/ssh_host_ecdsa_key
PidFile /run/sshd.pid
AuthenticationMethods publickey
AuthorizedKeysFile /run/host/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
LogLevel VERBOSE
EOT
}

new_keys() {
  rm -f "$home"/etc/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -C '' -f "$home/etc/ssh_host_ed25519_key"
  ssh-keygen -q -t ecdsa -N '' -C '' -f "$home/etc/ssh_host_ecdsa_key"
}

# ---- boot: the host's own pid 1 -------------------------------------------------------------------------------------------

boot() {
  local pid line name=$1 booted=/mnt/booted
  read -r pid _ </proc/self/stat # still the rack's /proc
  exec 4>&-
  if line=$(prepare_root "$name" 2>&1) && line=$(start_sshd 2>&1); then line=up; fi
  echo "$pid ${line//$'\n'/ }" 1<>"$booted"
  exec </dev/null >/dev/null 2>&1
  wait_forever
}

prepare_root() {
  local shell
  hostname "$1"
  mount -t proc proc /proc
  mount -t tmpfs -o mode=755,size=16m run /run
  mkdir -p /run/host /run/sshd /run/lock
  read -r shell </mnt/shell
  shell=$(command -v "$shell")
  # /tmp comes last: the state folder, and this script, may lie below it.
  cat >/run/fstab <<EOT
/mnt/etc /run/host none bind 0 0
/mnt/disk/srv /srv none bind 0 0
/mnt/disk/root /root none bind 0 0
/mnt/disk/home /home none bind 0 0
/mnt/etc/hostname /etc/hostname none bind 0 0
/mnt/etc/hosts /etc/hosts none bind 0 0
/mnt/etc/passwd /etc/passwd none bind 0 0
/mnt/etc/group /etc/group none bind 0 0
/mnt/etc/shadow /etc/shadow none bind 0 0
/mnt/etc/boot_id /proc/sys/kernel/random/boot_id none bind 0 0
$shell $(readlink -f /bin/sh) none bind 0 0
log /var/log tmpfs mode=755,size=16m 0 0
vartmp /var/tmp tmpfs mode=1777,size=16m 0 0
shm /dev/shm tmpfs mode=1777,size=16m 0 0
tmp /tmp tmpfs mode=1777,size=16m 0 0
EOT
  mount -a -T /run/fstab
  [ ! -e /etc/sudoers ] || mount --bind /mnt/etc/sudoers /etc/sudoers
  # The machine's own files are looked at, never written: a test that runs wild breaks nothing.
  mount -o remount,bind,ro /
}

# sshd writes its pid file once it listens: a fifo in that place tells the moment, without polling.
start_sshd() {
  local pid
  # Only what a test asked for can be wrong: the others save the time.
  [ ! -s /mnt/sshd_extra ] || /usr/sbin/sshd -t -f /run/host/sshd_config || return 1
  rm -f /run/sshd.pid
  mkfifo /run/sshd.pid
  (cd / && exec env -i PATH="$PATH" /usr/sbin/sshd -D -f /run/host/sshd_config -E /run/sshd.log </dev/null >/dev/null 2>&1) &
  if ! read -r -t 20 pid <>/run/sshd.pid; then
    echo "sshd did not start: $(tail -n 2 /run/sshd.log)"
    return 1
  fi
  rm -f /run/sshd.pid
  echo "$pid" >/run/sshd.listener
}

# ---- acts on one host, in the rack's namespaces ---------------------------------------------------------------------------

on_host() {
  local init
  read -r init <"$home/init.pid"
  nsenter -t "$init" -m -u -i -n -p -r -w -- "$@"
}

clean_env() { on_host env -i PATH="$PATH" HOME=/root USER=root LANG=C.UTF-8 "$@"; }

in_machine() {
  local pid
  read -r pid <"$home/machine.pid"
  nsenter -t "$pid" -m -n -- "$@"
}

reboot() {
  local init
  read -r init <"$home/init.pid"
  exec 6<>"$home/rebooted"
  kill -KILL "$init"
  read -r -t 40 _ <&6 || { say "the host did not come back: $(tail -n 2 "$state/log")"; exit 1; }
}

# The host's port of the rack's bridge: the first host has index 2.
port_of() { echo "h$((10#${1#web-} + 1))"; }

cut_off() {
  in_machine iptables -w -F
  in_machine iptables -w -A INPUT -i eth0 -j DROP
  in_machine iptables -w -A OUTPUT -o eth0 -j DROP
}

# $1: sshd-stop, sshd-pause or sshd-mend; runs as "inside.sh sshd-… -" on the host
listener() {
  local pid
  read -r pid </run/sshd.listener || pid=''
  case $1 in
    sshd-stop)
      [ -z "$pid" ] || kill -KILL "$pid"
      # The port is closed once the process is a zombie or gone, not at once.
      for _ in $(seq 500); do
        grep -qs '^State:[^Z]*$' "/proc/${pid:-none}/status" || break
        sleep 0.01
      done
      : >/run/sshd.listener
      ;;
    sshd-pause) [ -z "$pid" ] || kill -STOP "$pid" ;;
    sshd-mend) if [ -n "$pid" ]; then kill -CONT "$pid"; else start_sshd; fi ;;
    sshd-hangup) for p in $(pgrep -x sshd); do [ "$p" = "$pid" ] || kill -KILL "$p" 2>/dev/null || :; done ;;
  esac
}

# A tmpfs may shrink to what it holds: full at once, and not a byte is written for it.
disk_full() {
  local left=$1 used try
  for try in 1 2 3 4 5; do
    used=$(in_machine df -k --output=used /mnt/disk | tail -n 1)
    if in_machine mount -o "remount,size=$((used + left))k" /mnt/disk; then return; fi
  done
  say "could not fill the disk after $try tries: something writes to it all the time"
  exit 1
}

act() {
  local act=$1 name=$2 used next
  shift 2
  home=$state/hosts/$name
  case $act in
    exec) clean_env "$@" ;;
    reboot) reboot ;;
    freeze) on_host bash -c 'kill -STOP -- -1' ;;
    thaw) on_host bash -c 'kill -CONT -- -1' ;;
    cut) cut_off ;;
    refuse) on_host bash /run/host/inside.sh sshd-stop - ;;
    mute) on_host bash /run/host/inside.sh sshd-pause - ;;
    hangup) on_host bash /run/host/inside.sh sshd-hangup - ;;
    slow) tc qdisc replace dev "$(port_of "$name")" root tbf rate "$1" burst 3000 limit 30000 ;;
    mend)
      in_machine iptables -w -F
      tc qdisc del dev "$(port_of "$name")" root 2>/dev/null || :
      on_host bash /run/host/inside.sh sshd-mend -
      ;;
    fill) disk_full "${1:-0}" ;;
    fill-inodes)
      used=$(in_machine df --output=iused /mnt/disk | tail -n 1)
      in_machine mount -o "remount,nr_inodes=$((used))" /mnt/disk
      ;;
    drain)
      settings
      in_machine mount -o "remount,size=${disk_mib}m,nr_inodes=$disk_inodes" /mnt/disk
      ;;
    rekey)
      new_keys
      on_host bash /run/host/inside.sh sshd-stop -
      on_host bash /run/host/inside.sh sshd-mend -
      ;;
    pid-next)
      next=$1
      shift
      # shellcheck disable=SC2016 # expanded on the host
      on_host bash -c 'echo "$(($1 - 1))" >/proc/sys/kernel/ns_last_pid || exit 1; shift
        if [ $# -gt 0 ]; then { exec setsid "$@" </dev/null >/dev/null 2>&1; } & fi' bash "$next" "$@"
      ;;
  esac
}

layer=$1 state=$2
shift 2
case $layer in
  rack) rack ;;
  machine) machine "$@" ;;
  boot) boot "$@" ;;
  sshd-*) listener "$layer" ;;
  *) act "$layer" "$@" ;;
esac
