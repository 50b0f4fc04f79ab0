//! From a connection to the running program: one line of `sh` finds it, a second channel brings it where it is missing.
//!
//! The login shell may be any: the line is `exec /bin/sh -c '…'`, on one line, without `!` and without backslashes before a quote or a
//! backslash, so sh, bash, zsh, fish, csh and tcsh read the same. What stands before our first words is a banner's or rc file's noise.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use landfall_host_protocol::{MAGIC, MAX_NOISE};

use super::{Image, Images, ProgramError};
use crate::{
    effects::ssh::{Connection, Pipe, PipeReader, PipeWriter, SshError},
    model::text::{one_line, printable_ascii, shell_quote},
};

/// The longest time until the program, or the line, says its first words.
const FIND_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time that an upload makes no progress, and that the host takes to verify and rename.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 64 << 10;
/// A server that allows one session at once frees it only a moment after it is closed.
const OPEN_TRIES: u32 = 8;
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// Output of an upload that is kept.
const OUTPUT_MAX: usize = 64 << 10;
/// Characters of what a host said that stand in a message.
const SAID_MAX: usize = 300;
/// What our own lines begin with.
const WORD: &str = "landfall-host ";

/// Prints the components of `$1` and of where it leads that another user may write. A sticky folder is one in which nobody renames what
/// is another's; a group that has the user's own name is its private one.
const SAFE: &str = r#"w() { a=$1; set --; while [ -n "$a" ]; do set -- "$@" "$a"; a=${a%/*}; done; me=; ls -ldn "$@" / 2>/dev/null | while read -r m l u g s x y z n; do
case $u in 0) ;; *) me=${me:-$(id -u)}; [ "$u" = "$me" ] || printf "%s belongs to the user %s; " "$n" "$u" ;; esac;
case $m in d???????w[x-]*) printf "everybody may write to %s; " "$n" ;;
d????w???[x-]*) case $g in 0) ;; *) [ "$g" = "$(id -g)" ] && [ "$(id -gn)" = "$(id -un)" ] || printf "the group %s may write to %s; " "$g" "$n" ;; esac ;; esac; done; };
v() { w "$1/.landfall/bin"; q=$(cd "$1" 2>/dev/null && pwd -P) || q=$1; [ "$q" = "$1" ] || w "$q/.landfall/bin"; };"#;

/// Arguments: root, digest for x86_64, digest for aarch64.
const FIND: &str = r#"r=$1; u=$(v "$r"); if [ -n "$u" ]; then printf "\nlandfall-host unsafe %s\n" "$u"; exit 0; fi;
a=$r/.landfall/bin/$2; b=$r/.landfall/bin/$3; if [ -x "$a" ]; then if [ -x "$b" ]; then [ "$(uname -m)" = x86_64 ] || a=$b; fi; else a=$b; fi;
if [ -x "$a" ]; then printf "\nlandfall-host starts\n"; exec "$a" session "$r"; fi; printf "\nlandfall-host absent %s\n" "$(uname -m)""#;

/// Arguments: root, digest. The bytes come on stdin; the program verifies itself, and renames itself to its place.
const PUT: &str = r#"r=$1; u=$(v "$r"); if [ -n "$u" ]; then printf "\nlandfall-host unsafe %s\n" "$u"; exit 0; fi;
p=$r/.landfall/bin; t=$p/.$2.$$.new; if e=$( { umask 022; mkdir -p "$p" && chmod 755 "$r/.landfall" "$p" && cat >"$t" && chmod 755 "$t" && "$t" install "$r" "$2"; } 2>&1 ); then printf "\nlandfall-host installed\n"; else rm -f "$t"; printf "\nlandfall-host failed %s\n" "$e"; fi"#;

