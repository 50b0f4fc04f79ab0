#!/bin/sh
# landfall's hand on a host, the part that acts as another user (`become`): whom the application runs as. helper.sh follows in the same script.
# Nothing of ours can be read by that user; words go to him as data (arguments, stdin), never into a text that a shell reads.
# shellcheck disable=SC2154,SC2034,SC2016,SC2086,SC2015,SC2094,SC2046,SC2116 # variables and functions of helper.sh; texts in '…' are for the other user's shell
user='' by=''
# TEXT WORD …: leaves for a session of its own, with default signals, so that sudo or su does not wait for it.
leave_text='cd / && exec 3<&0
if setsid -f true 2>/dev/null; then exec setsid -f /bin/sh -c "$@" 3<&-; fi
setsid /bin/sh -c "$@" <&3 3<&- &'
# FOLDER: says its number, waits for `go`, reads its words up to an empty line, and is the application. The end of input is no `go`.
become_text='umask 022
unset LC_ALL LANDFALL_SH SSH_CLIENT SSH_CONNECTION SSH_TTY SUDO_COMMAND SUDO_USER SUDO_UID SUDO_GID
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin && export PATH
cd "$1" 2>/dev/null || { echo "landfall-failed the user can not enter the release folder; every folder above must let others through" >&2 && exit 1; }
echo "landfall-pid $$" >&2
IFS= read -r landfall_line && [ "$landfall_line" = go ] || exit 1
set --
while :; do
	IFS= read -r landfall_line || exit 1
	[ -n "$landfall_line" ] || break
	landfall_val=$(printf "%b." "${landfall_line#*=}") && landfall_val=${landfall_val%.}
	case $landfall_line in arg=*) set -- "$@" "$landfall_val" ;; *) export "${landfall_val%%=*}=${landfall_val#*=}" ;; esac
done
exec "$@" </dev/null 2>&1'
as() { # TEXT WORD …: the text, by the shell of $user; by ours where nobody is to be become
	text=$1 && shift
	case $by in
	Sudo) sudo -n -u "$user" -- /bin/sh -c "$text" sh "$@" ;;
	Su) su -s /bin/sh -c "$text" -- "$user" sh "$@" ;;
	*) /bin/sh -c "$text" sh "$@" ;;
	esac
}
whose() { # sets by and user: as whom the recorded process was started. That record is ours alone to write
	by='' user=''
	line_of "$dot/user" && [ -z "$got" ] || { by=${got%% *} && user=${got#* }; }
}
signal() { # NAME PROCESS …
	if [ -z "$by" ]; then sig=$1 && shift && kill -s "$sig" -- "$@"; else as 'sig=$1 && shift && kill -s "$sig" -- "$@"' "$@"; fi
}
leave() { # of a session of its own: what sudo or su answers goes where the process says its number
	user=$p_user by=$p_by
	as "$leave_text" "$become_text" sh "$folder/releases/$p_release"
	echo "landfall-ended $?" >&2
}
data_folder() { # shared/data is the user's, who can't make it: `shared` is open to all for that moment, and sticky
	rmdir "$folder/shared/data" 2>/dev/null
	[ ! -d "$folder/shared/data" ] || return 0
	words=$(chmod 1777 "$folder/shared" && as 'umask 022 && mkdir "$1"' "$folder/shared/data" 2>&1 </dev/null)
	made=$?
	chmod 755 "$folder/shared" && [ $made -eq 0 ] || fail "could not become $user:" $words
}
clear_data() { as 'cd "$1" 2>/dev/null || exit 0; rm -rf -- * .[!.]* ..?*' "$folder/shared/data" </dev/null; } # what only the user can remove
start_as() { # comes back when the identity is on disk and the application was told to go
	user=$p_user by=$p_by
	store "$dot/user" "$by $user" || full 4096
	data_folder
	mkfifo "$dir/go" && : >"$dir/said" && { parameters folder release user by && echo; } >"$dir/params" || full 4096
	exec 7<>"$dir/go" # ends with us, whatever ends us, and that tells the other side to end
	spawn $shell "$self" --leave "$dir" <"$dir/go" >>"$log" 2>>"$dir/said" 7>&- 8>&- 9>&-
	ticks=-10 pid=''
	while [ -z "$pid" ]; do
		while read -r word rest; do
			case $word.$rest in
			landfall-pid.*) pid=$rest ;;
			landfall-failed.*) fail "$rest" ;;
			landfall-ended.0) ;;
			landfall-ended.*) fail "could not become $user:" $(grep -v '^landfall-' "$dir/said") ;;
			esac
		done <"$dir/said"
		ticks=$((ticks + 1)) && [ $ticks -le 400 ] || fail "could not become $user within 20 s"
		[ -n "$pid" ] || nap
	done
	stat_of "$pid" && [ "$session" = "$pid" ] || fail "the process died before it was one"
	exec 6>"$dir/go" 7>&-
	store "$dot/process" "$pid $start $boot $p_digest ${p_act%% *} $p_revision $p_rollout $p_release" || full 4096
	(trap '' PIPE && printf 'go\n%s\n' "$data" >&6) 2>/dev/null || fail "the process died before it was one"
	exec 6>&-
}
probe_users() { # METHOD USER …: who can be become, and what is said if not
	by=$1 && shift
	case $by in Sudo) tool=sudo ;; *) tool=su ;; esac
	command -v $tool >/dev/null || { say missing $tool && return 0; }
	command -v mkfifo >/dev/null || say missing mkfifo
	stat_of 1 || say missing /proc-of-other-users
	for user in "$@"; do
		case $user in -*) continue ;; esac
		# Both ends must be ours: a sudo that passes them on ends with the shell that it started, and so would what the application hears.
		words=$({ as 'id -u && [ -c /proc/self/fd/0 ] && readlink /proc/self/fd/1'; readlink /proc/self/fd/1; } 2>&1 </dev/null)
		uid=$(id -u "$user" 2>&1) end=${words##*"$nl"}
		case $nl$words in
		*"$nl$uid$nl$end$nl$end") words='' ;;
		*"$nl$uid$nl"*) words='sudo passes input and output on (log_input, log_output); the rule needs the tags NOLOG_INPUT: NOLOG_OUTPUT:' ;;
		*) words=${words%"$nl"*} ;;
		esac
		say become "$user $(echo $words)"
	done
	if [ "$by" = Sudo ] && [ "$(id -u)" != 0 ] && sudo -n -l -u root /bin/sh >/dev/null 2>&1; then say wide root; fi
}
scoped() { # logind ends what this user leaves behind: lingering does not help there, an exception does, and root is one by default
	conf='/etc/systemd/logind.conf /etc/systemd/logind.conf.d /run/systemd/logind.conf.d /usr/lib/systemd/logind.conf.d' user=$(id -un)
	except=$(grep -hrs '^KillExcludeUsers=' $conf) || : "${except:==root}"
	case " ${except#*=} " in *" $user "*) ;; *) grep -qrsiE '^KillUserProcesses=(yes|true|on|1)' $conf && say scoped 1 ;; esac
}
