#!/bin/sh
# Process 1 of a build's own pid, mount and ipc namespace. It makes a root in which nothing of the operator is seen, says "ready", waits
# for "go", runs the script without any right, and says how it ended. When it ends, the kernel ends everything that the script left.
#
# usage: sandbox.sh ROOT UID LIMITS FOLDERS (OP A B)...   — LIMITS are words for prlimit; the operations come from sandbox.rs.
# FOLDERS are those that the operations need, a line each: made at once, for each process here is time before a build's first line.
set -eu
root=$1 uid=$2 limits=$3 folders=$4
shift 4
umask 022

# shellcheck disable=SC2016 # expanded by who runs it
init='set -eu
uid=$1 limits=$2
exec 2>&3 3>&- # from here on stderr is the output of the script
echo ready
read -r word || exit 1
[ "$word" = go ] || exit 1
code=0
env -i PATH="$PATH" prlimit $limits -- \
    setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all -- \
    env -i /bin/sh /.landfall/run >&2 || code=$? # what follows "go" on stdin is for it
echo "exit $code"
'

at() { # a mount point like the source: a folder for a folder, else a file
    if [ -d "$1" ]; then [ -d "$2" ] || mkdir -p "$2"; elif [ ! -e "$2" ]; then [ -d "${2%/*}" ] || mkdir -p "${2%/*}"; : >"$2"; fi
}

mount -n -t tmpfs -o mode=0755,size=8m,nosuid,nodev landfall "$root"
cd "$root"
set -f
IFS='
'
# shellcheck disable=SC2086 # lines
mkdir -p $folders
unset IFS
set +f
cd /
while [ $# -gt 0 ]; do
    op=$1 a=$2 b=$3
    shift 3
    case $op in
        dir) [ -d "$root$a" ] || mkdir -p "$root$a"; [ "$b" = 0755 ] || chmod "$b" "$root$a" ;;
        link) ln -s "$a" "$root$b" ;;
        ro) at "$a" "$root$b"; mount -n -o bind,ro,nosuid,nodev "$a" "$root$b" ;;
        rw) at "$a" "$root$b"; mount -n -o bind,rw,nosuid,nodev "$a" "$root$b" ;;
        device) at "$a" "$root$b"; mount -n --bind "$a" "$root$b" ;;
        tmpfs) [ -d "$root$a" ] || mkdir -p "$root$a"; mount -n -t tmpfs -o "nosuid,nodev,$b" landfall "$root$a" ;;
        hide) if [ -d "$root$a" ]; then mount -n -t tmpfs -o ro,mode=0000 hidden "$root$a"
              elif [ -e "$root$a" ]; then mount -n --bind /dev/null "$root$a"; fi ;;
        *) echo "sandbox: what is $op?" >&2; exit 1 ;;
    esac
done
mount -n -t proc -o nosuid,nodev,noexec proc "$root/proc"
cd "$root"
pivot_root . .old
cd /
umount -n -l /.old
printf '%s' "$init" >/.init
mount -n -o remount,bind,ro,nosuid,nodev /

# The script sees the words of process 1, so those with the paths of the operator end here: the rest is a file of the root.
exec /bin/sh /.init "$uid" "$limits"
