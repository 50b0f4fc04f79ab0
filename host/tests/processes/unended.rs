//! Children that the SSH user may not signal, as programs with another user's rights start them. Each test runs in namespaces of its own.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use landfall_host::{
    failure::StepFailure,
    keeper::{Phase, State},
    process::{Found, Identity, Stat, find},
    program,
};
use landfall_host_protocol::{Probe, ProcessState, Reason, StopTo, WaitingReason};
use rustix::process::Signal;

use crate::{
    fuse::Fuse,
    host::{Host, exec, process, start, with_stop},
    support::{PATIENCE, is_inner, kill, run_again, until},
};

/// A program with root's rights that becomes another one, and everything else as a plain user.
const SETUP: &str = r#"set -e
mount -t tmpfs -o mode=1777 tmp /mnt
cp "$(command -v setpriv)" /mnt/as-root
chmod 4755 /mnt/as-root
cp "$1" /mnt/tests; cp "$PROGRAM" /mnt/landfall-host; cp "$PROGRAM" /mnt/newer; chmod 755 /mnt/tests /mnt/landfall-host /mnt/newer
shift
"#;
const AS_ROOT: [&str; 4] = ["/mnt/as-root", "--reuid=0", "--regid=0", "--clear-groups"];

/// Runs the test as a plain user.
fn as_plain_user(test: &str, more: &str) {
    let script = format!(
        "{SETUP}{more}\nexport TMPDIR=/mnt HOME=/; exec setpriv --reuid=3300 --regid=3300 --clear-groups /mnt/tests \"$@\""
    );
    let surroundings =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script, "sh"];
    run_again(test, &surroundings, &[("PROGRAM", env!("CARGO_BIN_EXE_landfall-host"))]);
}

/// An application with a child of root's, that leaves it its session or not.
struct Application {
    host: Host,
    leader: Identity,
    child: Identity,
}

impl Application {
    fn start() -> Self {
        program::use_for_children(Path::new("/mnt/landfall-host"));
        let host = Host::new();
        let script =
            format!("setsid {} sleep 1000 & echo $! >../../shared/data/child; exec sleep 1001", AS_ROOT.join(" "));
        let release = host.release("v1", &script);
        let leader = host.started(&start(&release, with_stop(process(&["./run"]), StopTo::Main, 0)));
        let child: i32 = host.wait_for_data("child").trim().parse().unwrap();
        // Before it becomes what it runs, its real user is still ours, who may end it.
        until("the child is root's", || uid_of(child) == Some(0) && name_of(child).as_deref() == Some("sleep"));
        let child = Identity::of(child).unwrap();
        Self { host, leader, child }
    }

    /// Its first process is dead, and it is not started again beside what that left.
    fn waits(&self) {
        kill(self.leader.pid, Signal::KILL);
        let waits = ProcessState::Waiting { until_millis: 0, reason: WaitingReason::Survivors };
        until("it waits for what is left", || match self.host.process().state {
            ProcessState::Waiting { reason, .. } => ProcessState::Waiting { until_millis: 0, reason } == waits,
            _ => false,
        });
        self.is_told();
    }

    fn is_told(&self) {
        let facts = self.host.facts();
        assert_eq!(facts.survivors.len(), 1, "{facts:?}");
        assert_eq!(facts.survivors[0].pid, self.child.pid);
        assert!(facts.survivors[0].what.contains("sleep") && facts.survivors[0].what.contains("user root"));
        assert_eq!(facts.process.unwrap().restarts, 0);
    }

    fn is_said_by(&self, failure: &StepFailure) {
        assert_eq!(failure.reason, Reason::StopFailed, "{}", failure.why);
        for words in [&format!("pid {}", self.child.pid), "user root", &format!("kill -KILL {}", self.child.pid)] {
            assert!(failure.why.contains(words), "{}", failure.why);
        }
        assert_eq!(failure.strangers.iter().map(|stranger| stranger.pid).collect::<Vec<_>>(), [self.child.pid]);
        assert!(!matches!(find(&self.child), Found::Dead));
    }

