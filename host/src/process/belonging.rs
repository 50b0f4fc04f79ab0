//! Which processes belong to an application: descendants, members of its session, and who carries its mark. And which ones are merely
//! suspected, because they run from below our releases: those are told, and never signalled.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use landfall_host_protocol::StrangerFacts;

use super::{
    handle::{Found, find},
    identity::{Identity, boot_id},
    stat::{Stat, pids, table},
};

/// Variable of the environment whose value is another one at each start.
pub const MARK: &str = "LANDFALL_INSTANCE";

/// Processes that are named to a person at once.
const NAMED_MAX: usize = 20;
/// Bytes of an environment that are read. The kernel starts no program with more than 6 MiB.
const ENVIRON_MAX: u64 = 8 << 20;
const PIECE: usize = 64 << 10;
/// Characters of a process's name and program that are shown.
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
        for child in children_by_lists(pid) {
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

fn children_by_lists(of: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    let words = lists.iter().flat_map(|list| list.split_ascii_whitespace());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Children of this very process, also those that are dead and not waited for.
pub fn children() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if has_lists_of_children() {
        return children_by_lists(own);
    }
    pids().into_iter().filter(|pid| Stat::read(*pid).is_some_and(|stat| stat.parent == own)).collect()
}

/// Children of this very process that live and may not be seen (`hidepid`), as another user's. Their start time is not known: it is 0.
pub fn unseen_children() -> Vec<Identity> {
    children()
        .into_iter()
        .map(|pid| Identity { pid, start: 0, boot_id: boot_id().to_owned() })
        .filter(|child| Stat::read(child.pid).is_none() && matches!(find(child), Found::Hidden))
        .collect()
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
    members_of(&table(), session)
}

/// Those of a list that was just made.
pub fn members_of(all: &[(i32, Stat)], session: i32) -> Vec<Identity> {
    all.iter().filter(|(_, stat)| stat.session == session).map(|(pid, stat)| Identity::with(*pid, stat)).collect()
}

/// Living processes that were started with this value of [`MARK`]. Programs that overwrite their environment, setuid ones and other
/// users' show none.
pub fn marked(value: &str) -> Vec<Identity> {
    marked_of(&table(), value)
}

/// Those of a list that was just made.
pub fn marked_of(all: &[(i32, Stat)], value: &str) -> Vec<Identity> {
    if value.is_empty() {
        return Vec::new();
    }
    let wanted = format!("{MARK}={value}");
    let mut piece = vec![0u8; PIECE];
    let mut carries = |pid: i32| {
        fs::File::open(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| has_entry(environ.take(ENVIRON_MAX), wanted.as_bytes(), &mut piece))
    };
    // The start time is read on both sides: the pid may have passed to another in between.
    all.iter()
        .filter(|(pid, stat)| carries(*pid) && Stat::read(*pid).is_some_and(|again| again.start == stat.start))
        .map(|(pid, stat)| Identity::with(*pid, stat))
        .collect()
}

/// One of the entries, with a zero byte after each, is this one. Of what is read a piece at a time is held: its owner can make it as long
/// as he likes. `piece` is where it is read to.
fn has_entry(mut environ: impl Read, wanted: &[u8], piece: &mut [u8]) -> bool {
    let whole = [&[0], wanted, &[0]].concat();
    // The first entry has none before it.
    let mut held = vec![0u8];
    loop {
        let read = match environ.read(piece) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        held.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 {
            held.push(0);
        }
        if held.windows(whole.len()).any(|window| window == whole) {
            return true;
        }
        if read == 0 {
            return false;
        }
        held.drain(..held.len().saturating_sub(whole.len()));
    }
}

/// Living processes whose executable or working directory lies below `releases`, but for those of `known` and the one that asks. Only of
/// users whose processes we start: anybody may go into our folders.
pub fn suspected(releases: &Path, known: &[Identity]) -> Vec<StrangerFacts> {
    describe_all(&below(releases, known))
}

/// The same beside an application that runs. `known` is asked once more where something is suspected: an application may have forked
/// between two lists, and what has ended since is nobody's.
pub fn suspected_beside(releases: &Path, known: impl Fn() -> Vec<Identity>) -> Vec<StrangerFacts> {
    let mut strangers = below(releases, &known());
    if !strangers.is_empty() {
        let again = known();
        strangers.retain(|process| !again.contains(process) && !matches!(find(process), Found::Dead));
    }
    describe_all(&strangers)
}

fn below(releases: &Path, known: &[Identity]) -> Vec<Identity> {
    let mut places: Vec<PathBuf> = vec![releases.to_owned()];
    places.extend(fs::canonicalize(releases));
    let is_below = |link: PathBuf| places.iter().any(|place| link.starts_with(place));
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // Whom the application runs as has its data.
    let data = releases.with_file_name("shared").join("data");
    let mut users = vec![rustix::process::getuid().as_raw()];
    users.extend([releases, &data].iter().filter_map(|path| fs::metadata(path).ok()).map(|found| found.uid()));
    table()
        .iter()
        .filter(|(pid, _)| *pid != own)
        .filter(|(pid, stat)| !known.iter().any(|process| process.pid == *pid && process.start == stat.start))
        .filter(|(pid, _)| {
            ["exe", "cwd"].iter().any(|link| fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(is_below))
        })
        // Last, for it is the longest of these files.
        .filter(|(pid, _)| user_of(*pid).is_none_or(|user| users.contains(&user)))
        .map(|(pid, stat)| Identity::with(*pid, stat))
        .collect()
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

/// Who started a process: its real uid.
pub fn user_of(pid: i32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    // Its name stands before it, in which a line break is written as an escape.
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// A user's name in the host's own list; its number where it does not stand there.
pub fn user_name(uid: u32) -> String {
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// A process as a person is told of it: name, program, and whose it is where it is not ours. Its arguments, in which a password may stand, are nobody's business.
pub fn describe(process: &Identity) -> StrangerFacts {
    let pid = process.pid;
    let name = fs::read(format!("/proc/{pid}/comm")).map(|name| String::from_utf8_lossy(&name).trim().to_owned());
    let program = fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string());
    let what = match (name, program) {
        (Ok(name), Ok(program)) => format!("{name} ({program})"),
        (Ok(name), Err(_)) => name,
        (Err(_), _) => "a process that may not be seen".to_owned(),
    };
    let user = user_of(pid).filter(|user| *user != rustix::process::getuid().as_raw());
    let user = user.map(|user| format!(", user {}", user_name(user))).unwrap_or_default();
    let what = what.chars().take(SHOWN_MAX).chain(user.chars()).map(|c| if c.is_control() { '?' } else { c }).collect();
    StrangerFacts { pid, start: process.start, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_anywhere_and_an_endless_environment_ends() {
        let wanted = b"LANDFALL_INSTANCE=ab";
        let has_entry = |environ: &[u8], wanted: &[u8]| has_entry(environ, wanted, &mut vec![0; PIECE]);
        let long = vec![b'x'; PIECE];
        for before in [&b""[..], b"A=1\0", &[&long[..PIECE - 10], b"\0"].concat(), &[&long[..], b"\0"].concat()] {
            for after in [&b""[..], b"\0", b"\0B=2\0"] {
                assert!(has_entry(&[before, wanted, after].concat()[..], wanted));
            }
            assert!(!has_entry(&[before, wanted, b"c\0"].concat()[..], wanted));
            assert!(!has_entry(&[before, b"X", wanted, b"\0"].concat()[..], wanted));
        }
        let mut endless = std::io::repeat(b'x').take(2 * ENVIRON_MAX);
        assert!(!super::has_entry((&mut endless).take(ENVIRON_MAX), wanted, &mut [0; PIECE]));
        assert_eq!(endless.limit(), ENVIRON_MAX);
    }

    #[test]
    fn what_an_application_forks_between_two_lists_is_its_own_and_what_ended_is_nobodys() {
        let releases = tempfile::tempdir().unwrap();
        let child = std::process::Command::new("sleep").arg("1000").current_dir(releases.path()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = Identity::of(pid).unwrap();
        assert_eq!(suspected_beside(releases.path(), Vec::new).len(), 1, "nobody ever knew it");
        let asked = std::cell::Cell::new(0);
        let late = || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 { Vec::new() } else { vec![identity.clone()] }
        };
        assert!(suspected_beside(releases.path(), late).is_empty(), "it was forked after the first list");
        let child = std::cell::RefCell::new((child, 0));
        let ends = || {
            let mut child = child.borrow_mut();
            child.1 += 1;
            if child.1 == 2 {
                child.0.kill().unwrap();
                child.0.wait().unwrap();
            }
            Vec::new()
        };
        assert!(suspected_beside(releases.path(), ends).is_empty(), "it has ended meanwhile");
    }

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
