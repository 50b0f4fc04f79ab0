//! `/proc/PID/stat`, and the list of all processes.

use std::{fs, io::Read};

use crate::clock;

/// Bytes of a line: 52 numbers and a name of at most 64 characters.
const LINE_MAX: usize = 2 << 10;

/// What one line of `/proc/PID/stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub threads: i64,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

impl Stat {
    /// The process's name may hold anything, parentheses and line breaks too: the fields begin after the last `)`.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let threads = fields.nth(13)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        Some(Self { state, parent, group, session, threads, start })
    }

    /// `None`: there is no such process, or it may not be seen.
    pub fn read(pid: i32) -> Option<Self> {
        let mut line = [0u8; LINE_MAX];
        let mut file = fs::File::open(format!("/proc/{pid}/stat")).ok()?;
        // The kernel writes it whole or not at all.
        let length = file.read(&mut line).ok()?;
        Self::parse(line.get(..length)?)
    }

    /// A zombie is dead; but not one whose other threads live, for its first thread alone has ended. Stopped, traced and in
    /// uninterruptible sleep is alive.
    pub fn is_dead(&self) -> bool {
        match self.state {
            'Z' => self.threads <= 1,
            'X' | 'x' => true,
            _ => false,
        }
    }
}

/// Start time of a process that begins now: ticks are of 1/100 s on every machine.
pub fn start_time_now() -> u64 {
    clock::uptime_millis() / 10
}

/// Every pid that may be seen.
pub fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every process that may be seen and is not dead.
pub fn table() -> Vec<(i32, Stat)> {
    pids().into_iter().filter_map(|pid| Some((pid, Stat::read(pid)?))).filter(|(_, stat)| !stat.is_dead()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_hides_no_field() {
        let line = b"4711 (a) R 9 9 (\n) S 12 13 14 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 2 3";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 12, group: 13, session: 14, threads: 3, start: 98765 });
    }

    #[test]
    fn a_zombie_is_dead_unless_other_threads_live() {
        let with = |state, threads| Stat { state, parent: 1, group: 1, session: 1, threads, start: 1 };
        assert!(with('Z', 1).is_dead());
        assert!(with('X', 1).is_dead());
        assert!(!with('Z', 2).is_dead());
        assert!(!with('T', 1).is_dead());
        assert!(!with('D', 1).is_dead());
    }

    #[test]
    fn what_is_no_line_of_stat_is_none() {
        for line in [&b""[..], b"1 (x", b"1 (x) S", b"1 (x) S 1 2 3", b"1 (x) S a b c d e f g h i j k l m n o p q r s"]
        {
            assert_eq!(Stat::parse(line), None);
        }
    }
}
