#!/usr/bin/env bash
# A host with systemd as pid 1: dbus, logind, and the users `deploy` and `guest`. Its files are an overlay of this machine's, in a tmpfs below
# DIR, and stay from one boot to the next.
#   systemd-host.sh DIR         every line on standard input is a boot: the host that runs is killed, as by a power cut, and another one starts;
#                               its number is answered (the parent of its pid 1). The line names a user who lingers, or nobody. It ends with
#                               standard input, with all that is of it.
#   systemd-host.sh DIR PORT    one boot, until it is killed, with logind's KillUserProcesses=yes and an sshd with PAM on 127.0.0.1:PORT, as
#                               distributions ship them; DIR/keys has the keys of host and user.
# Whoever kills it removes its cgroups (lfh-units-PID).
set -euo pipefail
dir=$1 base=$1/base

# cgroups of its own, so that its slices are not the machine's.
enter() {
  for hierarchy in systemd unified pids memory devices freezer; do
    [ -d "/sys/fs/cgroup/$hierarchy" ] || continue
    mkdir -p "/sys/fs/cgroup/$hierarchy/lfh-units-$1"
    echo $$ >"/sys/fs/cgroup/$hierarchy/lfh-units-$1/cgroup.procs"
  done
}

prepare() {
  mount --make-rprivate /
  mkdir -p "$base"
  mount -t tmpfs -o mode=755 base "$base"
  cd "$base"
  mkdir up work root
  mount -t overlay overlay -o "lowerdir=/,upperdir=$base/up,workdir=$base/work" root
  cd root
  # Of the machine's own units none starts here.
  rm -rf etc/systemd/system etc/systemd/user etc/systemd/logind.conf.d srv
  find usr/lib/systemd/system/sysinit.target.wants -mindepth 1 ! -name 'systemd-journald*' ! -name systemd-tmpfiles-setup.service -delete
  # Nor has a reload to ask what this machine's mounts and devices would be.
  find usr/lib/systemd/system-generators usr/lib/systemd/user-generators usr/lib/systemd/system-environment-generators \
    usr/lib/systemd/user-environment-generators -type f,l -delete 2>/dev/null || :
  mkdir -p etc/systemd/system etc/systemd/user etc/systemd/system.conf.d var/lib/systemd/linger etc/sudoers.d srv
  sed -i '/^deploy:/d; /^guest:/d' etc/passwd etc/shadow etc/group
  for user in deploy:2000 guest:2001; do
    name=${user%:*} id=${user#*:}
    echo "$name:x:$id:$id::/home/$name:/bin/sh" >>etc/passwd
    echo "$name:x:$id:" >>etc/group
    echo "$name:*:19000:0:99999:7:::" >>etc/shadow
    rm -rf "home/$name" && mkdir -p "home/$name" "srv/$name"
    chown "$id:$id" "home/$name" "srv/$name"
  done
  rm -f var/lib/systemd/linger/*
  rm -f etc/nologin etc/sudoers.d/*
  printf '[Manager]\nDefaultTasksAccounting=no\nLogLevel=warning\n' >etc/systemd/system.conf.d/test.conf
  printf '[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\nAllowIsolate=yes\n' >etc/systemd/system/default.target
  printf '[Unit]\nRequires=dbus.socket systemd-logind.service systemd-user-sessions.service\nAfter=dbus.socket systemd-logind.service systemd-user-sessions.service\n' \
    >etc/systemd/system/multi-user.target
}

# Who signs in over SSH loses what he started when he leaves.
with_sshd() {
  mkdir -p "$dir/keys" etc/landfall etc/systemd/logind.conf.d
  ssh-keygen -q -t ed25519 -N '' -f "$dir/keys/host"
  ssh-keygen -q -t ed25519 -N '' -f "$dir/keys/user"
  cp "$dir/keys/host" etc/landfall/host
  cp "$dir/keys/user.pub" etc/landfall/authorized
  chmod 600 etc/landfall/host
  chown 2000:2000 srv
  printf '[Login]\nKillUserProcesses=yes\n' >etc/systemd/logind.conf.d/test.conf
  cat >etc/systemd/system/test-sshd.service <<EOT
[Unit]
Requires=systemd-logind.service dbus.socket
After=systemd-logind.service dbus.socket
[Service]
ExecStart=/usr/sbin/sshd -D -f /etc/landfall/sshd_config -E /run/sshd.log
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
EOT
  echo 'Requires=test-sshd.service' >>etc/systemd/system/default.target
  cat >etc/landfall/sshd_config <<EOT
Port $1
ListenAddress 127.0.0.1
HostKey /etc/landfall/host
AuthorizedKeysFile /etc/landfall/authorized
AuthenticationMethods publickey
UsePAM yes
StrictModes no
LogLevel VERBOSE
EOT
}

# In namespaces of its own: what a boot makes, and then pid 1.
boot() {
  cd "$base/root"
  mount -t proc proc proc
  tr -d '\n' </proc/sys/kernel/random/uuid >"$base/boot_id"
  mount --bind "$base/boot_id" proc/sys/kernel/random/boot_id
  mount -t sysfs -o ro sysfs sys
  mount -t tmpfs -o mode=755 run run
  mount -t tmpfs -o mode=1777 tmp tmp
  mount -t tmpfs -o mode=755 dev dev
  for node in null zero full random urandom tty; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd sys/fs/cgroup/memory
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  mount -t cgroup -o memory cgroup sys/fs/cgroup/memory
  mkdir -p run/old
  pivot_root . run/old
  umount -l run/old
  exec env -i container=landfall-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
}

power_off() {
  [ -n "$host" ] || return 0
  kill -KILL "$host" 2>/dev/null || :
  wait "$host" 2>/dev/null || :
}

case ${2-} in
  '')
    command -v unshare setpriv systemctl >/dev/null || exit 1
    enter $$
    exec unshare --mount "$0" "$dir" serve $$
    ;;
  serve)
    prepare
    host=''
    while read -r lingers; do
      power_off
      [ "$lingers" = nobody ] || touch "$base/root/var/lib/systemd/linger/$lingers"
      # It ends with this shell as well, however that ends.
      setpriv --pdeathsig KILL unshare --mount --pid --uts --ipc --cgroup --fork --kill-child=KILL "$0" "$dir" boot </dev/null >"$dir/console" 2>&1 &
      host=$!
      echo "$host"
    done
    power_off
    ;;
  boot) boot ;;
  with-sshd)
    prepare
    with_sshd "$3"
    boot
    ;;
  *)
    enter $$
    exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child=KILL "$0" "$dir" with-sshd "$2"
    ;;
esac
