//! An application under the eyes of a session: what happens to it is pushed, and what a look can mend is mended.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::Command,
    time::Duration,
};

use landfall_host_protocol::{FolderFacts, Outcome, ProcessState, Push, Request, Secrets, Step};

use crate::{
    application::{Deployed, configuration, deploy, facts, kill, process, signal, version},
    client::{Client, Root, hello, name, program, until},
    tasks::{end, task},
};

/// Reads pushes until one is so.
fn pushed(client: &mut Client, is_so: impl Fn(&FolderFacts) -> bool) -> FolderFacts {
    loop {
        let Push::Folders { mut folders, .. } = client.push() else { panic!() };
        if let Some(facts) = folders.remove(&name("web")).flatten().filter(|facts| is_so(facts)) {
            return facts;
        }
    }
}

#[test]
fn the_end_of_an_application_is_pushed_at_once() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    deploy(&mut client, &version("v1"), configuration(false), 0, true);
    let _deployed = Deployed { root: &root };
    let running = process(&mut client);
    assert_eq!((running.state, running.ready), (ProcessState::Running, true));
    // What was pushed of the deployment is read.
    while client.frame_within(Duration::from_millis(1100)).is_ok() {}
    kill(running.pid);
    let facts = pushed(&mut client, |facts| facts.process.as_ref().is_some_and(|process| process.last_end.is_some()));
    assert_eq!(facts.process.unwrap().last_end.unwrap().signal.as_deref(), Some("KILL"));
    let again = pushed(&mut client, |facts| {
        facts.process.as_ref().is_some_and(|process| process.state == ProcessState::Running && process.restarts == 1)
    });
    assert_ne!(again.process.unwrap().pid, running.pid);
}

#[test]
fn an_application_without_a_keeper_gets_one_at_the_next_look() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    deploy(&mut client, &version("v1"), configuration(false), 0, true);
    let _deployed = Deployed { root: &root };
    let before = facts(&mut client);
    let (keeper, running) = (before.keeper.unwrap(), before.process.unwrap());
    drop(client);
    kill(keeper.pid);
    let (mut client, _) = Client::greeted(root.path());
    until("another keeper", || facts(&mut client).keeper.is_some_and(|found| found.pid != keeper.pid));
    let after = process(&mut client);
    assert_eq!((after.pid, after.state), (running.pid, ProcessState::Running), "the application went on");
}

// F6
#[test]
fn a_killed_keeper_and_the_one_in_its_place_are_pushed_to_an_open_session() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    deploy(&mut client, &version("v1"), configuration(false), 0, true);
    let _deployed = Deployed { root: &root };
    let keeper = facts(&mut client).keeper.unwrap();
    kill(keeper.pid);
    let other = pushed(&mut client, |facts| facts.keeper.as_ref().is_some_and(|found| found.pid != keeper.pid));
    // The one that only watches may be replaced as well.
    let watching = other.keeper.unwrap();
    assert!(!watching.parent);
    kill(watching.pid);
    pushed(&mut client, |facts| facts.keeper.as_ref().is_none_or(|found| found.pid != watching.pid));
}

#[test]
fn an_end_that_no_keeper_saw_is_pushed_with_and_without_pidfds() {
    for without in [false, true] {
        let root = Root::new();
        let mut command = Command::new(program());
        command.arg("session").arg(root.path());
        if without {
            command.env(landfall_host::process::WITHOUT_PIDFD, "1");
        }
        let mut client = Client::of(command);
        client.ask(&hello());
        deploy(&mut client, &version("v1"), configuration(false), 0, true);
        let _deployed = Deployed { root: &root };
        let before = facts(&mut client);
        let (keeper, application) = (before.keeper.unwrap().pid, before.process.unwrap().pid);
        signal(keeper, rustix::process::Signal::STOP);
        kill(application);
        kill(keeper);
        pushed(&mut client, |facts| {
            facts.keeper.is_none() && facts.process.as_ref().is_some_and(|process| process.state == ProcessState::Ended)
        });
    }
}

