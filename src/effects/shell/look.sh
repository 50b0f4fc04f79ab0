#!/bin/sh
# landfall's hand on a host, the part that only looks: which processes live, whose socket listens, what is in the folders. helper.sh follows.
# shellcheck disable=SC2154,SC2034,SC2086,SC2015,SC2016 # variables and functions of helper.sh; words are split on purpose
# --- processes: (pid, start time, boot id), and nothing else, names one ---
stat_of() { # PID: sets state, group, session and start; fails where there is none. The name may hold anything, so: after the last `)`
	raw=''
	{ while IFS= read -r piece || [ -n "$piece" ]; do raw=$raw$piece; done <"/proc/$1/stat"; } 2>/dev/null || return 1
	case $raw in *')'*) set -- ${raw##*')'} ;; *) return 1 ;; esac
	[ $# -ge 20 ] && state=$1 group=$3 session=$4 start=${20}
}
# PID START BOOT …: is it that very process? A zombie is dead.
alive() { [ $# -ge 3 ] && [ "$3" = "$boot" ] && stat_of "$1" && [ "$start" = "$2" ] && case $state in Z | X | x) false ;; esac; }
mates() { # SESSION: sets found to the processes of that session which live
	found='' && set +f
	few=$(grep -slE "\) [A-Za-z] [0-9]+ [0-9]+ $1 " /proc/[0-9]*/stat 2>/dev/null) # a shell reads byte by byte: only what may be one
	[ $? -le 2 ] || few=$(echo /proc/[0-9]*/stat)                                 # more than fit a command line
	set -f
	for entry in $few; do
		entry=${entry#/proc/} && entry=${entry%/stat}
		stat_of "$entry" && [ "$session" = "$1" ] && case $state in Z | X | x) ;; *) found="$found $entry" ;; esac
	done
	[ -n "$found" ]
}
# PID START BOOT … of a process that lived a moment ago: is it dead, and are others of its session not?
survived() { [ $# -ge 3 ] && [ "$3" = "$boot" ] && { ! stat_of "$1" || [ "$start" = "$2" ]; } && mates "$1"; }
sockets() { # PORT: sets exact to the sockets that answer on 127.0.0.1:PORT; fails where there are none
	hex=$(printf %04X "$1") exact='' wild=''
	rows=$(grep -hs ":$hex [0-9A-F:]* 0A " /proc/net/tcp /proc/net/tcp6) IFS=$nl
	for row in $rows; do
		unset IFS
		set -- $row
		case $2 in
		0100007F:"$hex" | 0000000000000000FFFF00000100007F:"$hex") exact="$exact ${10}" ;;
		00000000:"$hex" | 00000000000000000000000000000000:"$hex") wild="$wild ${10}" ;;
		esac
	done
	unset IFS
	: "${exact:=$wild}"
	[ -n "$exact" ]
}
whom() { # PID START BOOT …: sets answer: whose socket answers on our port, one of that process' session?
	answer=nobody && sockets "$p_port" || return 0
	answer=foreign && alive "$@" || return 0
	for whose in its session; do # most often it is that very process
		found=$1 && { [ $whose = its ] || mates "$1"; }
		for mate in $found; do
			links=$(as 'ls -l "/proc/$1/fd"' "$mate" 2>/dev/null) || answer=unknown
			for inode in $exact; do case $links in *"socket:[$inode]"*) answer=ours && return 0 ;; esac done
		done
	done
}
listener() { # does our process live, and whose socket answers on the port?
	whose && process_fact && [ "$p_port" != 0 ] || return 0
	whom $got && say listener "$answer"
}
# --- the host and its folders ---
rotate() { # a log of more than 10 MiB: its end is kept beside it. The application appends, so the file may be emptied; it is, even if no copy fits
	[ -e "$1" ] && [ -n "$(find "$@" -size +20480 2>/dev/null)" ] || return 0
	flock -n "$root/.landfall/rotating" find "$@" -size +20480 -exec sh -c \
		'rm -f "$1.1"; tail -c 10485760 "$1" >"$1.1"; : >"$1"; echo @rotated=1' sh {} \; 2>/dev/null
}
tools() { # what is missing; looked for once per boot. What is there to know of setsid is kept with it
	line_of "$root/.landfall/tools" && case $got in "$boot $self "*) return 0 ;; esac
	lacks='' probe=$root/.landfall/probe.$$
	for tool in setsid flock tar sync mv ln find grep sort tail readlink df cp expr; do command -v $tool >/dev/null || lacks="$lacks $tool"; done
	command -v sha256sum >/dev/null || command -v openssl >/dev/null || lacks="$lacks sha256sum"
	[ -n "$boot" ] && stat_of $$ || lacks="$lacks /proc"
	mkdir -p "$probe/d" && ln -s d "$probe/a" && ln -s d "$probe/b" && mv -T "$probe/a" "$probe/b" 2>/dev/null || lacks="$lacks mv-T"
	(flock -n 9) 9>"$probe/lock" 2>/dev/null || lacks="$lacks flock-FD"
	sync "$probe" 2>/dev/null || lacks="$lacks sync-FILE"
	rm -rf "$probe"
	if setsid -f true 2>/dev/null; then forks=-f; else forks=; fi
	[ -n "$lacks" ] && printf '@missing=%s\n' $lacks || store "$root/.landfall/tools" "$boot $self $forks"
}
facts() {
	say protocol 1 && say boot "$boot" && IFS=. read -r up _ </proc/uptime && say uptime "$up"
	tools; [ -z "$p_become" ] || probe_users $p_become
	got=$(stat -f -c '%a %S %c %d' "$root" 2>/dev/null)
	case $got in
	*[!0-9\ ]* | '') space && say free "$free" && df -Pi "$root" 2>/dev/null | { read -r _ && read -r _ _ _ i _ && say inodes "$i"; } ;;
	*) say blocks "$got" ;;
	esac
	while IFS= read -r line; do case $line in */session-*.scope*) scoped && break ;; esac; done </proc/self/cgroup
	set +f
	rotate "$root"/*/shared/log/output.log
	for entry in "$root"/*.*/.landfall; do
		set -f && p_folder=${entry%/.landfall} && p_folder=${p_folder##*/}
		[ -d "$entry" ] && (place && folder_facts)
	done
	set -f
}
folder_facts() {
	say folder "$p_folder"
	for key in owner fence ready; do line_of "$dot/$key" && say $key "$got"; done
	journal && say journal "$j_n"
	if [ "$j_state" = begin ]; then
		running=1 && if (flock -n 8) 8>>"$dot/steps/lock"; then running=0; fi 2>/dev/null
		say open "$j_step $j_act $running"
	fi
	cur=$([ -L "$folder/current" ] && { (cd -P "$folder/current" && pwd -P) || readlink "$folder/current"; } 2>/dev/null) # cd costs no process
	say current "${cur#"$folder/"}"
	set +f
	for r in "$dot"/verified/*; do [ -s "$r" ] && [ -d "$folder/releases/${r##*/}" ] && say release "${r##*/}"; done
	set -f
	if [ -r "$dot/heals" ]; then while read -r b u; do [ "$b" != "$boot" ] || say heal "$u"; done <"$dot/heals"; fi
	process_fact
}
process_fact() {
	line_of "$dot/process" && living=0 && if alive $got; then living=1; fi
	[ -z "$got" ] || say process "$living $got"
}
