//! Who a process is: pid, start time and boot id together. A pid alone identifies nothing. It must not signal on a pid alone.

use std::{fs, io};

use serde::{Deserialize, Serialize};

/// A process, as it records itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub(super) start: u64,
    pub(super) boot_id: String,
}

impl Identity {
    /// Of this very process.
    pub(super) fn own() -> io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let stat = Stat::read(pid).ok_or_else(|| io::Error::other("/proc/self/stat can't be read"))?;
        Ok(Self { pid, start: stat.start, boot_id: boot_id()? })
    }

    /// Whether that process still runs. A zombie is dead, and so is a stranger under its pid.
    pub(super) fn alive(&self) -> bool {
        let same =
            Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && !matches!(stat.state, 'Z' | 'X'));
        same && boot_id().is_ok_and(|boot| boot == self.boot_id)
    }
}

/// What is needed of `/proc/PID/stat`.
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) start: u64,
}

impl Stat {
    /// `None` where there is no such process.
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may hold any character, also `)`: read after the last one.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start })
    }
}

/// Every process of this namespace, with its stat.
pub(super) fn processes() -> impl Iterator<Item = (i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, Stat::read(pid)?)))
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (x)) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert!(Stat::parse(text).is_some_and(|stat| stat.start == 4711 && stat.parent == 3 && stat.state == 'S'));
    }

    #[test]
    fn a_stranger_under_the_same_pid_is_not_alive() -> io::Result<()> {
        let own = Identity::own()?;
        assert!(own.alive());
        assert!(!Identity { start: own.start + 1, ..own.clone() }.alive());
        assert!(!Identity { boot_id: "another".into(), ..own }.alive());
        Ok(())
    }
}
