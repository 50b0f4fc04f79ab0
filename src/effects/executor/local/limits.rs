//! What a script may take of the machine. It must not decide how much.
//!
//! A control group holds the whole script to it, with all its children: of version 2 where the machine has the controller there, else of
//! version 1. Where the operator may write neither, the kernel's limits of single processes do what they can, and the log says what they
//! can't.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::super::types::{ExitReason, Limits};
use super::end::End;

/// Processes that a script without a limit of its own may have.
const PROCESSES: u64 = 4096;
/// What is asked for, in microseconds, when a share of a processor is given.
const PERIOD: u64 = 100_000;
/// Folder of our groups in a hierarchy.
const OURS: &str = "landfall";
/// A group without processes that is older was left by a runner that was killed.
const STALE: Duration = Duration::from_secs(60);
/// Refused forks after which a script counts as doing nothing else.
const REFUSED_FORKS_MAX: u64 = 1000;

/// What was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Memory,
    Processes,
}

impl From<Exceeded> for ExitReason {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Memory => Self::OutOfMemory,
            Exceeded::Processes => Self::ProcessLimit,
        }
    }
}

/// The limits of one script that runs; its groups go with the value.
pub(super) struct ActiveLimits {
    memory: Option<Group>,
    pids: Option<Group>,
    cpu: Option<Group>,
    limits: Limits,
    /// Whether the script has a user of its own.
    isolated: bool,
}

/// A control group of ours.
struct Group {
    path: PathBuf,
    version2: bool,
    /// Held for as long as this process wants it: until a script is in it, and after that until its events are read, a group has no
    /// processes, however old it is.
    _lock: Option<File>,
}

impl ActiveLimits {
    /// Makes the groups that are needed and can be had.
    pub(super) fn new(limits: Limits, isolated: bool) -> Self {
        let name = &format!("build-{:016x}", rand::random::<u64>());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let group = |controller: &str, wanted: Option<u64>| Group::make(&mounts, controller, name, wanted?);
        Self {
            memory: group("memory", limits.memory),
            pids: group("pids", limits.pids),
            cpu: group("cpu", limits.cpu),
            limits,
            isolated,
        }
    }

    /// Puts a process into the groups; its children follow it. It goes first when the machine itself runs out of memory.
    pub(super) fn take(&self, pid: i32) -> io::Result<()> {
        for group in self.groups() {
            fs::write(group.path.join("cgroup.procs"), pid.to_string())?;
        }
        // Only a hint: refused where the operator has few rights.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "800");
        Ok(())
    }

    /// Arguments of `prlimit` for the script: what no group does. The number of processes is counted by user, so it takes one of its own.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--core=0:0".to_owned()];
        let processes = match self.limits.pids {
            // The group counts, and says so; this one is the net below it.
            Some(limit) if self.pids.is_some() => limit.saturating_mul(2).max(PROCESSES),
            Some(limit) => limit,
            None => PROCESSES,
        };
        if self.isolated {
            arguments.push(format!("--nproc={processes}:{processes}"));
        }
        if let Some(limit) = self.limits.memory.filter(|_| self.memory.is_none()) {
            arguments.push(format!("--data={limit}:{limit}"));
        }
        arguments
    }

    /// Limits that this machine can't enforce on the script; for its log.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let lacks = |wanted: Option<u64>, group: &Option<Group>| wanted.is_some() && group.is_none();
        let mut lines = Vec::new();
        let mut say = |what: &str| {
            lines.push(format!("no cgroup here that the operator may write, so build.resources.limits.{what}"))
        };
        if lacks(self.limits.memory, &self.memory) {
            say("memory holds for each process by itself");
        }
        if lacks(self.limits.cpu, &self.cpu) {
            say("cpu does not hold");
        }
        if lacks(self.limits.pids, &self.pids) && !self.isolated {
            say("pids does not hold");
        }
        lines
    }

    /// Why the script has to be ended, if it has.
    pub(super) fn exceeded(&self) -> Option<Exceeded> {
        if self.memory.as_ref().is_some_and(|group| group.count("oom_kill") > 0) {
            return Some(Exceeded::Memory);
        }
        (self.refused_forks() >= REFUSED_FORKS_MAX).then_some(Exceeded::Processes)
    }

    /// A script that ended by itself may have done so because of a limit. Where the kernel killed any of it, what it made is not to be
    /// trusted, whatever its code; a fork that was refused counts only where it failed.
    pub(super) fn judge(&self, end: End) -> End {
        let failed = end.reason == ExitReason::Completed && end.code != Some(0);
        let touched = || (failed && self.refused_forks() > 0).then_some(Exceeded::Processes);
        match self.exceeded().or_else(touched).filter(|_| end.reason == ExitReason::Completed) {
            Some(exceeded) => End { reason: exceeded.into(), ..end },
            None => end,
        }
    }

    fn refused_forks(&self) -> u64 {
        self.pids.as_ref().map_or(0, |group| group.count("max"))
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        [&self.memory, &self.pids, &self.cpu].into_iter().flatten()
    }
}

