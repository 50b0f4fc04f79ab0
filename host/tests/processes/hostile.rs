//! What an application, another user or a machine that fails can do to a keeper and a runner: it harms nobody else.

use std::{fs, time::Duration};

use landfall_host::{
    keeper::Phase,
    process::{Found, Identity, Stat, find},
    runtime,
};
use landfall_host_protocol::{EnvValue, EnvVar, ProcessState, StopTo};
use rustix::process::Signal;

use crate::{
    host::{Host, exec, process, start, with_stop},
    support::{Guarded, PATIENCE, is_inner, kill, run_again, until},
};

#[test]
fn a_probe_that_lacks_a_secret_value_is_no_failure() {
    let mut host = Host::new();
    host.secrets.0.insert("db".to_owned(), "hunter2".into());
    let mut config = process(&["./run"]);
    config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("db".to_owned()) });
    config.liveness = Some(exec(&["sh", "-c", "test \"$PASSWORD\" = hunter2"]));
    config.readiness = Some(exec(&["sh", "-c", "test \"$PASSWORD\" = hunter2"]));
    let application = host.started(&start(&host.release("v1", "exec sleep 1000"), config));
    host.wait_ready().unwrap();
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(PATIENCE));

    // The keeper beside it has no secrets: it can't ask, and says so.
    runtime::attend(&host.folder, None).unwrap();
    until("it is told", || host.process().probe_failure.is_some_and(|why| why.contains("secret value db")));
    std::thread::sleep(Duration::from_millis(2500));
    let facts = host.process();
    assert_eq!((facts.state, facts.pid, facts.restarts), (ProcessState::Running, application.pid, 0));
    assert!(facts.ready);
}

#[test]
fn a_log_that_became_a_fifo_holds_nobody() {
    let host = Host::new();
    let text = "test -e ../../shared/data/once && exec sleep 1000; echo >../../shared/data/once; \
                rm ../../shared/log/output.log; mkfifo ../../shared/log/output.log; exit 3";
    host.started(&start(&host.release("v1", text), process(&["./run"])));
    let ended = host.wait_for_phase("its end is seen", |phase| *phase != Phase::Running).last_end.unwrap();
    assert_eq!(ended.status, Some(3));
    until("why it does not start is told", || {
        let lines = host.state().last_end.map(|ended| ended.lines).unwrap_or_default();
        lines.iter().any(|line| line.contains("no plain file"))
    });
    host.stop().unwrap();
    assert_eq!(host.process().state, ProcessState::Stopped);
}

/// G14: the first process is dead, init waited for it, and its pid passes to somebody else while something else is still being ended.
#[test]
fn who_gets_the_first_processes_pid_is_not_ended_with_the_rest() {
    if !is_inner() {
        let name = "hostile::who_gets_the_first_processes_pid_is_not_ended_with_the_rest";
        return run_again(name, &["unshare", "--pid", "--fork", "--mount-proc"], &[]);
    }
    // This test is init here.
    let host = Host::new();
    let script = "(trap '' TERM; exec setsid sleep 1002) & echo up >../../shared/data/up; exec sleep 1000";
    let config = with_stop(process(&["./run"]), StopTo::Main, 3);
    let application = host.started(&start(&host.release("v1", script), config));
    host.wait_for_data("up");
    until("it is what it is", || {
        fs::read_to_string(format!("/proc/{}/comm", application.pid)).is_ok_and(|name| name == "sleep\n")
    });
    // As long as anybody is in its session, its pid is nobody else's.
    until("the other one has a session of its own", || {
        let below = landfall_host::process::descendants(application.pid);
        let session = |process: &Identity| Stat::read(process.pid).map(|stat| stat.session);
        !below.is_empty() && below.iter().all(|process| session(process) == Some(process.pid))
    });
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(PATIENCE));

    let (pid, host) = (application.pid, &host);
    let (stranger, child) = std::thread::scope(|scope| {
        let stop = scope.spawn(|| host.stop());
        let zombie = rustix::process::Pid::from_raw(pid);
        until("init waited for it", || {
            rustix::process::waitpid(zombie, rustix::process::WaitOptions::NOHANG).is_ok_and(|dead| dead.is_some())
        });
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let stranger = Guarded::shell("sleep 1003 & exec sleep 1004");
        assert_eq!(stranger.pid(), pid, "the pid was not reused");
        let child =
            crate::support::until_some("its child", || landfall_host::process::descendants(pid).first().cloned());
        stop.join().unwrap().unwrap();
        (stranger, child)
    });
    assert!(matches!(find(&stranger.identity()), Found::Alive(_)));
    assert!(matches!(find(&child), Found::Alive(_)));
}

#[test]
fn another_users_process_in_a_release_stands_in_no_updates_way() {
    let host = Host::new();
    let start = start(&host.release("v1", "exec sleep 1000"), process(&["./run"]));
    let releases = host.folder.release(&start.release);
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "1006"]).current_dir(&releases);
    let stranger = Guarded::spawn(&mut command);
    until("it is another user's", || {
        fs::read_to_string(format!("/proc/{}/comm", stranger.pid())).is_ok_and(|name| name == "sleep\n")
    });
    assert!(host.facts().suspected.is_empty());
    runtime::of(&start.config).check(&host.folder, &start).unwrap();

    // One of ours does, and what it was told is nobody's business.
    let ours = Guarded::spawn(std::process::Command::new("sleep").arg("1007").current_dir(&releases));
    let what = crate::support::until_some("it is suspected", || host.facts().suspected.first().cloned()).what;
    assert!(what.starts_with("sleep (/") && !what.contains("1007"), "{what}");
    assert!(matches!(find(&ours.identity()), Found::Alive(_)));
}

