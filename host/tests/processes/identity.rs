//! Identity, pidfds, descendants, marks, suspects, survivors.

use std::{fs, process::Command, time::Duration};

use landfall_host::process::{
    Found, Handle, Identity, MARK, WITHOUT_PIDFD, descendants, end_all, find, first_dead, marked, session_members,
    suspected,
};
use rustix::process::Signal;

use crate::support::{Guarded, is_inner, kill, read_when_there, run_again, until};

fn alive(identity: &Identity) -> Handle {
    match find(identity) {
        Found::Alive(handle) => handle,
        other => panic!("{identity:?} is {other:?}"),
    }
}

fn is_dead(identity: &Identity) -> bool {
    matches!(find(identity), Found::Dead)
}

fn life_of_a_process() {
    let mut child = Guarded::spawn(Command::new("sleep").arg("1000"));
    let identity = child.identity();
    let handle = alive(&identity);
    assert_eq!(handle.pidfd().is_none(), std::env::var_os(WITHOUT_PIDFD).is_some());
    assert!(!handle.wait(Duration::from_millis(20)));

    // Another start time or boot is another process: it is dead.
    assert!(is_dead(&Identity { start: identity.start - 1, ..identity.clone() }));
    assert!(is_dead(&Identity { boot_id: "another".to_owned(), ..identity.clone() }));
    assert!(is_dead(&Identity { pid: 0, ..identity.clone() }));
    assert!(is_dead(&Identity { pid: -1, ..identity.clone() }));

    // Stopped is alive.
    assert!(handle.signal(Signal::STOP).unwrap());
    assert!(handle.is_alive());
    assert!(handle.signal(Signal::CONT).unwrap());

    let other = Guarded::spawn(Command::new("sleep").arg("1000"));
    let other = alive(&other.identity());
    assert!(handle.signal(Signal::TERM).unwrap());
    assert_eq!(first_dead(&[&other, &handle], crate::support::PATIENCE), Some(1));

    // It is a zombie now, that nobody waited for.
    assert!(is_dead(&identity));
    child.0.wait().unwrap();
    assert!(is_dead(&identity));
    assert!(!handle.signal(Signal::KILL).unwrap());
}

#[test]
fn a_process_is_held_waited_for_and_dead_as_a_zombie() {
    life_of_a_process();
}

#[test]
fn without_pidfd_calls_pid_and_start_time_serve() {
    if is_inner() {
        return life_of_a_process();
    }
    run_again("identity::without_pidfd_calls_pid_and_start_time_serve", &[], &[(WITHOUT_PIDFD, "1")]);
}

/// G14: the pid passes to another process, by force, again and again.
fn pid_reuse() {
    for _ in 0..20 {
        let mut first = Guarded::spawn(Command::new("sleep").arg("1000"));
        let identity = first.identity();
        let handle = alive(&identity);
        first.0.kill().unwrap();
        first.0.wait().unwrap();
        // Start times count in hundredths of a second.
        std::thread::sleep(Duration::from_millis(20));
        fs::write("/proc/sys/kernel/ns_last_pid", (identity.pid - 1).to_string()).unwrap();
        let second = Guarded::spawn(Command::new("sleep").arg("1000"));
        assert_eq!(second.pid(), identity.pid, "the pid was not reused");

        assert!(is_dead(&identity));
        assert!(!handle.is_alive());
        assert!(!handle.signal(Signal::KILL).unwrap());
        end_all(|| vec![identity.clone()], Duration::from_secs(5));
        assert!(alive(&second.identity()).is_alive());
    }
}

#[test]
fn who_has_the_pid_later_gets_no_signal() {
    if is_inner() {
        return pid_reuse();
    }
    let name = "identity::who_has_the_pid_later_gets_no_signal";
    let namespace = ["unshare", "--pid", "--fork", "--mount-proc"];
    run_again(name, &namespace, &[]);
    run_again(name, &namespace, &[(WITHOUT_PIDFD, "1")]);
}

