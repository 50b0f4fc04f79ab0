//! Hello, looks and pushes.

use std::{fs, os::unix::fs::symlink, process::Command, time::Duration};

use landfall_host::{clock, keeper::State};
use landfall_host_protocol::{
    Answer, Ended, Outcome, Push, Refusal, ReleaseName, Request, Secrets, Step, VersionRange,
};

use crate::{
    application,
    client::{Client, Root, hello, hello_of, message, name, program},
    tasks,
};

fn release() -> ReleaseName {
    ReleaseName::new("v1", &"ab".repeat(32))
}

#[test]
fn hello_tells_the_machine_the_root_and_the_folders() {
    let root = Root::new();
    let folder = root.folder("web");
    symlink(format!("releases/{}", release()), folder.current()).unwrap();
    fs::create_dir_all(root.path().join("other.web/.landfall")).unwrap();
    let (_client, welcome) = Client::greeted(root.path());
    assert_eq!(welcome.version, 1);
    let machine = welcome.facts.machine;
    assert_eq!(machine.boot_id, fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    assert!(machine.pidfd && machine.clock_millis > 0 && !machine.machine.is_empty());
    assert_eq!(welcome.facts.root.unfit, None);
    assert!(welcome.facts.root.free_bytes > 0);
    let folders: Vec<_> = welcome.facts.folders.keys().cloned().collect();
    assert_eq!(folders, [name("web")], "only those of the namespace");
    assert_eq!(welcome.facts.folders[&name("web")].current, Some(release()));
}

#[test]
fn a_root_that_is_gone_is_told_and_takes_nothing() {
    let root = Root::new();
    let gone = root.path().join("gone");
    let (mut client, welcome) = Client::greeted(&gone);
    assert!(welcome.facts.root.unfit.unwrap().contains("does not exist"));
    assert!(welcome.facts.folders.is_empty());
    let id = client.send(&crate::client::put("web", b"x", Some(0)));
    client.send_bytes(id, landfall_host_protocol::Kind::LastBytes, b"x");
    let answer = client.answer(id);
    assert!(matches!(&answer, Answer::Refused(Refusal::Failed { .. })), "{answer:?}");
    assert!(!gone.exists(), "a root is made by nobody but the bootstrap");
}

#[test]
fn a_hello_without_a_common_version_is_refused_and_another_may_follow() {
    let root = Root::new();
    let mut client = Client::start(root.path());
    let answer = client.ask(&hello_of(VersionRange { min: 7, max: 9 }));
    let Answer::Refused(Refusal::BadInput { field, why }) = answer else { panic!("{answer:?}") };
    assert_eq!(field, "versions");
    assert!(why.contains("7 to 9"), "{why}");
    assert!(matches!(client.ask(&hello_of(VersionRange { min: 0, max: 9 })), Answer::Welcome(_)));
}

#[test]
fn nothing_is_done_before_hello() {
    let root = Root::new();
    let mut client = Client::start(root.path());
    let answer = client.ask(&Request::Look { seen: 0 });
    assert!(matches!(&answer, Answer::Refused(Refusal::BadInput { field, .. }) if field == "hello"), "{answer:?}");
}

#[test]
fn a_banner_of_the_login_shell_is_passed_over() {
    let root = Root::new();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "printf 'Welcome!\\nlandfall-host str'; exec \"$0\" session \"$1\"", program()]);
    command.arg(root.path());
    let mut client = Client::of(command);
    assert!(matches!(client.ask(&hello()), Answer::Welcome(_)));
}

// C23
#[test]
fn a_root_that_is_remounted_noexec_is_told_by_the_next_look() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let root = Root::new();
    let script = "mount -t tmpfs -o mode=755 none \"$1\" && exec \"$0\" session \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", script, program()]).arg(root.path());
    let mut client = Client::of(command);
    let Answer::Welcome(welcome) = client.ask(&hello()) else { panic!() };
    assert_eq!(welcome.facts.root.unfit, None);
    let look = Request::Look { seen: welcome.seen };
    assert_eq!(client.ask(&look), Answer::Unchanged);
    let mut remount = Command::new("nsenter");
    remount.args(["-m", "-t", &client.child.id().to_string(), "mount", "-o", "remount,noexec"]).arg(root.path());
    assert!(remount.status().unwrap().success());
    let Answer::Facts { facts, .. } = client.ask(&look) else { panic!() };
    let said = facts.root.unfit.unwrap();
    assert!(said.contains("noexec") && said.contains(root.path().to_str().unwrap()), "{said}");
}

