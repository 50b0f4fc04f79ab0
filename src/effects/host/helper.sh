#!/bin/sh
# landfall's hand on a host: facts, and the acts of a rollout. Lies at <root>/.landfall/bin/<sha256 of itself>.
#   sh SCRIPT NONCE             one call: `key=value` lines on stdin, an empty line, then the payload if there is one
#   sh SCRIPT --step DIR        a detached step, started by a call;  --launch DIR  becomes the application;  --leave DIR  (become.sh)
# The answer stands between `NONCE begin` and `NONCE end STATUS`: `@key=value` lines are results, others are what a tool said.
# Names and numbers are checked before use; commands and environment come as data (`\0ooo` for every unsafe byte).
# Under the lock nothing is read from or written to the connection: input is complete before, output is sent after.
# shellcheck disable=SC2086,SC2015,SC2012,SC2016 # words are split on purpose (globbing is off), `&& … ||` too, and ls sees only our names
set -uf
unset IFS CDPATH ENV BASH_ENV
shell=${LANDFALL_SH:-/bin/sh} self=$0 root=${0%/.landfall/bin/*}
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
export PATH LC_ALL
umask 077
nl='
'
p_verb='' p_folder='' p_owner='' p_replaces='' p_fence='' p_act='' p_stepdir='' p_step='' p_release='' p_digest='' p_size=0 p_payload=no
p_signal=TERM p_grace=10 p_revision=0 p_rollout='' p_keep='' p_atmost=0 p_port=0 p_lines=0 p_user='' p_by='' p_become='' p_patience=86400 p_heal=0 data='' spool='' boot=''
IFS= read -r boot </proc/sys/kernel/random/boot_id || :
say() { printf '@%s=%s\n' "$1" "$2"; }
refuse() { say error "$*" && exit 1; }
nap() { if [ "${ticks:-1}" -le 0 ]; then sleep 0.01; else sleep 0.05; fi 2>/dev/null || sleep 1; } # most things are over in a moment
line_of() { got='' && if [ -r "$1" ]; then IFS= read -r got <"$1" || :; fi; }
# A file is replaced by a whole new one or not at all, whatever dies in between: write FILE.new, then settle FILE.
settle() { sync "$1.new" && mv -f "$1.new" "$1" && sync "${1%/*}"; }
store() { { printf '%s\n' "$2" >"$1.new"; } 2>/dev/null && settle "$1"; }
# Is one number lower? Of any size: mksh counts with 32 bits.
lower() { [ "$1" != "$2" ] && if [ ${#1} -ne ${#2} ]; then [ ${#1} -lt ${#2} ]; else expr "x$1" \< "x$2" >/dev/null; fi; }
space() { free=$(df -Pk "$root" 2>/dev/null | { read -r _ && read -r _ _ _ k _ && printf %s "$k"; }) || free=0; } # in KiB
full() { # BYTES: a write failed
	if [ ! -w "$root" ] || { [ -d "$dot" ] && [ ! -w "$dot" ]; }; then refuse failed "$p_verb" "$root can not be written to"; fi
	space && refuse full "$free" "$1"
}
take_parameters() { # from stdin; refuses where the end mark is missing, as when the connection broke
	while IFS= read -r line; do
		key=${line%%=*} val=${line#*=}
		case $key in
		'') return 0 ;;
		arg | env) data=$data$line$nl && continue ;;
		verb | folder | owner | replaces | fence | act | stepdir | step | release | digest | size | payload | signal | grace | revision | rollout | keep | atmost | port | lines | patience | heal | user | by | become) ;;
		*) refuse input "$key" ;;
		esac
		case $val in *[!A-Za-z0-9\ ._+-]*) refuse input "$key" ;; esac
		eval "p_$key=\$val"
	done
	refuse input end
}
parameters() { # KEY …: as take_parameters reads them
	for key in "$@"; do eval "printf '%s=%s\n' $key \"\$p_$key\""; done
	if [ -n "$p_user" ]; then echo; else printf '%s\n' "$data"; fi # (what another user's shell is told goes to it alone)
}
place() { # checks what paths are made of, and says where things are
	case $p_folder in .* | *. | *.*.* | *[!a-z0-9.-]*) refuse input folder ;; *.*) ;; *) refuse input folder ;; esac
	case $p_release/$p_stepdir/$p_step/$p_user/$p_by/ in .* | */.* | -* | */-* | *' '*) refuse input name ;; esac
	case $p_size$p_grace$p_revision$p_atmost$p_port$p_lines$p_patience in *[!0-9]*) refuse input number ;; esac
	case $p_signal in '' | *[!A-Z0-9]*) refuse input signal ;; esac
	folder=$root/$p_folder dot=$root/$p_folder/.landfall dir=$root/$p_folder/.landfall/steps/$p_stepdir/${p_step:-$p_verb}
}
# --- processes: (pid, start time, boot id), and nothing else, names one ---
stat_of() { # PID: sets state, group, session and start; fails where there is none. The name may hold anything, so: after the last `)`
	raw=''
	{ while IFS= read -r part || [ -n "$part" ]; do raw=$raw$part; done <"/proc/$1/stat"; } 2>/dev/null || return 1
	case $raw in *')'*) set -- ${raw##*')'} ;; *) return 1 ;; esac
	[ $# -ge 20 ] && state=$1 group=$3 session=$4 start=${20}
}
# PID START BOOT …: is it that very process? A zombie is dead.
alive() { [ $# -ge 3 ] && [ "$3" = "$boot" ] && stat_of "$1" && [ "$start" = "$2" ] && case $state in Z | X | x) false ;; esac; }
mates() { # SESSION: sets found to the processes of that session which live
	found='' && set +f
	for entry in /proc/[0-9]*; do
		stat_of "${entry#/proc/}" && [ "$session" = "$1" ] && case $state in Z | X | x) ;; *) found="$found ${entry#/proc/}" ;; esac
	done
	set -f && [ -n "$found" ]
}
# In a session of its own, with default signals where setsid can fork by itself (`&` would ignore INT and QUIT).
spawn() { if setsid -f true 2>/dev/null; then setsid -f "$@"; else setsid "$@" & fi; }
# --- the lock, the fence and the journal ---
locked() { # FUNCTION …: its output is kept until the lock is free again
	out=$( (hold && "$@") 9<>"$dot/lock" 8>>"$dot/steps/lock" </dev/null 2>&1)
	set -- $?
	printf '%s\n' "$out"
	return "$1"
}
hold() {
	tries=0
	until flock -n 9; do
		tries=$((tries + 1)) && [ $tries -le 200 ] && nap || refuse busy lock - - 0 0
		[ $((tries % 60)) -ne 0 ] || unseat
	done
	seat || full 4096 && IFS= read -r got <&9 && [ "$got" = "$seat" ] || refuse moved 0
}
seat() { # names who holds the lock (this very subshell), with its token; by name, for a lock that moved away with its folder is none
	stat_of self && seat="${raw%% *} $start $boot $p_fence" && { printf '%s\n' "$seat" >"$dot/lock"; } 2>/dev/null
}
unseat() { # a holder that is stuck (stopped, on a dead disk) is ended by a higher token, if it is who is named and has the lock open
	line_of "$dot/fence" && (fenced $got) >/dev/null && line_of "$dot/lock" && set -- $got
	[ $# -eq 6 ] && [ "$p_fence" != "$4 $5 $6" ] && (fenced "$4" "$5" "$6") >/dev/null && alive "$@" || return 0
	case $(readlink "/proc/$1/fd/9") in */"$p_folder/.landfall/lock") kill -s KILL -- "-$group" ;; esac
}
journal() { # reads the last line; one that broke off while it was written (torn) is none
	j_n=0 j_state=end j_step=- j_act='- - 0 0' j_lines=99 j_torn=''
	[ -r "$dot/journal" ] && j_lines=0 || return 0
	while read -r j_torn s t a; do j_lines=$((j_lines + 1)) j_n=$j_torn j_state=$s j_step=$t j_act=$a; done <"$dot/journal"
}
note() { # STATE: adds a line; of a hundred the last 50 are kept
	j_n=$((j_n + 1)) j_lines=$((j_lines + 1))
	line="$j_n $1 $p_verb $p_act"
	if [ -z "$j_torn" ] && [ $j_lines -lt 100 ]; then { printf '%s\n' "$line" >>"$dot/journal"; } 2>/dev/null && sync "$dot/journal" && return 0 || full 4096; fi
	{ tail -n 50 "$dot/journal" 2>/dev/null | while read -r s; do printf '%s\n' "$s"; done && printf '%s\n' "$line"; } >"$dot/journal.new" && settle "$dot/journal" || full 4096
}
fail() { note fail && say journal "$j_n" && refuse failed "$p_verb" "$*"; } # WHY: the act is over
fenced() { # EPOCH CREATED TRANSITIONS, the highest token seen: may ours act? An adopt is what a person said
	[ $# -eq 3 ] && [ "$p_verb" != adopt ] || return 0
	f_epoch=$1 f_created=$2 f_transitions=$3
	set -- $p_fence
	[ "$1" = "$f_epoch" ] || refuse epoch "$f_epoch"
	if lower "$2" "$f_created" || { [ "$2" = "$f_created" ] && lower "$3" "$f_transitions"; }; then refuse fenced; fi
}
enter() { # FUNCTION: may this call act, now, here?
	line_of "$dot/fence" && recorded=$got
	fenced $recorded
	line_of "$dot/owner" && holder=$got
	case $holder in '' | "$p_owner" | "$p_replaces") ;; *) refuse claimed "$holder" ;; esac
	journal
	tries=0
	until flock -n 8; do # the last step is just ending, or it goes on
		[ "$j_state $j_step $j_act" = "begin $p_verb $p_act" ] && say attach 1 && exit 0
		tries=$((tries + 1)) && [ "$j_state" != begin ] && [ $tries -le 100 ] && nap || refuse busy "$j_step" "$j_act"
	done
	[ "$j_n" = "${p_act##* }" ] || refuse moved "$j_n"
	"$1"
}
begin() {
	[ "$recorded" = "$p_fence" ] || store "$dot/fence" "$p_fence" || full 4096
	[ "$holder" = "$p_owner" ] || store "$dot/owner" "$p_owner" || full 4096
	note begin
}
inline() { begin && "do_$p_verb" && note end && say journal "$j_n"; } # an act of a moment
detached() { # an act that may take longer: a session of its own, which holds steps/lock (8) for its life
	begin
	set +f && set -- "$dot"/steps/*-*/
	[ $# -lt 20 ] || for old in $(cd "$dot/steps" && ls -td -- *-*/ 2>/dev/null | tail -n +10); do rm -rf "${dot:?}/steps/$old"; done
	set -f
	{ [ ! -e "$dir" ] || rm -rf "$dir"; } && mkdir -p "$dir" && parameters verb folder owner fence act stepdir release digest size signal grace >"$dir/params" || full 4096
	[ -z "$spool" ] || mv "$spool" "$dir/payload"
	spawn $shell "$self" --step "$dir" </dev/null >"$dir/log" 2>&1 9>&-
	say attach 1
}
await() { # the step's end; its result is in `out`
	(flock -s -w 1 8) 2>/dev/null 8>>"$dot/steps/lock" || : # it is free when the step is over; where flock can not wait, or for long steps: look
	ticks=-10
	while [ -d "$dir" ] && [ ! -f "$dir/exit" ]; do
		line_of "$dir/pid"
		if [ -n "$got" ] && ! alive $got && [ ! -f "$dir/exit" ] && [ -d "$dir" ]; then refuse failed "$p_verb" "the step was killed"; fi
		ticks=$((ticks + 1))
		[ -n "$got" ] || [ $ticks -le 400 ] || refuse failed "$p_verb" "the step did not begin"
		[ $((ticks / 20)) -le "$p_patience" ] && nap || refuse busy "$p_verb" "$p_act"
	done
	if [ ! -d "$dir" ]; then [ "$p_verb" = remove ] && say journal 0 && return 0 || refuse failed "$p_verb" "the step is not known"; fi
	line_of "$dir/exit" && set -- "$got"
	[ "$1" = 0 ] || tail -n 20 "$dir/log" | tail -c 16384
	cat "$dir/out"
	return "$1"
}
step() { # the detached side
	stat_of $$ && store "$dir/pid" "$$ $start $boot" || exit 1
	("do_$p_verb") >"$dir/result"
	over=$?
	[ -d "$dir" ] || exit 0
	locked finish >"$dir/out"
	store "$dir/exit" "$over"
}
finish() {
	journal
	if [ "$over" = 0 ]; then note end; else note fail; fi && say journal "$j_n"
	[ "$over" != 0 ] || return 0
	if grep -q -e 'No space left' -e 'quota exceeded' "$dir/log"; then full "$p_size"; fi
	grep '^@error=' "$dir/result" || refuse failed "$p_verb" "exit status $over"
}
# --- the acts ---
command -v sha256sum >/dev/null && hasher=sha256sum || hasher='openssl dgst -sha256 -r'
digest() { $hasher | { read -r sum _ && printf %s "$sum"; }; }
# FOLDER: one digest over its files and links, to know it again.
tree() { (cd "$1" && { find . -type f -exec $hasher {} + && find . -type l -exec sh -c 'for l; do echo "$l > $(readlink "$l")"; done' sh {} +; } | sort | digest); }
staged() { [ -s "$dot/verified/$p_release" ] && [ -d "$folder/releases/$p_release" ]; } # was it there, whole, once?
take_payload() { # complete and verified before any lock
	stat_of $$ && spool=$dot/tmp/in.$$.$start
	{ cat >"$spool"; } 2>/dev/null || { rm -f "$spool" && full "$p_size"; }
	got=$(digest <"$spool")
	[ "$got" = "$p_digest" ] || { rm -f "$spool" && refuse digest "$got"; }
}
ask() { # before the bytes are sent: is the release there, is there room for it?
	if staged && line_of "$dot/verified/$p_release" && [ "${got%% *}" = "$p_digest" ]; then detached && return 0; fi
	space && if lower "$free" $((p_size / 512 + 1024)); then refuse full "$free" "$p_size"; fi # the tar, and what comes out of it
	say need 1
}
do_stage() {
	set +f
	for left in "$dot"/tmp/*; do # of calls and steps that died
		id=${left##*/in.}
		[ "$id" != "$left" ] && alive "${id%.*}" "${id#*.}" "$boot" || rm -rf "$left"
	done
	set -f
	rm -rf "$root/.landfall/trash"
	line_of "$dot/verified/$p_release"
	if staged && [ "$got" = "$p_digest $(tree "$folder/releases/$p_release")" ]; then rm -f "$dir/payload" && return 0; fi
	rm -f "$dot/verified/$p_release"
	[ -f "$dir/payload" ] || { say error corrupt && exit 1; }
	new=$dot/tmp/x.$p_release old=$dot/tmp/old.$p_release
	(umask 022 && mkdir -p "$folder/releases" "$new" && tar -xomf "$dir/payload" -C "$new") || { rm -rf "$new" "$dir/payload" && exit 1; }
	chmod 755 "$folder" && find "$new" \( -type f -o -type d \) -exec sync {} + && sum=$(tree "$new") || exit 1
	[ ! -d "$folder/releases/$p_release" ] || mv -T "$folder/releases/$p_release" "$old" || exit 1
	mv -T "$new" "$folder/releases/$p_release" && sync "$folder/releases" && store "$dot/verified/$p_release" "$p_digest $sum" || exit 1
	rm -rf "$old" "$dir/payload"
}
do_stop() {
	whose && line_of "$dot/process" && set -- $got
	if alive "$@"; then
		signal "$p_signal" "-$1"
		ticks=-10
		# While a process of the session lives its number can't be given to another, so what `mates` finds is what we started.
		while { alive "$@" || mates "$1"; } && [ $((ticks / 20)) -lt "$p_grace" ]; do ticks=$((ticks + 1)) && nap; done
		if alive "$@"; then signal KILL "-$1"; fi
		ticks=0
		while mates "$1"; do
			if [ $((ticks % 20)) -eq 0 ]; then signal KILL $found 2>/dev/null; fi
			ticks=$((ticks + 1)) && [ $ticks -le 200 ] || { say error "failed stop the process survives KILL (pid$found)" && exit 1; }
			nap
		done
	fi
	rm -f "$dot/process" "$dot/ready" && sync "$dot"
}
do_switch() {
	staged || fail "the release is not on the host"
	{ [ ! -L "$dot/tmp/current" ] || rm -f "$dot/tmp/current"; } && ln -s "releases/$p_release" "$dot/tmp/current" && mv -T "$dot/tmp/current" "$folder/current" &&
		sync "$folder" || fail "could not link"
}
do_start() {
	line_of "$dot/process" && set -- $got
	if alive "$@"; then
		[ "$4 $5 $7" = "$p_digest ${p_act%% *} $p_rollout" ] && return 0
		fail "another process of this project still runs (pid $1)"
	fi
	staged || fail "the release is not on the host"
	{ [ ! -e "$dir" ] || rm -rf "$dir"; } && { [ -d "$folder/shared/data" ] || (umask 022 && mkdir -p "$folder/shared/log" "$folder/shared/data"); } && mkdir -p "$dir" &&
		parameters folder fence digest act revision rollout release user by >"$dir/params" || full 4096
	log=$folder/shared/log/output.log
	rotate "$log"
	{ (umask 022 && printf '=== landfall starts %s, rollout %s\n' "$p_release" "$p_rollout" >>"$log"); } 2>/dev/null || full 4096
	IFS=. read -r up _ </proc/uptime && set -- $p_act
	[ "$p_heal" = 1 ] && store "$dot/heals" "$(tail -n 5 "$dot/heals" 2>/dev/null)$nl$boot $up $3" || rm -f "$dot/heals" "$dot/ready" # restarts in a row
	rm -f "$dot/process" "$dot/user" && [ -z "$p_user" ] || { start_as && return 0; }
	spawn $shell "$self" --launch "$dir" </dev/null >>"$log" 2>&1 8>&- # keeps the lock (9) until its identity is on disk
	ticks=-10
	while line_of "$dot/process" && [ -z "$got" ]; do
		line_of "$dir/pid" && { [ -z "$got" ] || alive $got || [ -s "$dot/process" ] || fail "the process died before it was one"; }
		ticks=$((ticks + 1)) && [ $ticks -le 200 ] && [ ! -f "$dir/failed" ] && nap || fail "the process could not record its identity"
	done
}
launch() { # becomes the application: exec keeps pid and start time, so it never runs without an identity
	stat_of $$ && printf '%s\n' "$$ $start $boot" >"$dir/pid" && seat && rm -f "$dir/params" && cd "$folder/releases/$p_release" &&
		store "$dot/process" "$$ $start $boot $p_digest ${p_act%% *} $p_revision $p_rollout $p_release" || { : >"$dir/failed" && exit 1; }
	umask 022 && unset LC_ALL LANDFALL_SH SSH_CLIENT SSH_CONNECTION SSH_TTY
	set -- && IFS=$nl
	for landfall_line in $data; do # arg=VALUE or env=NAME=VALUE; the names of our variables must not be the application's
		landfall_val=$(printf '%b.' "${landfall_line#*=}") && landfall_val=${landfall_val%.}
		case $landfall_line in arg=*) set -- "$@" "$landfall_val" ;; *) export "${landfall_val%%=*}=${landfall_val#*=}" ;; esac
	done
	exec "$@" 9>&-
}
do_mark() {
	line_of "$dot/process" && set -- $got
	alive "$@" && [ "$7" = "$p_rollout" ] || fail "the process of rollout $p_rollout does not live (any more)"
	store "$dot/ready" "$5 $7 $1 $2" || full 4096
}
do_prune() { # the removing itself is done by `act`, after the lock
	line_of "$dot/process" && current=$(readlink "$folder/current") || current=''
	keep=" $p_keep ${current##*/} ${got##* } " kept=0 others=''
	for r in $(cd "$folder/releases" 2>/dev/null && ls -t); do
		[ -f "$dot/verified/$r" ] || continue
		case $keep in *" $r "*) kept=$((kept + 1)) ;; *) others="$others $r" ;; esac
	done
	for r in $others; do
		kept=$((kept + 1)) && [ $kept -gt "$p_atmost" ] || continue
		rm -rf "$dot/tmp/gone.$r" "$dot/verified/$r" && mv -T "$folder/releases/$r" "$dot/tmp/gone.$r" || fail "could not remove $r"
	done
}
do_release() { rm -f "$dot/owner" && sync "$dot"; }
do_adopt() { :; }
do_remove() {
	do_stop && clear_data && mkdir -p "$root/.landfall/trash" && mv -T "$folder" "$root/.landfall/trash/$p_folder.$$" && sync "$root" || exit 1
	rm -rf "$root/.landfall/trash/$p_folder.$$"
}
act() { # both sides of an acting call
	case $p_verb in stage) [ "$p_payload" = yes ] && take_payload && set -- detached || set -- ask ;; stop | remove) set -- detached ;; *) set -- inline ;; esac
	result=$(locked enter "$1")
	set -- $?
	[ -z "$spool" ] || rm -f "$spool"
	case $nl$result in *"$nl@attach=1"*) await && return 0 || return 1 ;; esac
	printf '%s\n' "$result"
	if [ "$p_verb" = prune ]; then set +f && for r in "$dot"/tmp/gone.*; do [ ! -e "$r" ] || rm -rf "$r"; done; fi
	return "$1"
}
# --- what is only looked at ---
rotate() { # a log of more than 10 MiB: its end is kept beside it. The application appends, so the file may be emptied; it is, even if no copy fits
	flock -n "$root/.landfall/rotating" find "$@" -size +20480 -exec sh -c \
		'rm -f "$1.1"; tail -c 10485760 "$1" >"$1.1"; : >"$1"; echo @rotated=1' sh {} \; 2>/dev/null
}
tools() { # what is missing; looked for once per boot
	line_of "$root/.landfall/tools" && [ "$got" = "$boot $self" ] && return 0
	lacks='' probe=$root/.landfall/probe.$$
	for tool in setsid flock tar sync mv ln find sort tail readlink df cp expr; do command -v $tool >/dev/null || lacks="$lacks $tool"; done
	command -v sha256sum >/dev/null || command -v openssl >/dev/null || lacks="$lacks sha256sum"
	[ -n "$boot" ] && stat_of $$ || lacks="$lacks /proc"
	mkdir -p "$probe/d" && ln -s d "$probe/a" && ln -s d "$probe/b" && mv -T "$probe/a" "$probe/b" 2>/dev/null || lacks="$lacks mv-T"
	(flock -n 9) 9>"$probe/lock" 2>/dev/null || lacks="$lacks flock-FD"
	sync "$probe" 2>/dev/null || lacks="$lacks sync-FILE"
	rm -rf "$probe"
	[ -n "$lacks" ] && printf '@missing=%s\n' $lacks || store "$root/.landfall/tools" "$boot $self"
}
facts() {
	say protocol 1 && say boot "$boot" && IFS=. read -r up _ </proc/uptime && say uptime "$up"
	tools; [ -z "$p_become" ] || probe_users $p_become
	space && say free "$free"
	df -Pi "$root" 2>/dev/null | { read -r _ && read -r _ _ _ i _ && say inodes "$i"; }
	if grep -q '/session-.*\.scope' /proc/self/cgroup 2>/dev/null; then scoped; fi
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
listener() { # does our process live, and whose socket answers on 127.0.0.1:PORT: one of its session?
	whose && process_fact && [ "$p_port" != 0 ] || return 0
	set -- $got
	hex=$(printf %04X "$p_port") exact='' wild=''
	for table in /proc/net/tcp /proc/net/tcp6; do
		while read -r _ at _ st _ _ _ _ _ inode _; do
			case $st.$at in
			0A.0100007F:"$hex" | 0A.0000000000000000FFFF00000100007F:"$hex") exact="$exact $inode" ;;
			0A.00000000:"$hex" | 0A.00000000000000000000000000000000:"$hex") wild="$wild $inode" ;;
			esac
		done <"$table"
	done 2>/dev/null
	: "${exact:=$wild}"
	if [ -z "$exact" ]; then say listener nobody && return 0; fi
	answer=foreign && alive "$@" && mates "$1" || found=''
	for mate in $found; do
		links=$(as 'ls -l "/proc/$1/fd"' "$mate" 2>/dev/null) || answer=unknown
		for inode in $exact; do case $links in *"socket:[$inode]"*) answer=ours && break 2 ;; esac done
	done
	say listener $answer
}
call() {
	take_parameters
	[ "$p_verb" != facts ] || { facts && return 0; }
	place
	case $p_verb in
	stage | stop | switch | start | mark | prune | remove | release | adopt)
		case $p_verb in remove | release) [ -d "$dot" ] || { say journal 0 && return 0; } ;; esac
		{ [ -d "$dot/verified" ] || mkdir -p "$dot/steps" "$dot/tmp" "$dot/verified" 2>/dev/null || full 4096; } && act &&
			{ [ ! -d "$dot" ] || folder_facts; } ;; # what is true after it, so that nobody need ask
	attach) p_verb=$p_step && await ;;
	listener) listener ;;
	tail) tail -n "$p_lines" "$folder/shared/log/output.log" 2>/dev/null | tail -c 65536 | sed 's/^/|/' ;;
	*) refuse input verb ;;
	esac
}
case ${1-} in
--step | --launch | --leave) take_parameters <"$2/params" && place && dir=$2 && "${1#--}" ;;
*)
	printf '\n%s begin 1\n' "$1"
	(call)
	printf '\n%s end %s\n' "$1" $?
	;;
esac
