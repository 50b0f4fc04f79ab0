//! Which processes belong to an application: descendants, members of its session, and who carries its mark. And which ones are merely
//! suspected, because they run from below our releases: those are told, and never signalled.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use landfall_host_protocol::StrangerFacts;

use super::{
    identity::Identity,
    stat::{Stat, pids, table},
};

/// Variable of the environment whose value is another one at each start.
pub const MARK: &str = "LANDFALL_INSTANCE";

/// Processes that are named to a person at once.
const NAMED_MAX: usize = 20;
/// Characters of a command line that are shown.
const SHOWN_MAX: usize = 200;

/// All living processes below this one, itself not among them.
pub fn descendants(of: i32) -> Vec<Identity> {
    if has_lists_of_children() { descendants_by_lists(of) } else { descendants_by_table(of) }
}

/// By `/proc/PID/task/*/children`: only those are read that belong to it.
fn descendants_by_lists(of: i32) -> Vec<Identity> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([of]);
    let mut open = vec![of];
    while let Some(pid) = open.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        let lists: Vec<String> =
            tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
        let children = lists.iter().flat_map(|list| list.split_ascii_whitespace());
        for child in children.filter_map(|word| word.parse::<i32>().ok()) {
            if !seen.insert(child) {
                continue;
            }
            open.push(child);
            if let Some(stat) = Stat::read(child).filter(|stat| !stat.is_dead()) {
                found.push(Identity::with(child, &stat));
            }
        }
    }
    found
}

fn has_lists_of_children() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero();
    Path::new(&format!("/proc/{own}/task/{own}/children")).exists()
}

fn descendants_by_table(of: i32) -> Vec<Identity> {
    // Zombies are links of the chain as well, until they are waited for.
    let all: Vec<(i32, Stat)> = pids().into_iter().filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
    let mut below = BTreeSet::from([of]);
    loop {
        let before = below.len();
        below.extend(
            all.iter().filter(|(_, stat)| below.contains(&stat.parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if below.len() == before {
            break;
        }
    }
    all.iter()
        .filter(|(pid, stat)| *pid != of && below.contains(pid) && !stat.is_dead())
        .map(|(pid, stat)| Identity::with(*pid, stat))
        .collect()
}

/// Living members of a session. While one of them lives the session's number is given to no other process; so this proves something
/// only to who saw the session alive without a gap.
pub fn session_members(session: i32) -> Vec<Identity> {
    table().iter().filter(|(_, stat)| stat.session == session).map(|(pid, stat)| Identity::with(*pid, stat)).collect()
}

/// Living processes that were started with this value of [`MARK`]. Programs that overwrite their environment, setuid ones and other
/// users' show none.
pub fn marked(value: &str) -> Vec<Identity> {
    if value.is_empty() {
        return Vec::new();
    }
    let wanted = format!("{MARK}={value}");
    let carries = |pid: i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
    };
    // The start time is read on both sides: the pid may have passed to another in between.
    table()
        .iter()
        .filter(|(pid, stat)| carries(*pid) && Stat::read(*pid).is_some_and(|again| again.start == stat.start))
        .map(|(pid, stat)| Identity::with(*pid, stat))
        .collect()
}

/// Living processes whose executable or working directory lies below `releases`, but for those of `known` and the one that asks.
pub fn suspected(releases: &Path, known: &[Identity]) -> Vec<StrangerFacts> {
    let mut places: Vec<PathBuf> = vec![releases.to_owned()];
    places.extend(fs::canonicalize(releases));
    let below = |link: PathBuf| places.iter().any(|place| link.starts_with(place));
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let found: Vec<Identity> = table()
        .iter()
        .filter(|(pid, _)| *pid != own)
        .filter(|(pid, stat)| !known.iter().any(|process| process.pid == *pid && process.start == stat.start))
        .filter(|(pid, _)| {
            ["exe", "cwd"].iter().any(|link| fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(below))
        })
        .map(|(pid, stat)| Identity::with(*pid, stat))
        .collect();
    describe_all(&found)
}

/// The first few of these processes as a person is told of them, and in a last entry without a pid how many more there are: any number of
/// them fits a fact.
pub fn describe_all(processes: &[Identity]) -> Vec<StrangerFacts> {
    let mut all: Vec<StrangerFacts> = processes.iter().take(NAMED_MAX).map(describe).collect();
    if let Some(more) = processes.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        all.push(StrangerFacts { pid: 0, start: 0, what: format!("and {more} more") });
    }
    all
}

/// A process as a person is told of it.
pub fn describe(process: &Identity) -> StrangerFacts {
    let pid = process.pid;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command: Vec<u8> = command.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    let mut what = String::from_utf8_lossy(&command).trim().to_owned();
    if what.is_empty() {
        what = fs::read_link(format!("/proc/{pid}/exe"))
            .map(|path| path.display().to_string())
            .or_else(|_| fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim().to_owned()))
            .unwrap_or_else(|_| "a process that may not be seen".to_owned());
    }
    let what = what.chars().map(|c| if c.is_control() { '?' } else { c }).take(SHOWN_MAX).collect();
    StrangerFacts { pid, start: process.start, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_finds_the_same_descendants_as_the_lists() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        for found in [descendants_by_lists(own), descendants_by_table(own)] {
            assert!(found.iter().any(|process| process.pid == pid));
            assert!(!found.iter().any(|process| process.pid == own));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn of_many_processes_the_first_are_named_and_the_rest_counted() {
        let own = Identity::own().unwrap();
        assert_eq!(describe_all(&vec![own.clone(); 20]).len(), 20);
        let all = describe_all(&vec![own; 2600]);
        assert_eq!(
            (all.len(), all.last().map(|last| (last.pid, last.what.as_str()))),
            (21, Some((0, "and 2580 more")))
        );
    }
}