#[test]
fn requests_are_pipelined_and_answered_by_id() {
    let root = Root::new();
    root.folder("web");
    let mut client = Client::start(root.path());
    let mut stream = message(1, &hello());
    for id in 2..40 {
        stream.extend(message(id, &Request::Look { seen: 1 }));
    }
    client.write(&stream);
    let mut answered: Vec<u32> = (1..40).map(|_| client.frame().unwrap().id).collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..40).collect::<Vec<u32>>());
}

#[test]
fn a_thousand_looks_at_a_quiet_host_cost_no_process() {
    let root = Root::new();
    root.folder("web");
    let (mut client, welcome) = Client::greeted(root.path());
    let look = Request::Look { seen: welcome.seen };
    assert_eq!(client.ask(&look), Answer::Unchanged);
    let pid = client.child.id();
    let before = cpu_ticks(pid);
    let lines = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for _ in 0..1000 {
        assert_eq!(client.ask(&look), Answer::Unchanged);
    }
    assert_eq!(lines(), "");
    let used = cpu_ticks(pid) - before;
    assert!(used < 100, "a thousand looks took {used} ticks of 10 ms");
}

/// Fields 14 and 15 of stat.
fn cpu_ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_change_is_pushed_and_a_look_sees_it() {
    let root = Root::new();
    let folder = root.folder("web");
    let (mut client, welcome) = Client::greeted(root.path());
    symlink(format!("releases/{}", release()), folder.current()).unwrap();
    let Push::Folders { seen, folders, .. } = client.push() else { panic!() };
    assert!(seen > welcome.seen);
    assert_eq!(folders[&name("web")].as_ref().unwrap().current, Some(release()));
    assert_eq!(client.ask(&Request::Look { seen }), Answer::Unchanged);
    let answer = client.ask(&Request::Look { seen: welcome.seen });
    let Answer::Facts { seen: now, facts } = answer else { panic!("{answer:?}") };
    assert_eq!(now, seen);
    assert_eq!(facts.folders[&name("web")].current, Some(release()));
}

#[test]
fn a_look_right_after_a_change_sees_it() {
    let root = Root::new();
    let folder = root.folder("web");
    let (mut client, mut welcome) = Client::greeted(root.path());
    for n in 0..20 {
        let release = ReleaseName::new(&format!("v{n}"), &"ab".repeat(32));
        let _ = fs::remove_file(folder.current());
        symlink(format!("releases/{release}"), folder.current()).unwrap();
        let answer = client.ask(&Request::Look { seen: welcome.seen });
        let Answer::Facts { seen, facts } = answer else { panic!("{answer:?}") };
        assert_eq!(facts.folders[&name("web")].current, Some(release));
        welcome.seen = seen;
    }
}