impl Group {
    /// `None` where there is no such controller, or it may not be written.
    fn make(mounts: &str, controller: &str, name: &str, limit: u64) -> Option<Self> {
        let (root, version2) = hierarchy(mounts, controller)?;
        let ours = root.join(OURS);
        fs::create_dir_all(&ours).ok()?;
        if version2 {
            // Those that are switched on already refuse nothing.
            for folder in [&root, &ours] {
                let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        sweep(&ours);
        let path = ours.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        let lock = File::open(&path).ok().filter(|folder| folder.try_lock().is_ok());
        let group = Self { path, version2, _lock: lock };
        group.set(controller, limit).ok()?;
        Some(group)
    }

    fn set(&self, controller: &str, limit: u64) -> io::Result<()> {
        let write = |file: &str, text: String| fs::write(self.path.join(file), text);
        let share = limit * PERIOD / 1000;
        match (controller, self.version2) {
            ("memory", true) => {
                write("memory.max", limit.to_string())?;
                // Not on every kernel; without swap nothing is lost.
                let _ = write("memory.swap.max", "0".into());
                write("memory.oom.group", "1".into())
            }
            ("memory", false) => {
                write("memory.limit_in_bytes", limit.to_string())?;
                let _ = write("memory.memsw.limit_in_bytes", limit.to_string());
                Ok(())
            }
            ("cpu", true) => write("cpu.max", format!("{share} {PERIOD}")),
            ("cpu", false) => {
                write("cpu.cfs_period_us", PERIOD.to_string())?;
                write("cpu.cfs_quota_us", share.to_string())
            }
            _ => write("pids.max", limit.to_string()),
        }
    }

    /// A number of the group's events.
    fn count(&self, event: &str) -> u64 {
        let file = match (event, self.version2) {
            ("oom_kill", true) => "memory.events",
            ("oom_kill", false) => "memory.oom_control",
            _ => "pids.events",
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(event)?.trim().parse().ok());
        line.unwrap_or_default()
    }
}

impl Drop for Group {
    /// Whoever was in it is dead by now, but may take a moment to go.
    fn drop(&mut self) {
        for _ in 0..50 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
    }
}

/// Where a controller's groups are made, and whether that is version 2.
fn hierarchy(mounts: &str, controller: &str) -> Option<(PathBuf, bool)> {
    let mut old = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut fields = right.split(' ');
        let (kind, options) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        if kind == "cgroup2" && has(&point, controller) {
            return Some((point, true));
        }
        if kind == "cgroup" && options.split(',').any(|option| option == controller) {
            old.get_or_insert((point, false));
        }
    }
    old
}

fn has(root: &Path, controller: &str) -> bool {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|name| name == controller)
}

/// Deletes groups of runners that were killed. The kernel keeps one with processes, and one that a runner holds is skipped.
fn sweep(ours: &Path) {
    let entries = fs::read_dir(ours).into_iter().flatten().flatten();
    let old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && modified.elapsed().is_ok_and(|age| age > STALE)
    };
    for entry in entries.filter(old) {
        let free = |folder: &File| !matches!(folder.try_lock(), Err(TryLockError::WouldBlock));
        let folder = File::open(entry.path()).ok();
        if folder.as_ref().is_none_or(free) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const V1: &str = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

    /// A folder that looks like a hierarchy of version 2.
    fn version2(controllers: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        let line = format!("40 23 0:30 / {} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", dir.path().display());
        (dir, line)
    }

    #[test]
    fn version_2_is_taken_where_it_has_the_controller_and_else_version_1() {
        let (dir, line) = version2("cpuset cpu pids\n");
        let mounts = format!("{line}{V1}");
        assert_eq!(hierarchy(&mounts, "cpu"), Some((dir.path().to_owned(), true)));
        assert_eq!(hierarchy(&mounts, "memory"), Some((PathBuf::from("/sys/fs/cgroup/memory"), false)));
        assert_eq!(hierarchy(V1, "cpu"), Some((PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"), false)));
        assert_eq!(hierarchy(V1, "pids"), None);
    }

    #[test]
    fn version_2_is_told_in_its_own_words() {
        let (dir, line) = version2("cpu memory pids");
        let group = |controller, limit| Group::make(&line, controller, "build", limit).unwrap();
        let text_of = |file: &str| fs::read_to_string(dir.path().join("landfall/build").join(file)).unwrap();
        let memory = group("memory", 1 << 20);
        assert_eq!((text_of("memory.max").as_str(), text_of("memory.oom.group").as_str()), ("1048576", "1"));
        fs::write(memory.path.join("memory.events"), "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\n")
            .unwrap();
        assert_eq!(memory.count("oom_kill"), 1);
        let pids = group("pids", 64);
        fs::write(pids.path.join("pids.events"), "max 12\n").unwrap();
        assert_eq!((text_of("pids.max").as_str(), pids.count("max")), ("64", 12));
        let cpu = group("cpu", 1500);
        assert_eq!(text_of("cpu.max"), "150000 100000");
        assert_eq!(fs::read_to_string(dir.path().join("landfall/cgroup.subtree_control")).unwrap(), "+cpu");
        std::mem::forget((memory, pids, cpu));
    }

    #[test]
    fn an_old_group_without_processes_stays_while_its_runner_lives() {
        let (dir, line) = version2("cpu memory pids");
        let ours = dir.path().join("landfall");
        let make = || {
            let group = Group::make(&line, "pids", "build", 64).unwrap();
            fs::remove_file(group.path.join("pids.max")).unwrap(); // on a real hierarchy it is no obstacle
            File::open(&group.path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            group
        };
        let mut held = make();
        sweep(&ours);
        assert!(held.path.exists(), "its cache is still being copied");
        // Killed: the kernel gives the lock back, and nobody takes the group away.
        drop(held._lock.take());
        let path = held.path.clone();
        std::mem::forget(held);
        sweep(&ours);
        assert!(!path.exists());
        let held = make();
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn what_no_group_holds_is_left_to_the_limits_of_processes_and_said() {
        let limits = Limits { cpu: Some(500), memory: Some(1 << 20), pids: Some(64) };
        let held = ActiveLimits { memory: None, pids: None, cpu: None, limits, isolated: true };
        assert_eq!(held.arguments(), ["--core=0:0", "--nproc=64:64", "--data=1048576:1048576"]);
        assert_eq!(held.shortcomings().len(), 2);
        assert_eq!(held.exceeded(), None);
    }
}
