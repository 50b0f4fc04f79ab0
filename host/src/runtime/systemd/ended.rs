//! How the application ended last: a line that the unit's `ExecStopPost=` writes, for once systemd has started it again nobody else knows.
//!
//! systemd gives every command of a unit the environment of its `EnvironmentFile=`, which is the application's: its owner chooses PATH,
//! LD_PRELOAD and the like. So that command has the rights of the application and none more (no `+`, no `!`): whatever it is made to run,
//! the application could run by itself. It can't write to `.landfall/` then, but to one file that is made for it, below a folder in which
//! it can't put anything else in the file's place; the line has always the same length and is written over the one before. What is
//! read there is the word of the application, as its exit status is.

use std::{
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    time::UNIX_EPOCH,
};

use landfall_host_protocol::Ended;

use crate::{files, folder::Folder};

/// Characters of the line, whatever it says.
const WIDTH: usize = 120;

/// One end, as systemd told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastEnd {
    pub(super) ended: Ended,
    /// The host's clock, milliseconds since 1970.
    pub(super) at_millis: i64,
}

/// Where it lies.
pub(super) fn path(folder: &Folder) -> std::path::PathBuf {
    folder.shared().join("unit.ended")
}

/// Makes a new file there. It belongs to the user who owns the application's data, for that one writes it.
pub(super) fn make(folder: &Folder) -> io::Result<()> {
    let path = path(folder);
    let file = files::create(&path, 0o600)?;
    let user = std::fs::symlink_metadata(folder.shared().join("data"))?.uid();
    if user != file.metadata()?.uid() {
        std::os::unix::fs::fchown(&file, Some(user), None)?;
    }
    files::sync_file(&file)?;
    files::sync_parent(&path)
}

/// The command for `sh` that writes it, of what is built into every `sh`. It runs in the unit's cgroup, whose count of OOM kills goes with
/// it: systemd reads that of cgroup version 2 alone.
pub(super) fn command(folder: &Folder) -> String {
    let path = path(folder);
    let path = path.display();
    format!(
        "g=; while IFS=: read -r _ c p; do [ \"$c\" = memory ] && g=$p; done </proc/self/cgroup; n=0; \
         [ -z \"$g\" ] || while read -r k v; do [ \"$k\" = oom_kill ] && n=$v; done 2>/dev/null </sys/fs/cgroup/memory$g/memory.oom_control; \
         read -r up _ </proc/uptime; \
         printf '%-{WIDTH}s\\n' \"$up ${{SERVICE_RESULT:--}} ${{EXIT_CODE:--}} ${{EXIT_STATUS:--}} $n\" 1<>{path}"
    )
}

/// What was written last; `None`: nothing, or nothing that can be read.
pub(super) fn read(folder: &Folder) -> Option<LastEnd> {
    let file = files::open_to_read(&path(folder)).ok()?;
    let changed = file.metadata().ok()?.modified().ok()?;
    let mut text = String::new();
    file.take(WIDTH as u64 + 1).read_to_string(&mut text).ok()?;
    let at_millis = i64::try_from(changed.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(LastEnd { ended: parse(&text)?, at_millis })
}

fn parse(text: &str) -> Option<Ended> {
    let mut words = text.trim_end().split(' ');
    let (up, result, code, status) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let kills: u64 = words.next()?.parse().ok()?;
    let (seconds, hundredths) = up.split_once('.')?;
    let at =
        seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(hundredths.parse::<u64>().ok()?.min(99) * 10)?;
    let is_name = |name: &str| {
        (1..=16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b))
    };
    let (status, signal) = match code {
        "exited" => (Some(status.parse().ok()?), None),
        "killed" | "dumped" if is_name(status) => (None, Some(status.to_owned())),
        "-" => (None, None),
        _ => return None,
    };
    let killed = signal.as_deref() == Some("KILL");
    let out_of_memory = result == "oom-kill" || killed && kills > 0;
    Some(Ended { status, signal, at, out_of_memory, lines: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_signal_and_lack_of_memory_are_told_apart() {
        let ended = parse("12.34 exit-code exited 3 0\n").unwrap();
        assert_eq!((ended.status, ended.signal, ended.at, ended.out_of_memory), (Some(3), None, 12_340, false));
        let ended = parse("12.34 signal killed SEGV 0\n").unwrap();
        assert_eq!((ended.status, ended.signal.as_deref(), ended.out_of_memory), (None, Some("SEGV"), false));
        assert!(!parse("12.34 signal killed KILL 0\n").unwrap().out_of_memory);
        assert!(parse("12.34 signal killed KILL 1\n").unwrap().out_of_memory, "cgroup version 1");
        assert!(parse("12.34 oom-kill killed KILL 0\n").unwrap().out_of_memory, "cgroup version 2");
        assert!(parse("12.34 oom-kill exited 1 0\n").unwrap().out_of_memory, "one of its children");
        let ended = parse("12.34 resources - - 0\n").unwrap();
        assert_eq!((ended.status, ended.signal), (None, None));
    }

    #[test]
    fn what_can_not_be_read_is_no_end() {
        for text in [
            "",
            "x",
            "12.34 signal killed KILL",
            "12 success exited 0 0",
            "1.2 a killed \u{1b}[31m 0",
            "1.2 a exited KILL 0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