#[test]
fn many_changes_are_pushed_once_a_second_at_most() {
    let root = Root::new();
    let folder = root.folder("web");
    let (mut client, _) = Client::greeted(root.path());
    let begun = clock::monotonic();
    let mut n = 0;
    let mut pushes = 0;
    while begun.elapsed() < Duration::from_millis(2500) {
        let _ = fs::remove_file(folder.current());
        let release = ReleaseName::new(&format!("v{n}"), &"ab".repeat(32));
        symlink(format!("releases/{release}"), folder.current()).unwrap();
        n += 1;
        if client.frame_within(Duration::from_millis(20)).is_ok() {
            pushes += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert!(pushes >= 1 && f64::from(pushes) <= seconds + 1.0, "{pushes} pushes in {seconds} s");
}

#[test]
fn folders_that_come_and_go_are_pushed() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let folder = root.folder("web");
    let Push::Folders { folders, .. } = client.push() else { panic!() };
    assert!(folders[&name("web")].is_some());
    fs::remove_dir_all(folder.path()).unwrap();
    loop {
        let Push::Folders { folders, .. } = client.push() else { panic!() };
        if folders[&name("web")].is_none() {
            break;
        }
    }
}

#[test]
fn folders_of_other_namespaces_are_not_told_of() {
    let root = Root::new();
    let (mut client, welcome) = Client::greeted(root.path());
    fs::create_dir_all(root.path().join("other.web/.landfall")).unwrap();
    root.folder("web");
    let Push::Folders { folders, .. } = client.push() else { panic!() };
    assert_eq!(folders.keys().cloned().collect::<Vec<_>>(), [name("web")]);
    assert!(welcome.facts.folders.is_empty());
    let folder = landfall_host_protocol::FolderName::new("other", "web");
    let sha256 = crate::client::digest(b"x");
    let answer = client.ask(&Request::Put { folder, sha256, size: 1, from: None });
    assert!(matches!(&answer, Answer::Refused(Refusal::BadInput { field, .. }) if field == "folder"), "{answer:?}");
}

#[test]
fn the_end_of_input_ends_the_session_after_its_answers() {
    let root = Root::new();
    let mut client = Client::start(root.path());
    let id = client.send(&hello());
    client.close();
    assert!(matches!(client.answer(id), Answer::Welcome(_)));
    assert!(client.frame().is_none());
    assert!(client.wait().success());
}

#[test]
fn a_host_that_has_too_much_to_say_says_the_most_important() {
    let root = Root::new();
    let ended = |lines: usize| {
        let ended =
            Ended { status: Some(1), signal: None, at: 1, out_of_memory: false, lines: vec!["x".repeat(800); lines] };
        let digest = "ab".repeat(32);
        let state = serde_json::json!({
            "counter": 1, "release": release(), "digest": digest, "phase": "ended", "lastEnd": ended,
        });
        serde_json::from_value::<State>(state).unwrap()
    };
    // Not synced, as a keeper's is: disks of test machines are slow.
    let put = |n: usize, state: &State| {
        let folder = root.folder(&format!("web-{n}"));
        let new = folder.dot().join("new");
        fs::write(&new, serde_json::to_vec(state).unwrap()).unwrap();
        fs::rename(new, folder.state()).unwrap();
    };
    for n in 0..25 {
        put(n, &ended(60));
    }
    let (mut client, welcome) = Client::greeted(root.path());
    assert_eq!(welcome.facts.folders.len(), 25);
    let status =
        |facts: &landfall_host_protocol::FolderFacts| facts.process.as_ref().unwrap().last_end.as_ref().unwrap().status;
    assert!(welcome.facts.folders.values().all(|facts| status(facts) == Some(1)));
    // All of them change, and one has more to say than a frame holds.
    for n in 0..25 {
        put(n, &ended(if n == 0 { 2000 } else { 61 }));
    }
    let mut told = std::collections::BTreeMap::new();
    while told.len() < 25 {
        let Push::Folders { folders, .. } = client.push() else { panic!() };
        told.extend(folders);
    }
    assert_eq!(
        told[&name("web-1")].as_ref().unwrap().process.as_ref().unwrap().last_end.as_ref().unwrap().lines.len(),
        61
    );
    assert_eq!(status(told[&name("web-0")].as_ref().unwrap()), Some(1));
}

#[test]
fn newer_facts_of_a_folder_have_a_higher_number() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let _deployed = application::Deployed { root: &root };
    let version = application::version("v1");
    application::deploy(&mut client, &version, application::configuration(false), 0, true);
    let look = |client: &mut Client| {
        let id = client.send(&Request::Look { seen: 0 });
        let Answer::Facts { facts, .. } = client.answer(id) else { panic!() };
        assert!(facts.machine.uptime_millis / 1000 >= facts.machine.uptime_seconds);
        (facts.machine.uptime_millis, facts.folders[&name("web")].clone())
    };
    let (now, before) = look(&mut client);
    let process = before.process.unwrap();
    assert_eq!(process.attempt, 1);
    assert!(process.ready_since.unwrap().abs_diff(now) < 600_000, "milliseconds since boot");
    let last = before.last_task.unwrap();
    assert_eq!((last.id.n, last.journal, last.outcome), (0, 2, Some(Outcome::Succeeded)));
    let stop = Box::new(tasks::task(2, vec![Step::Stop]));
    let id = client.send(&Request::Begin { task: stop, secrets: Secrets::default() });
    let (_, result, told) = tasks::end(&mut client, id);
    let told = told.unwrap();
    assert!(told.seen > before.seen);
    assert_eq!(told.last_task.unwrap().journal, result.journal);
    assert!(look(&mut client).1.seen >= told.seen);
}
