#!/bin/sh
# landfall's hand on a host: the acts of a rollout. become.sh and look.sh stand before it in one script, <root>/.landfall/bin/<sha256 of it>.
#   sh SCRIPT NONCE             one call: `key=value` lines on stdin, an empty line, then the payload if there is one
#   sh SCRIPT --step DIR        a detached step, started by a call, which it reads from stdin as above;  --launch DIR  becomes the application
# The answer stands between `NONCE begin` and `NONCE end STATUS`: `@key=value` lines are results, others are what a tool said.
# Names and numbers are checked before use; commands and environment come as data (`\0ooo` for every unsafe byte), and never lie on a disk.
# Under the lock nothing is read from or written to the connection: input is complete before, output is sent after.
# shellcheck disable=SC2086,SC2015,SC2012,SC2016,SC2034,SC2154 # words are split on purpose (globbing is off), `&& … ||` too, and ls sees only our names
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
# A file is replaced by a whole new one or not at all, whatever dies in between; its folder comes to the disk with the journal's next line.
settle() { { printf '%s\n' "$2" >"$1.new"; } 2>/dev/null && sync "$1.new" && mv -f "$1.new" "$1"; }
store() { settle "$1" "$2" && sync "${1%/*}"; }                                                   # or right now,
brief() { { printf '%s\n' "$2" >"$1.new"; } 2>/dev/null && mv -f "$1.new" "$1"; }                # or never: what no reboot outlives
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
parameters() { for key in "$@"; do eval "printf '%s=%s\n' $key \"\$p_$key\""; done; } # KEY …: as take_parameters reads them
place() { # checks what paths are made of, and says where things are
	case $p_folder in .* | *. | *.*.* | *[!a-z0-9.-]*) refuse input folder ;; *.*) ;; *) refuse input folder ;; esac
	case $p_release/$p_stepdir/$p_step/$p_user/$p_by/ in .* | */.* | -* | */-* | *' '*) refuse input name ;; esac
	case $p_size$p_grace$p_revision$p_atmost$p_port$p_lines$p_patience in *[!0-9]*) refuse input number ;; esac
	case $p_signal in '' | *[!A-Z0-9]*) refuse input signal ;; esac
	folder=$root/$p_folder dot=$root/$p_folder/.landfall dir=$root/$p_folder/.landfall/steps/$p_stepdir/${p_step:-$p_verb}
}
spawn() { # in a session of its own, with default signals where setsid can fork by itself (`&` would ignore INT and QUIT)
	line_of "$root/.landfall/tools" && case $got in "$boot $self "*) got=${got##* } ;; *) if setsid -f true 2>/dev/null; then got=-f; else got=''; fi ;; esac
	if [ "$got" = -f ]; then setsid -f "$@"; else { setsid "$@" <&3 3<&- & } 3<&0; fi
}
# --- the lock, the fence and the journal ---
# FUNCTION …: its output is in `out`, to be sent when the lock is free again
locked() { out=$( (hold && "$@") 9<>"$dot/lock" 8>>"$dot/steps/lock" </dev/null 2>&1); }
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
note() { # STATE: adds a line, which comes to the disk with the folders that the act changed; of a hundred the last 50 are kept
	j_n=$((j_n + 1)) j_lines=$((j_lines + 1)) left=''
	line="$j_n $1 $p_verb $p_act"
	[ "$1" != end ] || case $p_verb in stage) left='releases .landfall/verified' ;; *) left='. .landfall' ;; esac
	if [ -z "$j_torn" ] && [ $j_lines -lt 100 ]; then
		{ printf '%s\n' "$line" >>"$dot/journal"; } 2>/dev/null || full 4096
	else
		lines=$(tail -n 50 "$dot/journal" 2>/dev/null | while read -r s; do printf '%s\n' "$s"; done && printf '%s\n' "$line")
		settle "$dot/journal" "$lines" || full 4096
		left="$left .landfall"
	fi
	(cd "$folder" && sync .landfall/journal $left) || full 4096
}
# WHY: the act is over, and which part of it failed.
fail() { note fail && say journal "$j_n" && refuse failed "${part:-$p_verb}" "$*"; }
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
fresh() { # the folder of a step, empty; of those before it some stay
	set +f && set -- "$dot"/steps/*-*/
	[ $# -lt 20 ] || for old in $(cd "$dot/steps" && ls -td -- *-*/ 2>/dev/null | tail -n +10); do rm -rf "${dot:?}/steps/$old"; done
	set -f
	{ [ ! -e "$dir" ] || rm -rf "$dir"; } && mkdir -p "$dir" || full 4096
}
detached() { begin && depart; }
depart() { # an act that may take longer goes on in a session of its own, which holds steps/lock (8) for its life
	fresh
	[ -z "$spool" ] || mv "$spool" "$dir/payload" || full "$p_size"
	{ parameters verb folder owner fence act stepdir release digest size signal grace port heal revision rollout user by && printf '%s\n' "$data"; } |
		spawn $shell "$self" --step "$dir" >"$dir/log" 2>&1 9>&-
	say attach 1
}
await() { # the step's end; its result is in `out`
	IFS=. read -r up _ </proc/uptime && since=$up
	(flock -s -w "$p_patience" 8) 2>/dev/null 8>>"$dot/steps/lock" || : # it is free when the step is over; where flock can not wait: look
	IFS=. read -r up _ </proc/uptime && ticks=$(((up - since) * 20 - 10))
	while [ -d "$dir" ] && [ ! -f "$dir/exit" ]; do
		line_of "$dir/pid"
		if [ -n "$got" ] && ! alive $got && [ ! -f "$dir/exit" ] && [ -d "$dir" ]; then refuse failed "$p_verb" "the step was killed"; fi
		ticks=$((ticks + 1))
		[ -n "$got" ] || [ $ticks -le 400 ] || refuse failed "$p_verb" "the step did not begin"
		[ $((ticks / 20)) -le "$p_patience" ] && nap || refuse busy "$p_verb" "$p_act"
	done
	if [ ! -d "$dir" ]; then # it was removed, or it was no step but an act of a moment
		[ "$p_verb" = remove ] && say journal 0 && return 0
		journal && refuse moved "$j_n"
	fi
	line_of "$dir/exit" && set -- "$got"
	[ "$1" = 0 ] || tail -n 20 "$dir/log" | tail -c 16384
	cat "$dir/out"
	return "$1"
}
step() { # the detached side
	stat_of $$ && brief "$dir/pid" "$$ $start $boot" || exit 1
	hashing
	case $p_verb in turn) work=do_stop ;; *) work=do_$p_verb ;; esac
	("$work") >"$dir/result"
	over=$?
	[ -d "$dir" ] || exit 0
	locked finish || [ "$over" != 0 ] || over=1
	printf '%s\n' "$out" >"$dir/out"
	brief "$dir/exit" "$over"
}
finish() {
	journal
	if [ "$over" = 0 ]; then
		[ "$p_verb" != turn ] || go_on
		note end && say journal "$j_n" && return 0
	fi
	note fail && say journal "$j_n"
	if grep -q -e 'No space left' -e 'quota exceeded' "$dir/log"; then full "$p_size"; fi
	grep '^@error=' "$dir/result" || refuse failed "$p_verb" "exit status $over"
}
# --- the acts ---
command -v sha256sum >/dev/null && hasher=sha256sum || hasher='openssl dgst -sha256 -r'
# For what is big: slower to begin, and four times as fast.
hashing() { [ ${#p_size} -lt 8 ] || ! command -v openssl >/dev/null || hasher='openssl dgst -sha256 -r'; }
digest() { $hasher | { read -r sum _ && printf %s "$sum"; }; }
tree() { # FOLDER: one digest over its files and links, to know it again, whoever digests
	cd "$1" && set -- find . -type f -exec $hasher {} + -o -type l -exec sh -c 'for l; do echo "$l > $(readlink "$l")"; done' sh {} +
	case $hasher in openssl*) "$@" | sed 's/^\([0-9a-f]*\) \*/\1  /' ;; *) "$@" ;; esac | sort | digest
}
staged() { [ -s "$dot/verified/$p_release" ] && [ -d "$folder/releases/$p_release" ]; } # was it there, whole, once?
take_payload() { # complete and verified before any lock
	stat_of $$ && spool=$dot/tmp/in.$$.$start
	{ cat >"$spool"; } 2>/dev/null || { rm -f "$spool" && full "$p_size"; }
	got=$($hasher <"$spool")
	[ "${got%% *}" = "$p_digest" ] || { rm -f "$spool" && refuse digest "${got%% *}"; }
}
ask() { # before the bytes are sent: is the release there, is there room for it?
	if staged && line_of "$dot/verified/$p_release" && [ "${got%% *}" = "$p_digest" ]; then detached && return 0; fi
	space && if lower "$free" $((p_size / 512 + 1024)); then refuse full "$free" "$p_size"; fi # the tar, and what comes out of it
	say need 1
}
staging() { # a small release is unpacked at once
	begin
	said=$( (do_stage) 2>&1)
	over=$?
	[ $over -ne 0 ] || { note end && say journal "$j_n" && return 0; }
	note fail && say journal "$j_n" && printf '%s\n' "$said"
	case $said in *'No space left'* | *'quota exceeded'*) full "$p_size" ;; esac
	refuse failed stage "exit status $over"
}
do_stage() {
	payload=${spool:-$dir/payload}
	set +f
	for left in "$dot"/tmp/*; do # of calls and steps that died
		id=${left##*/in.}
		[ ! -e "$left" ] || { [ "$id" != "$left" ] && alive "${id%.*}" "${id#*.}" "$boot"; } || rm -rf "$left"
	done
	set -f
	[ ! -e "$root/.landfall/trash" ] || rm -rf "$root/.landfall/trash"
	line_of "$dot/verified/$p_release"
	if staged && [ "$got" = "$p_digest $(tree "$folder/releases/$p_release")" ]; then rm -f "$payload" && return 0; fi
	[ -z "$got" ] || rm -f "$dot/verified/$p_release"
	[ -f "$payload" ] || { say error corrupt && exit 1; }
	new=$dot/tmp/x.$p_release old=$dot/tmp/old.$p_release
	[ -d "$folder/releases" ] || { chmod 755 "$folder" && (umask 022 && mkdir -p "$folder/releases"); } || exit 1
	(umask 022 && mkdir "$new" && tar -xomf "$payload" -C "$new") || { rm -rf "$new" "$payload" && exit 1; }
	find "$new" \( -type f -o -type d \) -exec sync {} + && sum=$(tree "$new") || exit 1
	[ ! -d "$folder/releases/$p_release" ] || mv -T "$folder/releases/$p_release" "$old" || exit 1
	mv -T "$new" "$folder/releases/$p_release" && sync "$folder/releases" && settle "$dot/verified/$p_release" "$p_digest $sum" || exit 1
	rm -rf "$old" "$payload"
}
do_stop() {
	whose && line_of "$dot/process" && set -- $got
	if alive "$@" || { [ "$p_signal" = 0 ] && survived "$@"; }; then
		[ "$p_signal" = 0 ] || signal "$p_signal" "-$1" # (0: a turn has sent it)
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
	rm -f "$dot/process" "$dot/ready"
}
# A turn is stop, switch and start with one line before and one after. What a moment suffices for is done at once, under the lock; a process
# that takes longer to end is waited for by a step. Done again after a death anywhere it does what is left to do.
turning() {
	staged || refuse moved "$j_n" # (who sent this has an old view)
	begin
	whose && line_of "$dot/process" && set -- $got
	if alive "$@"; then
		if [ "$4 $5 $7" != "$p_digest ${p_act%% *} $p_rollout" ]; then
			signal "$p_signal" "-$1"
			ticks=-25
			while alive "$@" || mates "$1"; do
				[ $ticks -lt 0 ] || { p_signal=0 && depart && return 0; }
				ticks=$((ticks + 1)) && nap
			done
			go_on
		else
			part=switch && do_switch
		fi
	else
		go_on
	fi
	note end && say journal "$j_n"
}
go_on() { # nothing of ours runs. Where somebody else has the port nothing is started: the controller sees that, and looks into it
	part=switch && do_switch
	if [ "$p_port" != 0 ] && sockets "$p_port"; then
		[ "$p_heal" = 1 ] || rm -f "$dot/process" "$dot/ready"
		say port "$p_port"
	else
		part=start && do_start
	fi
}
do_switch() {
	staged || fail "the release is not on the host"
	{ [ ! -L "$dot/tmp/current" ] || rm -f "$dot/tmp/current"; } && ln -s "releases/$p_release" "$dot/tmp/current" &&
		mv -T "$dot/tmp/current" "$folder/current" || fail "could not link"
}
do_start() {
	line_of "$dot/process" && set -- $got
	if alive "$@"; then
		[ "$4 $5 $7" = "$p_digest ${p_act%% *} $p_rollout" ] && return 0
		fail "another process of this project still runs (pid $1)"
	fi
	staged || fail "the release is not on the host"
	dir=$dot/steps/$p_stepdir/start && fresh
	[ -d "$folder/shared/data" ] || (umask 022 && mkdir -p "$folder/shared/log" "$folder/shared/data") || full 4096
	log=$folder/shared/log/output.log
	umask 022
	{ printf '=== landfall starts %s, rollout %s\n' "$p_release" "$p_rollout" >>"$log"; } 2>/dev/null || full 4096
	umask 077
	IFS=. read -r up _ </proc/uptime && set -- $p_act
	if [ "$p_heal" = 1 ]; then # restarts in a row
		store "$dot/heals" "$(tail -n 5 "$dot/heals" 2>/dev/null)$nl$boot $up $3" && set -- || full 4096
	else
		set -- "$dot/heals" "$dot/ready"
	fi
	rm -f "$dot/process" "$dot/user" "$@" || full 4096
	if [ -n "$p_user" ]; then start_as && return 0; fi
	{ parameters folder fence digest act revision rollout release && printf '%s\n' "$data"; } |
		spawn $shell "$self" --launch "$dir" >>"$log" 2>&1 8>&- # keeps the lock (9) until its identity is on disk
	ticks=-10
	while line_of "$dot/process" && [ -z "$got" ]; do
		line_of "$dir/pid" && { [ -z "$got" ] || alive $got || [ -s "$dot/process" ] || fail "the process died before it was one"; }
		ticks=$((ticks + 1)) && [ $ticks -le 200 ] && [ ! -f "$dir/failed" ] && nap || fail "the process could not record its identity"
	done
}
launch() { # becomes the application: exec keeps pid and start time, so it never runs without an identity
	stat_of $$ && printf '%s\n' "$$ $start $boot" >"$dir/pid" && seat && cd "$folder/releases/$p_release" &&
		settle "$dot/process" "$$ $start $boot $p_digest ${p_act%% *} $p_revision $p_rollout $p_release" || { : >"$dir/failed" && exit 1; }
	umask 022 && unset LC_ALL LANDFALL_SH SSH_CLIENT SSH_CONNECTION SSH_TTY
	set -- && IFS=$nl
	for landfall_line in $data; do # arg=VALUE or env=NAME=VALUE; the names of our variables must not be the application's
		landfall_val=$(printf '%b.' "${landfall_line#*=}") && landfall_val=${landfall_val%.}
		case $landfall_line in arg=*) set -- "$@" "$landfall_val" ;; *) export "${landfall_val%%=*}=${landfall_val#*=}" ;; esac
	done
	exec "$@" 9>&-
}
do_mark() { # and prune, where releases to keep are named: what can't be removed stays for an act of its own
	whose && line_of "$dot/process" && set -- $got
	alive "$@" && [ "$7" = "$p_rollout" ] || fail "the process of rollout $p_rollout does not live (any more)"
	if [ "$p_port" != 0 ] && whom "$@" && [ "$answer" = foreign ]; then # of one that died meanwhile nobody is a stranger
		alive "$@" && note fail && say journal "$j_n" && refuse port "$p_port" || fail "the process of rollout $p_rollout died"
	fi
	settle "$dot/ready" "$5 $7 $1 $2" || full 4096
	[ -z "$p_keep" ] || prune || :
}
do_prune() { prune || fail "could not remove $r"; }
prune() { # the removing itself is done by `act`, after the lock
	line_of "$dot/process" && current=$(readlink "$folder/current") || current=''
	keep=" $p_keep ${current##*/} ${got##* } " kept=0 others=''
	for r in $(cd "$folder/releases" 2>/dev/null && ls -t); do
		[ -f "$dot/verified/$r" ] || continue
		case $keep in *" $r "*) kept=$((kept + 1)) ;; *) others="$others $r" ;; esac
	done
	for r in $others; do
		kept=$((kept + 1)) && [ $kept -gt "$p_atmost" ] || continue
		rm -rf "$dot/tmp/gone.$r" "$dot/verified/$r" && mv -T "$folder/releases/$r" "$dot/tmp/gone.$r" || return 1
	done
}
do_release() { rm -f "$dot/owner"; }
do_adopt() { :; }
do_remove() {
	do_stop && clear_data && mkdir -p "$root/.landfall/trash" && mv -T "$folder" "$root/.landfall/trash/$p_folder.$$" && sync "$root" || exit 1
	rm -rf "$root/.landfall/trash/$p_folder.$$"
}
act() { # both sides of an acting call
	case $p_verb in
	stage)
		hashing
		if [ "$p_payload" != yes ]; then set -- ask; else
			take_payload
			if [ ${#p_size} -lt 8 ] && [ "$p_size" -le 4194304 ]; then set -- staging; else set -- detached; fi
		fi
		;;
	turn) set -- turning ;;
	stop | remove) set -- detached ;;
	*) set -- inline ;;
	esac
	locked enter "$1"
	set -- $?
	[ -z "$spool" ] || [ ! -e "$spool" ] || rm -f "$spool"
	case $nl$out in *"$nl@attach=1"*) await && return 0 || return 1 ;; esac
	printf '%s\n' "$out"
	case $p_verb in prune | mark) set +f && for r in "$dot"/tmp/gone.*; do [ ! -e "$r" ] || rm -rf "$r"; done ;; esac
	return "$1"
}
call() {
	take_parameters
	[ "$p_verb" != facts ] || { facts && return 0; }
	place
	case $p_verb in
	stage | turn | stop | switch | start | mark | prune | remove | release | adopt)
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
--step | --launch) take_parameters && exec </dev/null && place && dir=$2 && "${1#--}" ;;
--leave) take_parameters <"$2/params" && place && leave ;; # (become.sh; its input is for the other user's shell)
*)
	printf '\n%s begin 1\n' "$1"
	(call)
	printf '\n%s end %s\n' "$1" $?
	;;
esac