#[test]
fn a_keeper_dumps_no_core_and_its_application_may() {
    let limit = |pid: &str| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        line.split_ascii_whitespace().nth(4).unwrap().to_owned()
    };
    let host = Host::new();
    let application = host.started(&start(&host.release("v1", "exec sleep 1000"), process(&["./run"])));
    let keeper = host.keeper().unwrap().identity().pid.to_string();
    assert_eq!(limit(&keeper), "1");
    assert_eq!(limit(&application.pid.to_string()), limit("self"));

    // Also after it went on as another program, and what it starts then.
    let newer = host.folder.root().join("ab".repeat(32));
    fs::copy(env!("CARGO_BIN_EXE_landfall-host"), &newer).unwrap();
    assert!(landfall_host::keeper::upgrade(&host.folder, &newer, PATIENCE).unwrap());
    assert_eq!(limit(&keeper), "1");
    kill(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    assert_eq!(limit(&host.state().application.unwrap().pid.to_string()), limit("self"));
}

/// The other user's process is a stranger: what it names is started by it and that user's, or nothing.
#[test]
fn a_process_that_is_not_the_other_users_is_not_taken_for_the_application() {
    use landfall_host::{as_user::AsUser, keeper::Hands};
    use std::io::{BufRead, BufReader, Write};
    let victim = Guarded::spawn(std::process::Command::new("sleep").arg("1008"));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let identity = serde_json::to_value(victim.identity()).unwrap();
    let liar = std::thread::spawn(move || {
        let mut writer = theirs.try_clone().unwrap();
        for line in BufReader::new(theirs).lines().map_while(Result::ok) {
            let said = match line.contains("nothing") {
                true => serde_json::json!({"hello": {"uid": 65534, "pid": std::process::id()}}),
                false => serde_json::json!({"prepared": identity}),
            };
            writeln!(writer, "{said}").unwrap();
        }
    });
    let run_as =
        landfall_host_protocol::RunAs { method: landfall_host_protocol::RunAsMethod::Su, user: "nobody".to_owned() };
    let mut hands = AsUser::resumed(&run_as, std::path::Path::new("/nonexistent"), ours.into());
    let prepared = hands.prepare(&fs::File::open("/dev/null").unwrap());
    assert!(prepared.is_err(), "{prepared:?}");
    drop(hands);
    liar.join().unwrap();
}

#[test]
fn a_newer_program_that_cant_go_on_costs_no_keeper() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    let application = host.started(&start(&host.release("v1", "exec sleep 1000"), process(&["./run"])));
    let keeper = host.keeper().unwrap();
    let newer = host.folder.root().join("newer");
    fs::write(&newer, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&newer, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!landfall_host::keeper::upgrade(&host.folder, &newer, Duration::from_secs(2)).unwrap());
    assert!(keeper.is_alive());
    // It keeps.
    kill(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
}

/// Between an exec and the first thing that the newer program does the signal's default is to end the process.
#[test]
fn a_keeper_that_does_not_listen_yet_is_not_signalled() {
    let host = Host::new();
    host.started(&start(&host.release("v1", "exec sleep 1000"), process(&["./run"])));
    let deaf = Guarded::spawn(std::process::Command::new("sleep").arg("1005"));
    let mut state = host.state();
    let record = state.keeper.as_mut().unwrap();
    let keeper = std::mem::replace(&mut record.identity, deaf.identity());
    assert!(!landfall_host::keeper::stand_down(&host.folder, &state, Duration::from_millis(1500)).unwrap());
    assert!(matches!(find(&deaf.identity()), Found::Alive(_)));
    assert!(matches!(find(&keeper), Found::Alive(_)));
}

#[test]
fn a_release_that_was_changed_is_not_started_again() {
    use std::os::unix::fs::MetadataExt;
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let program = host.folder.release(&release).join("run");
    let bytes = fs::read(&program).unwrap();
    let found = fs::metadata(&program).unwrap();
    // As it was staged.
    let entry = landfall_host_protocol::Entry {
        path: "run".to_owned(),
        kind: landfall_host_protocol::EntryKind::File {
            mode: 0o755,
            size: found.len(),
            sha256: landfall_host_bundle::digest(&bytes),
        },
    };
    let mut entry = serde_json::to_value(entry).unwrap();
    entry["look"] = serde_json::json!({"inode": found.ino(), "changed": [found.ctime(), found.ctime_nsec()]});
    let contents = serde_json::json!({"format": 1, "digest": crate::host::digest("v1"), "entries": [entry]});
    fs::create_dir(host.folder.dot().join("staged")).unwrap();
    fs::write(host.folder.dot().join("staged").join(format!("{release}.files")), contents.to_string()).unwrap();

    let application = host.started(&start(&release, process(&["./run"])));
    fs::write(&program, [&bytes[..], b"# changed\n"].concat()).unwrap();
    kill(application.pid, Signal::KILL);
    until("it is told", || {
        let lines = host.state().last_end.map(|ended| ended.lines).unwrap_or_default();
        lines.iter().any(|line| line.contains("ReleaseTampered") && line.contains("run"))
    });
    assert_eq!(host.state().restarts, 0);
    assert!(matches!(host.state().phase, Phase::Waiting { .. }));

    // As it was, it is started.
    fs::write(&program, &bytes).unwrap();
    until("it runs", || host.state().phase == Phase::Running);
}
