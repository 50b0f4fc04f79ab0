#!/usr/bin/env bash
# A host with systemd as pid 1: dbus, logind with KillUserProcesses=yes, and an sshd with PAM, as distributions ship it.
#   systemd-host.sh DIR PORT    runs until it is killed; everything of it lives in DIR (a tmpfs over it) and in namespaces
# It shares the machine's network: sshd listens on 127.0.0.1:PORT. DIR/etc holds the keys once it is up.
set -euo pipefail
dir=$1 port=$2

if [ "${3-}" != inside ]; then
  # A cgroup of its own, so that its slices are not the machine's; whoever kills us removes it (lfh-systemd-PID).
  for hierarchy in systemd pids; do
    [ -d "/sys/fs/cgroup/$hierarchy" ] || continue
    mkdir "/sys/fs/cgroup/$hierarchy/lfh-systemd-$$"
    echo $$ >"/sys/fs/cgroup/$hierarchy/lfh-systemd-$$/cgroup.procs"
  done
  exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child=KILL "$0" "$dir" "$port" inside
fi

mount --make-rprivate /
mkdir -p "$dir/keys" "$dir/base"
mount -t tmpfs -o mode=755 base "$dir/base"
cd "$dir/base"
mkdir up work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$PWD/up,workdir=$PWD/work" root
cd root
mount -t proc proc proc
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
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd

ssh-keygen -q -t ed25519 -N '' -f "$dir/keys/host"
ssh-keygen -q -t ed25519 -N '' -f "$dir/keys/user"
rm -rf etc/systemd/system etc/systemd/logind.conf.d
mkdir -p etc/systemd/system etc/systemd/logind.conf.d etc/systemd/system.conf.d etc/landfall home/deploy srv
cp "$dir/keys/host" etc/landfall/host
cp "$dir/keys/user.pub" etc/landfall/authorized
chmod 600 etc/landfall/host
sed -i '/^deploy:/d' etc/passwd etc/shadow etc/group
echo 'deploy:x:2000:2000::/home/deploy:/bin/sh' >>etc/passwd
echo 'deploy:x:2000:' >>etc/group
echo 'deploy:*:19000:0:99999:7:::' >>etc/shadow
rm -rf srv && mkdir srv
chown 2000:2000 home/deploy srv
rm -f etc/nologin
printf '[Login]\nKillUserProcesses=yes\n' >etc/systemd/logind.conf.d/test.conf
printf '[Manager]\nDefaultTasksAccounting=no\n' >etc/systemd/system.conf.d/test.conf
cat >etc/systemd/system/test-sshd.service <<EOT
[Unit]
Requires=systemd-logind.service dbus.socket
After=systemd-logind.service dbus.socket
[Service]
ExecStart=/usr/sbin/sshd -D -f /etc/landfall/sshd_config -E /run/sshd.log
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
EOT
cat >etc/systemd/system/default.target <<EOT
[Unit]
Requires=test-sshd.service systemd-user-sessions.service
AllowIsolate=yes
EOT
cat >etc/landfall/sshd_config <<EOT
Port $port
ListenAddress 127.0.0.1
HostKey /etc/landfall/host
AuthorizedKeysFile /etc/landfall/authorized
AuthenticationMethods publickey
UsePAM yes
StrictModes no
LogLevel VERBOSE
EOT
mkdir old
pivot_root . old
umount -l old
exec env -i container=landfall-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