/// Argument: root. Prints what is mounted where the root lies, its real path first, and what forbids programs there.
const WHERE: &str = r#"r=$1; until q=$(cd "${r:-/}" 2>/dev/null && pwd -P); do r=${r%/*}; done; printf "\nlandfall-host lies %s\n" "$q";
while read -r i p d o m x; do case $q/ in "${m%/}"/*) printf "%s\n" "$m $x" ;; esac; done </proc/self/mountinfo;
[ "$(cat /sys/fs/selinux/enforce 2>/dev/null)" = 1 ] && echo "landfall-host selinux"; [ -p /run/fapolicyd/fapolicyd.fifo ] && echo "landfall-host fapolicyd"; exit 0"#;

/// What the line found.
pub(super) enum Found {
    /// The program runs; `rest`: what it said after its first words.
    Running(Running),
    /// It is not there; the machine as `uname -m` says it.
    Absent(String),
    /// It is there and does not start: damaged, or of another machine.
    Damaged(String),
}

pub(super) struct Running {
    pub reader: PipeReader,
    pub writer: PipeWriter,
    pub rest: Vec<u8>,
}

/// The group's root, as it stands in our lines.
pub(super) fn quoted_root(root: &str) -> Result<String, ProgramError> {
    let bad = |why: &str| ProgramError::BadInput { what: "the group's root", why: why.to_owned() };
    let root = root.trim_end_matches('/');
    if !root.starts_with('/') {
        return Err(bad("it must be an absolute path, and not /"));
    }
    // csh takes `!` for a command of its history, fish a backslash for an escape, both within quotes.
    if root.chars().any(|c| c.is_control() || matches!(c, '!' | '\\')) {
        return Err(bad("no shell of every kind reads control characters, `!` and backslashes in a path alike"));
    }
    shell_quote(root).ok_or_else(|| bad("it holds a NUL byte"))
}

/// `sh` with these scripts and arguments, on one line. The scripts hold no single quote.
fn command(scripts: &[&str], arguments: &[&str]) -> String {
    let script = scripts.join(" ").replace('\n', " ");
    format!("exec /bin/sh -c '{script}' sh {}", arguments.join(" "))
}

/// Runs the line, and sends `request` right behind it: a program that is there answers in the same round trip.
pub(super) async fn find(
    connection: &Arc<Connection>,
    root: &str,
    images: &Images,
    request: Bytes,
) -> Result<Found, ProgramError> {
    let digest = |machine| images.get(machine).map_or("-", |image| image.digest.as_str());
    let line = command(&[SAFE, FIND], &[root, digest("x86_64"), digest("aarch64")]);
    let finding = async {
        let (mut reader, writer) = open(connection, line).await?.into_split();
        writer.write(request).await?;
        let (mut heard, mut starts) = (Vec::new(), false);
        loop {
            let Some(bytes) = reader.read().await? else { break };
            heard.extend_from_slice(&bytes);
            if let Some(at) = heard.windows(MAGIC.len()).position(|window| window == MAGIC) {
                let rest = heard.split_off(at + MAGIC.len());
                return Ok(Found::Running(Running { reader, writer, rest }));
            }
            match word(&heard) {
                Some(("unsafe", why)) => return Err(ProgramError::UnsafeRoot { why }),
                Some(("absent", machine)) => return Ok(Found::Absent(machine)),
                Some(("starts", _)) => starts = true,
                _ => {}
            }
            if heard.len() > MAX_NOISE {
                break;
            }
        }
        // What goes on talking is not listened to.
        writer.close().await;
        let (stderr, _) = reader.stderr();
        match starts {
            true => Ok(Found::Damaged(one_line(stderr, SAID_MAX))),
            false => Err(ProgramError::OtherCommand(shown(&[&heard, stderr].concat()))),
        }
    };
    match tokio::time::timeout(FIND_TIMEOUT, finding).await {
        Ok(found) => found,
        Err(_) => Err(ProgramError::Deadline { what: "its start", seconds: FIND_TIMEOUT.as_secs() }),
    }
}

/// Brings the program to the host.
pub(super) async fn put(connection: &Arc<Connection>, root: &str, image: &Image) -> Result<(), ProgramError> {
    let (mut reader, writer) = open(connection, command(&[SAFE, PUT], &[root, &image.digest])).await?.into_split();
    let late = |_| ProgramError::Deadline { what: "taking the program", seconds: STALL_TIMEOUT.as_secs() };
    let sending = async {
        let mut rest = image.bytes.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            tokio::time::timeout(STALL_TIMEOUT, writer.write(chunk)).await.map_err(late)??;
        }
        writer.end().await?;
        Ok::<_, ProgramError>(())
    };
    let listening = async {
        let mut heard = Vec::new();
        while let Some(bytes) = reader.read().await? {
            if heard.len() < OUTPUT_MAX {
                heard.extend_from_slice(&bytes);
            }
        }
        Ok::<_, ProgramError>(heard)
    };
    tokio::pin!(sending, listening);
    // A host that refuses says so and takes nothing more.
    let heard = tokio::select! {
        biased;
        heard = &mut listening => heard?,
        sent = &mut sending => {
            // What the host says counts more than that it took nothing more.
            let heard = tokio::time::timeout(STALL_TIMEOUT, &mut listening).await.map_err(late)?;
            if heard.is_err() {
                sent?;
            }
            heard?
        }
    };
    let why = match word(&heard) {
        Some(("installed", _)) => return Ok(()),
        Some(("unsafe", why)) => return Err(ProgramError::UnsafeRoot { why }),
        Some(("failed", why)) => why,
        _ => shown(&heard),
    };
    Err(match tokio::time::timeout(FIND_TIMEOUT, look_around(connection, root)).await {
        Ok(Ok(place)) => place.explain(why),
        // What the host says of its own accord is told.
        Ok(Err(_)) | Err(_) => ProgramError::NotInstalled(why),
    })
}

/// Why the root may take no program.
async fn look_around(connection: &Arc<Connection>, root: &str) -> Result<Place, ProgramError> {
    let (mut reader, writer) = open(connection, command(&[WHERE], &[root])).await?.into_split();
    writer.end().await?;
    let mut heard = Vec::new();
    while let Some(bytes) = reader.read().await? {
        if heard.len() < OUTPUT_MAX {
            heard.extend_from_slice(&bytes);
        }
    }
    Ok(Place::read(&String::from_utf8_lossy(&heard)))
}

/// What is known of the place where the root lies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    mount: Option<Mount>,
    /// What guards the host and may forbid programs.
    guards: Vec<&'static str>,
}

/// As the kernel tells it in `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: String,
    kind: String,
    noexec: bool,
    read_only: bool,
}

impl Place {
    fn read(heard: &str) -> Self {
        let (_, said) = heard.rsplit_once(&format!("\n{WORD}lies ")).unwrap_or_default();
        let mut place = Self::default();
        for line in said.lines().skip(1) {
            match line.strip_prefix(WORD) {
                Some("selinux") => place.guards.push("SELinux (look at `ausearch -m avc`)"),
                Some("fapolicyd") => place.guards.push("fapolicyd (it has to trust the folder)"),
                _ => {
                    let deepest = place.mount.as_ref().map_or(0, |mount| mount.point.len());
                    // Of two at one place the later one hides the other.
                    place.mount = Mount::read(line).filter(|mount| mount.point.len() >= deepest).or(place.mount);
                }
            }
        }
        place
    }

    /// `said`: what the host said when it was to take the program.
    fn explain(self, said: String) -> ProgramError {
        let Self { mount, guards } = self;
        if let Some(Mount { point, kind, noexec, read_only }) = mount.filter(|mount| mount.noexec || mount.read_only) {
            let (point, kind) = (one_line(point.as_bytes(), SAID_MAX), one_line(kind.as_bytes(), SAID_MAX));
            let why = if read_only {
                format!(
                    "{point} ({kind}) is mounted read-only; a kernel does that by itself after disk errors (`dmesg` tells). Remount it \
                     writable, or choose a root on another file system"
                )
            } else {
                debug_assert!(noexec);
                format!(
                    "{point} ({kind}) is mounted noexec, so no program can run from there; remount it with `mount -o remount,exec {point}` \
                     and in /etc/fstab, or choose a root on another file system"
                )
            };
            return ProgramError::UnfitRoot { why };
        }
        let is_denied = said.contains("ermission denied") || said.contains("not permitted");
        let guards = if is_denied { guards } else { Vec::new() };
        match guards.is_empty() {
            true => ProgramError::NotInstalled(said),
            false => ProgramError::NotInstalled(format!("{said}; {} may forbid it", guards.join(" or "))),
        }
    }
}

impl Mount {
    /// Mount point, its options, what is optional, `-`, file system, source, and the options of the file system.
    fn read(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let (point, options) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let (kind, _, all) = (system.next()?, system.next()?, system.next()?);
        let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
        Some(Self {
            point: point.replace(r"\040", " "),
            kind: kind.to_owned(),
            noexec: has(options, "noexec"),
            read_only: has(options, "ro") || has(all, "ro"),
        })
    }
}

/// A channel. Where a server allows few sessions at once the one before may count for a moment after it was closed.
async fn open(connection: &Arc<Connection>, line: String) -> Result<Pipe, ProgramError> {
    let mut tried = 0;
    loop {
        tried += 1;
        match Pipe::open_throttled(connection.clone(), line.clone()).await {
            Err(SshError::Lost { .. }) if tried < OPEN_TRIES && !connection.is_closed() => {
                tokio::time::sleep(OPEN_PAUSE * tried).await;
            }
            done => return Ok(done?),
        }
    }
}

/// The last whole line of ours: its word, and the rest, cleaned.
fn word(heard: &[u8]) -> Option<(&'static str, String)> {
    let text = String::from_utf8_lossy(heard);
    let whole = &text[..=text.rfind('\n')?];
    let (_, line) = whole.rsplit_once(&format!("\n{WORD}"))?;
    let line = &line[..=line.find('\n')?];
    ["unsafe", "absent", "starts", "installed", "failed"].into_iter().find_map(|word| {
        let rest = line.strip_prefix(word)?;
        (rest.starts_with(' ') || rest.starts_with('\n')).then(|| (word, one_line(rest.trim().as_bytes(), SAID_MAX)))
    })
}

fn shown(said: &[u8]) -> String {
    match std::str::from_utf8(said) {
        Ok(_) => one_line(said, SAID_MAX).trim().to_owned(),
        Err(_) => printable_ascii(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_lines_are_the_same_in_every_shell() {
        for scripts in [&[SAFE, FIND][..], &[SAFE, PUT], &[WHERE]] {
            let line = command(scripts, &["'/srv/landfall'", "-"]);
            let script = scripts.join(" ");
            assert!(script.contains(r#"printf "\nlandfall-host "#), "our word begins a line");
            assert!(!line.contains(['!', '\n']), "{line}");
            assert!(!script.contains('\''), "{script}");
            // fish reads a backslash before these two within quotes.
            assert!(!script.contains(r"\\") && !script.contains(r"\'"), "{script}");
            assert!(line.len() < 2000, "{} bytes", line.len());
        }
    }

    #[test]
    fn a_root_that_some_shell_reads_otherwise_is_refused() {
        for root in ["srv", "/", "//", "/srv/a!b", r"/srv/a\b", "/srv/a\nb", ""] {
            assert!(quoted_root(root).is_err(), "{root:?}");
        }
        assert_eq!(quoted_root("/srv/it's here/").unwrap(), r"'/srv/it'\''s here'");
    }

    #[test]
    fn the_mount_below_the_root_is_named_with_what_to_do() {
        let lies = "Welcome\n\nlandfall-host lies /srv/landfall\n/ rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
        let explain =
            |more: &str, said: &str| Place::read(&format!("{lies}{more}")).explain(said.to_owned()).to_string();
        let said = explain("/srv rw,nosuid,noexec shared:2 - xfs /dev/sdb1 rw,attr2\n", "install: Permission denied");
        assert!(said.contains("/srv (xfs) is mounted noexec") && said.contains("mount -o remount,exec /srv"), "{said}");
        let said = explain("/srv rw,noatime - ext4 /dev/sdb1 ro,errors=remount-ro\n", "mkdir: Read-only file system");
        assert!(said.contains("/srv (ext4) is mounted read-only"), "{said}");
        let said = explain("/srv ro,noexec - ext4 /dev/sdb1 rw\n/srv rw - ext4 /dev/sdc1 rw\n", "No space left");
        assert!(said.ends_with("No space left"), "what is hidden does not count: {said}");
        let said = explain("landfall-host selinux\nlandfall-host fapolicyd\n", "install: Permission denied");
        assert!(said.contains("SELinux") && said.contains("fapolicyd"), "{said}");
        assert!(explain("landfall-host selinux\n", "No space left").ends_with("No space left"));
        assert_eq!(Place::read("garbage"), Place::default());
    }

    #[test]
    fn our_word_is_found_behind_noise_and_only_when_its_line_is_whole() {
        assert_eq!(word(b"Welcome\n\nlandfall-host absent x86_64\n"), Some(("absent", "x86_64".to_owned())));
        assert_eq!(word(b"Welcome\n\nlandfall-host absent x86"), None);
        assert_eq!(word(b"\nlandfall-host starts\n\nlandfall-host: no\n"), Some(("starts", String::new())));
        assert_eq!(word(b"\nlandfall-host absentminded\n"), None);
        assert_eq!(word(b"\nlandfall-host unsafe \x1b[31mred; \n"), Some(("unsafe", "red;".to_owned())));
    }
}