    /// As an administrator does.
    fn end_child(&self) {
        let kill =
            Command::new(AS_ROOT[0]).args(&AS_ROOT[1..]).args(["kill", "-KILL", &self.child.pid.to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if !matches!(find(&self.child), Found::Dead) {
            self.end_child();
        }
    }
}

fn name_of(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

fn uid_of(pid: i32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
}

#[test]
fn nothing_is_started_beside_a_child_that_may_not_be_signalled() {
    if !is_inner() {
        return as_plain_user("unended::nothing_is_started_beside_a_child_that_may_not_be_signalled", "");
    }
    let application = Application::start();
    let host = &application.host;
    application.waits();
    // What it knows goes on to a newer program.
    assert!(landfall_host::keeper::upgrade(&host.folder, Path::new("/mnt/newer"), PATIENCE).unwrap());
    std::thread::sleep(crate::host::MOMENT * 4);
    application.is_told();
    assert!(matches!(host.state().phase, Phase::Waiting { .. }));

    application.end_child();
    until("it goes on by itself", || host.state().phase == Phase::Running);
    let facts = host.facts();
    assert!(facts.survivors.is_empty());
    assert_eq!(facts.process.unwrap().restarts, 1);
}

#[test]
fn a_stop_fails_as_long_as_a_child_lives_that_may_not_be_signalled() {
    if !is_inner() {
        return as_plain_user("unended::a_stop_fails_as_long_as_a_child_lives_that_may_not_be_signalled", "");
    }
    let application = Application::start();
    let host = &application.host;
    for _ in 0..2 {
        application.is_said_by(&host.stop().unwrap_err());
        assert!(matches!(find(&application.leader), Found::Dead));
        assert!(host.keeper().is_none());
    }
    let next = start(&host.release("v2", "exec sleep 1002"), process(&["./run"]));
    application.is_said_by(&host.start(&next).unwrap_err());

    application.end_child();
    until("it is dead", || matches!(find(&application.child), Found::Dead));
    host.stop().unwrap();
    assert!(host.facts().survivors.is_empty());
    host.started(&next);
}

#[test]
fn what_may_not_be_signalled_is_known_after_its_keepers_death() {
    if !is_inner() {
        return as_plain_user("unended::what_may_not_be_signalled_is_known_after_its_keepers_death", "");
    }
    let application = Application::start();
    let host = &application.host;
    application.waits();
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(PATIENCE));
    assert_eq!(host.process().state, ProcessState::Ended);
    application.is_told();
    let next = start(&host.release("v2", "exec sleep 1002"), process(&["./run"]));
    application.is_said_by(&host.start(&next).unwrap_err());

    application.end_child();
    until("it is dead", || matches!(find(&application.child), Found::Dead));
    host.started(&next);
    assert_eq!(host.process().state, ProcessState::Running);
}

/// Under `hidepid` what is another user's can't be seen: that the keeper has a child is all that is known.
#[test]
fn a_child_that_may_not_be_seen_either_is_told_by_its_pid() {
    if !is_inner() {
        let more = "mount -o remount,hidepid=2 /proc";
        return as_plain_user("unended::a_child_that_may_not_be_seen_either_is_told_by_its_pid", more);
    }
    program::use_for_children(Path::new("/mnt/landfall-host"));
    let host = Host::new();
    let script = format!("setsid {} sleep 1000 & echo $! >../../shared/data/child; exec sleep 1001", AS_ROOT.join(" "));
    let release = host.release("v1", &script);
    host.started(&start(&release, with_stop(process(&["./run"]), StopTo::Main, 0)));
    let child: i32 = host.wait_for_data("child").trim().parse().unwrap();
    until("the child is hidden", || Identity::of(child).is_none());
    for _ in 0..2 {
        let failure = host.stop().unwrap_err();
        assert_eq!(failure.reason, Reason::StopFailed);
        assert!(failure.why.contains(&format!("pid {child}")), "{}", failure.why);
        assert_eq!(host.facts().survivors[0].pid, child);
    }
    // Whoever may see it knows that it lives, and that another one with its pid, which began later, is not it.
    let as_root = |words: &[&str]| Command::new(AS_ROOT[0]).args(&AS_ROOT[1..]).args(words).status().unwrap().success();
    assert!(as_root(&["mount", "-o", "remount,hidepid=0", "/proc"]));
    assert!(Identity::of(child).is_some());
    assert_eq!(host.state().living_unended().len(), 1);
    assert!(host.stop().unwrap_err().why.contains(&format!("pid {child}")));
    let earlier = State { unended_seen: Identity::of(child).unwrap().start - 1, ..host.state() };
    assert_eq!(earlier.living_unended(), []);
    assert!(as_root(&["kill", "-KILL", &child.to_string()]));
    until("it can be stopped", || host.stop().is_ok());
}

#[test]
fn a_probes_command_that_may_not_be_ended_holds_nobody() {
    if !is_inner() {
        return as_plain_user("unended::a_probes_command_that_may_not_be_ended_holds_nobody", "");
    }
    program::use_for_children(Path::new("/mnt/landfall-host"));
    let host = Host::new();
    let text = format!("echo $$ >>../../shared/data/asked; exec {} sleep 1000", AS_ROOT.join(" "));
    let mut config = with_stop(process(&["./run"]), StopTo::Main, 0);
    config.liveness = Some(Probe { timeout_seconds: 1, failure_threshold: 1000, ..exec(&["sh", "-c", &text]) });
    config.readiness = Some(exec(&["test", "-e", "../../shared/data/ready"]));
    host.started(&start(&host.release("v1", "exec sleep 1001"), config));
    let asked = |host: &Host| fs::read_to_string(host.data("asked")).unwrap();
    // Liveness is asked of what is ready.
    fs::write(host.data("ready"), "").unwrap();
    host.wait_ready().unwrap();
    let first: i32 = host.wait_for_data("asked").trim().parse().unwrap();
    until("it is root's", || uid_of(first) == Some(0) && name_of(first).as_deref() == Some("sleep"));
    // Its time is over, and so is that of a second try.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    fs::remove_file(host.data("ready")).unwrap();
    until("readiness is asked all the same", || !host.process().ready);
    assert_eq!(asked(&host).lines().count(), 1, "it is not started beside itself");

    let failure = host.stop().unwrap_err();
    assert!(failure.why.contains(&format!("pid {first}")), "{}", failure.why);
    let kill = Command::new(AS_ROOT[0]).args(&AS_ROOT[1..]).args(["kill", "-KILL", &first.to_string()]).status();
    assert!(kill.unwrap().success());
    until("it can be stopped", || host.stop().is_ok());
}

/// D state that KILL does not end: its file system has the question, and never answers.
#[test]
fn what_sleeps_uninterruptibly_is_told_and_ended_when_it_wakes() {
    let name = "unended::what_sleeps_uninterruptibly_is_told_and_ended_when_it_wakes";
    if !is_inner() {
        return run_again(name, &["unshare", "--mount"], &[("LANDFALL_HOST_KILL_TIMEOUT_MILLIS", "400")]);
    }
    let place = Path::new("/mnt");
    let Some(fuse) = Fuse::mount(place) else { return println!("no FUSE here") };
    let host = Host::new();
    let script = "cat /mnt/file & echo $! >../../shared/data/child; exec sleep 1001";
    let release = host.release("v1", script);
    host.started(&start(&release, with_stop(process(&["./run"]), StopTo::Main, 0)));
    let child: i32 = host.wait_for_data("child").trim().parse().unwrap();
    let state = || Stat::read(child).map(|stat| stat.state);
    until("it waits for its file", || fuse.is_asked());
    let failure = host.stop().unwrap_err();
    assert_eq!(failure.reason, Reason::StopFailed);
    assert!(failure.why.contains(&format!("pid {child}")), "{}", failure.why);
    assert_eq!(state(), Some('D'), "it was killed and lives");
    assert_eq!(host.facts().survivors[0].pid, child);
    fuse.end(place);
    until("it can be stopped", || host.stop().is_ok());
    assert_eq!(host.process().state, ProcessState::Stopped);
    host.started(&start(&host.release("v2", "exec sleep 1002"), process(&["./run"])));
}

/// As nfs, which this kernel may lack: a file system that is another machine's or another program's.
#[test]
fn a_root_on_a_mounted_fuse_is_refused_by_name() {
    let name = "unended::a_root_on_a_mounted_fuse_is_refused_by_name";
    if !is_inner() {
        return run_again(name, &["unshare", "--mount"], &[]);
    }
    let place = Path::new("/mnt");
    let Some(fuse) = Fuse::mount(place) else { return println!("no FUSE here") };
    let unfit = landfall_host::facts::root(place).unfit;
    fuse.end(place);
    assert_eq!(unfit.as_deref(), Some("/mnt is on fuse"));
}