#[test]
fn under_hidepid_a_process_of_another_user_is_hidden_not_dead() {
    if is_inner() {
        // Our own are seen; pid 1 of this namespace is root's.
        life_of_a_process();
        assert_eq!(Identity::of(1), None);
        let root = Identity { pid: 1, start: 1, ..Identity::own().unwrap() };
        assert!(matches!(find(&root), Found::Hidden));
        return;
    }
    let script =
        "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    run_again(
        "identity::under_hidepid_a_process_of_another_user_is_hidden_not_dead",
        &["unshare", "--mount", "--pid", "--fork", "sh", "-c", &format!("({script})"), "sh"],
        &[],
    );
}

#[test]
fn who_forked_twice_and_left_the_session_is_found_by_its_mark() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let value = landfall_host::process::instance_value().unwrap();
    let text =
        "( setsid sh -c 'echo $$ >\"$SAID\".new; mv \"$SAID\".new \"$SAID\"; exec sleep 1000' & ) ; exec sleep 1000";
    let leader = Guarded::spawn(Command::new("setsid").args(["sh", "-c", text]).env(MARK, &value).env("SAID", &said));
    let daemon: i32 = read_when_there(&said).trim().parse().unwrap();
    assert!(!session_members(leader.pid()).iter().any(|process| process.pid == daemon));
    until("both carry the mark", || {
        let mut found: Vec<i32> = marked(&value).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        let mut expected = vec![leader.pid(), daemon];
        expected.sort_unstable();
        found == expected
    });
    assert!(marked("").is_empty());
    assert!(end_all(|| marked(&value), crate::support::PATIENCE));
    assert!(marked(&value).is_empty());
}

#[test]
fn children_of_children_are_descendants_whatever_they_forget() {
    let leader = Guarded::shell("sh -c 'env -i sleep 1000 & env -i sleep 1000 & wait' & wait");
    until("sh and two sleeps", || descendants(leader.pid()).len() == 3);
    assert_eq!(session_members(leader.pid()).len(), 4);
    kill(leader.pid(), Signal::KILL);
    let handle = leader.identity();
    until("the leader is dead", || is_dead(&handle));
    // R3: a dead leader hides no living member.
    assert_eq!(session_members(leader.pid()).len(), 3);
    assert!(end_all(|| session_members(leader.pid()), crate::support::PATIENCE));
    assert!(session_members(leader.pid()).is_empty());
}

#[test]
fn who_forks_as_fast_as_it_is_killed_is_ended_all_the_same() {
    let leader = Guarded::shell("fork() { sleep 0.2; fork & exit; }; for i in 1 2 3 4; do fork & done; wait");
    until("it forks", || session_members(leader.pid()).len() > 2);
    assert!(end_all(|| session_members(leader.pid()), crate::support::PATIENCE));
    assert!(session_members(leader.pid()).is_empty());
}

#[test]
fn who_runs_from_below_our_releases_is_suspected() {
    let folder = tempfile::tempdir().unwrap();
    let releases = folder.path().join("releases");
    let release = releases.join("v1-0123456789ab");
    fs::create_dir_all(&release).unwrap();
    let program = release.join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    // Under another name of the same folder.
    let alias = folder.path().join("alias");
    std::os::unix::fs::symlink(folder.path(), &alias).unwrap();

    let by_program = Guarded::spawn(Command::new(&program).arg("1000").current_dir("/"));
    let by_folder = Guarded::spawn(Command::new("sleep").arg("1001").current_dir(&release));
    let elsewhere = Guarded::spawn(Command::new("sleep").arg("1002").current_dir(folder.path()));
    until("both are suspected", || {
        let found = suspected(&alias.join("releases"), &[]);
        let mut pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        let mut expected = vec![by_program.pid(), by_folder.pid()];
        expected.sort_unstable();
        pids == expected && found.iter().any(|process| process.what.starts_with("sleep (/"))
    });
    let known = [by_folder.identity()];
    let found: Vec<i32> = suspected(&releases, &known).iter().map(|process| process.pid).collect();
    assert_eq!(found, [by_program.pid()]);
    // Nothing was signalled.
    for child in [&by_program, &by_folder, &elsewhere] {
        assert!(alive(&child.identity()).is_alive());
    }
}
