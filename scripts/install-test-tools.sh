#!/bin/sh
# Installs what the tests and the demo need from Debian, and only what is missing; does nothing, quickly, when all is there.
# A system sshd is not left running by it: the tests start their own.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# command:package
needed="sshd:openssh-server ssh:openssh-client ssh-keygen:openssh-client busybox:busybox dash:dash bash:bash mksh:mksh
  iptables:iptables ip:iproute2 unshare:util-linux nsenter:util-linux setpriv:util-linux setsid:util-linux flock:util-linux
  mount:mount sudo:sudo shellcheck:shellcheck git:git ps:procps pgrep:procps cc:build-essential make:make curl:curl
  systemctl:systemd dbus-daemon:dbus runuser:util-linux faketime:faketime strace:strace lua5.1:lua5.1 zsh:zsh fish:fish tcsh:tcsh bsd-csh:csh"

missing='' packages=''
for pair in $needed; do
  if ! command -v "${pair%%:*}" >/dev/null 2>&1; then
    missing="$missing ${pair%%:*}"
    case " $packages " in *" ${pair#*:} "*) ;; *) packages="$packages ${pair#*:}" ;; esac
  fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "Missing for the tests:$missing" >&2
  echo "As root on Debian: apt-get install$packages (or run this script as root). Elsewhere: the packages that hold these commands." >&2
  exit 1
fi

# Services of new packages are not started: the answer 101 means "not allowed". Removed again, if it is ours.
policy=/usr/sbin/policy-rc.d ours=''
if [ ! -e "$policy" ]; then
  ours=yes
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

echo "Installing for the tests:$packages" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
install() { apt-get install -y -q --no-install-recommends $packages >&2; }
install || { apt-get update -q >&2 && install; }

case " $packages " in *" openssh-server "*)
  # Nor at the next boot. (An sshd that was there before is none of our business.)
  if command -v systemctl >/dev/null 2>&1; then systemctl disable ssh.service ssh.socket >/dev/null 2>&1 || :; fi
  [ -n "$ours" ] || echo "openssh-server was installed while $policy exists: check that no sshd runs that you do not want" >&2
  ;;
esac

for pair in $needed; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || { echo "still missing: ${pair%%:*} (package ${pair#*:})" >&2; exit 1; }
done