/// The SSH user is another one than root, who acts by hand.
#[test]
fn what_root_does_by_hand_is_done_as_the_ssh_user() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let root = Root::new();
    std::os::unix::fs::chown(root.path(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let bin = root.path().join(".landfall/bin");
    fs::create_dir_all(&bin).unwrap();
    let copy = bin.join("landfall-host");
    assert!(Command::new("cp").arg(program()).arg(&copy).status().unwrap().success());
    let mut command = Command::new(&copy);
    command.arg("session").arg(root.path()).uid(65534).gid(65534);
    let mut client = Client::of(command);
    client.ask(&hello());
    let n = deploy(&mut client, &version("v1"), configuration(false), 0, true);
    let _deployed = Deployed { root: &root };
    deploy(&mut client, &version("v2"), configuration(false), n, false);

    let used = Command::new(&copy).args(["use", "v2", "--reason", "test"]).output().unwrap();
    assert!(used.status.success(), "{}", String::from_utf8_lossy(&used.stderr));
    let running = process(&mut client);
    assert_eq!(running.release.version(), "v2");
    let owner = fs::metadata(format!("/proc/{}", running.pid)).unwrap().uid();
    assert_eq!(owner, 65534);
    let others = Command::new("find").arg(root.path().join("shop.web")).args(["!", "-uid", "65534"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&others.stdout), "");
}

fn by_hand(root: &Root, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program())
        .arg("--root")
        .arg(root.path())
        .args(arguments)
        .env("SUDO_USER", "ann")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn versions_are_changed_stopped_and_started_by_hand() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let (v1, v2) = (version("v1"), version("v2"));
    let n = deploy(&mut client, &v1, configuration(false), 0, true);
    let _deployed = Deployed { root: &root };
    deploy(&mut client, &v2, configuration(false), n, false);
    let first = process(&mut client);

    let (status, text) = by_hand(&root, &["use", "v1", "--reason", "test"]);
    assert_eq!((status, text.contains("runs v1 already")), (Some(0), true), "{text}");
    let (status, text) = by_hand(&root, &["use", "v3", "--reason", "test"]);
    assert_eq!((status, text.contains("v3 is not on this host; there are: v1, v2")), (Some(1), true), "{text}");

    let (status, text) = by_hand(&root, &["use", "v2", "--reason", "the operator is down"]);
    assert_eq!((status, text.ends_with("shop.web uses v2\n")), (Some(0), true), "{text}");
    let used = facts(&mut client);
    let act = used.by_hand.unwrap();
    assert_eq!(
        (act.act.as_str(), act.reason.as_str(), act.user.as_deref()),
        ("use v2", "the operator is down", Some("ann"))
    );
    let second = used.process.unwrap();
    assert_ne!(second.pid, first.pid);
    assert_eq!((second.release, second.state), (v2.name.clone(), ProcessState::Running));
    let (status, text) = by_hand(&root, &["status"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("By hand:    use v2 by ann (claimed): the operator is down"), "{text}");

    let (status, text) = by_hand(&root, &["stop"]);
    assert_eq!((status, text.ends_with("shop.web stopped\n")), (Some(0), true), "{text}");
    assert_eq!(process(&mut client).state, ProcessState::Stopped);
    assert_eq!(by_hand(&root, &["status"]).0, Some(3));

    let (status, text) = by_hand(&root, &["start", "--reason", "again"]);
    assert_eq!((status, text.ends_with("shop.web started\n")), (Some(0), true), "{text}");
    assert_eq!(process(&mut client).release, v2.name);
    let (status, text) = by_hand(&root, &["logs", "-n", "1"]);
    assert_eq!((status, text.as_str()), (Some(0), "version v2, key \n"));
    assert_eq!(by_hand(&root, &["stop"]).0, Some(0));
}

#[test]
fn what_needs_secret_values_is_not_stopped_for_a_change_by_hand() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let n = deploy(&mut client, &version("v1"), configuration(true), 0, true);
    let _deployed = Deployed { root: &root };
    deploy(&mut client, &version("v2"), configuration(true), n, false);
    let before = process(&mut client);
    let (status, text) = by_hand(&root, &["use", "v2", "--reason", "test"]);
    assert_eq!((status, text.contains("only the operator can start it")), (Some(1), true), "{text}");
    assert_eq!(process(&mut client).pid, before.pid);
}

/// Processes of this name below the folder.
fn keepers(session: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{session}/task/{session}/children")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{session}/task")).into_iter().flatten().flatten();
    let of_threads = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let all: String = of_threads.chain([children]).collect::<Vec<_>>().join(" ");
    let is_keeper =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"landfall-keeper"));
    let mut pids: Vec<i32> = all.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is_keeper).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// However the test ends, a stopped process does not stay.
struct GoesOn(i32);

impl Drop for GoesOn {
    fn drop(&mut self) {
        signal(self.0, rustix::process::Signal::CONT);
    }
}

#[test]
fn a_keeper_that_is_slow_to_come_holds_up_no_task_and_undoes_none() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let n = deploy(&mut client, &version("v1"), configuration(false), 0, true);
    let _deployed = Deployed { root: &root };
    let keeper = facts(&mut client).keeper.unwrap();
    drop(client);
    kill(keeper.pid);
    // The one that the session puts beside the application stops on its way.
    let mut command = Command::new(program());
    command.arg("session").arg(root.path()).env("LANDFALL_HOST_KILL", "keep/keeper.lock:1:stop");
    let mut client = Client::of(command);
    client.ask(&hello());
    let session = client.child.id();
    let is_stopped = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    until("a keeper that is stopped", || keepers(session).iter().any(is_stopped));
    let coming = keepers(session)[0];
    let _goes_on = GoesOn(coming);
    let since = landfall_host::clock::monotonic();
    let id = client.send(&Request::Begin { task: Box::new(task(n, vec![Step::Stop])), secrets: Secrets::default() });
    assert_eq!(end(&mut client, id).1.outcome, Outcome::Succeeded);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    signal(coming, rustix::process::Signal::CONT);
    until("it goes again", || !keepers(session).contains(&coming));
    assert_eq!(process(&mut client).state, ProcessState::Stopped);
    assert_eq!(facts(&mut client).keeper, None);
}
