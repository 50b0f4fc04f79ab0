//! The keeper with applications of every kind.

use std::{fs, time::Duration};

use landfall_host::{
    keeper::Phase,
    process::{Found, find},
    runtime,
};
use landfall_host_protocol::{EnvValue, EnvVar, ProcessState, Reason, RestartPolicy, StopTo};
use rustix::process::Signal;

use crate::{
    host::{Host, process, start, with_env, with_policy, with_stop},
    support::{kill, until},
};

#[test]
fn the_environment_is_exactly_what_was_given() {
    let mut host = Host::new();
    // R20, C19, C20: names that shells keep for themselves, and dotted ones; no shell stands in between.
    let mut config = process(&["sleep", "1000"]);
    for (name, value) in [
        ("UID", "7"),
        ("EUID", "8"),
        ("PPID", "9"),
        ("spring.datasource.url", "jdbc:x"),
        ("LANG", "de_DE"),
        ("EMPTY", ""),
        ("TWICE", "1"),
        ("TWICE", "2"),
    ] {
        config = with_env(config, name, value);
    }
    config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("db".to_owned()) });
    host.secrets.0.insert("db".to_owned(), "hunter2\nline".into());
    let application = host.started(&start(&host.release("v1", "true"), config));
    let environ = fs::read_to_string(format!("/proc/{}/environ", application.pid)).unwrap();
    let of_the_login = ["HOME=", "USER=", "LOGNAME=", "LANDFALL_INSTANCE="];
    let mut entries: Vec<&str> = environ.split('\0').filter(|entry| !entry.is_empty()).collect();
    entries.retain(|entry| !of_the_login.iter().any(|name| entry.starts_with(name)));
    entries.sort_unstable();
    let expected = [
        "EMPTY=",
        "EUID=8",
        "LANG=de_DE",
        "PASSWORD=hunter2\nline",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PPID=9",
        "TWICE=2",
        "UID=7",
        "spring.datasource.url=jdbc:x",
    ];
    assert_eq!(entries, expected);

    // Nothing of a secret value lies anywhere, but in the application's own environment.
    let found = std::process::Command::new("grep").args(["-rl", "hunter2"]).arg(host.folder.root()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    for file in ["cmdline", "environ"] {
        let keeper = host.keeper().unwrap().identity().pid;
        assert!(!fs::read_to_string(format!("/proc/{keeper}/{file}")).unwrap().contains("hunter2"));
    }
}

#[test]
fn an_application_runs_in_its_release_and_prints_to_its_log() {
    let host = Host::new();
    let release = host.release(
        "v1",
        "readlink /proc/self/fd/0; echo err >&2; umask; pwd; echo \"$1\" >../../shared/data/up; exec sleep 1000",
    );
    let application = host.started(&start(&release, process(&["./run", "a b"])));
    assert_eq!(host.wait_for_data("up"), "a b\n");
    let folder = fs::canonicalize(host.folder.release(&release)).unwrap();
    let printed = format!("=== landfall starts {release}, rollout 1.0\n/dev/null\nerr\n0022\n{}\n", folder.display());
    assert_eq!(host.log(), printed);
    let stat = landfall_host::process::Stat::read(application.pid).unwrap();
    assert_eq!((stat.session, stat.group), (application.pid, application.pid));
}

/// `keepSecretsOnHost`: the one case in which they lie on the host.
#[test]
fn secrets_stay_on_the_host_only_where_that_is_wanted() {
    let mut host = Host::new();
    host.secrets.0.insert("db".to_owned(), "hunter2".into());
    let mut config = process(&["sleep", "1000"]);
    config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("db".to_owned()) });
    config.keep_secrets_on_host = true;
    let application = host.started(&start(&host.release("v1", "true"), config.clone()));
    let path = host.folder.config(&config.hash);
    assert!(fs::read_to_string(&path).unwrap().contains("hunter2"));
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);

    // So a keeper beside it can start it again.
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(crate::support::PATIENCE));
    runtime::attend(&host.folder, None).unwrap();
    kill(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    let application = host.state().application.unwrap();
    until("it has its password", || {
        let environ = fs::read_to_string(format!("/proc/{}/environ", application.pid)).unwrap_or_default();
        environ.contains("PASSWORD=hunter2\0")
    });
}

#[test]
fn files_of_the_configuration_are_written_with_their_mode() {
    use landfall_host_protocol::{File, FileValue};
    let mut host = Host::new();
    host.secrets.0.insert("key".to_owned(), "private".into());
    let mut config = process(&["sleep", "1000"]);
    config.files = vec![
        File { name: "app.ini".to_owned(), mode: 0o644, value: FileValue::Plain("[a]".to_owned()) },
        File { name: "key.pem".to_owned(), mode: 0o600, value: FileValue::Secret("key".to_owned()) },
    ];
    let first = start(&host.release("v1", "true"), config.clone());
    host.started(&first);
    let place = host.folder.shared().join("config");
    assert_eq!(fs::read_to_string(place.join("app.ini")).unwrap(), "[a]");
    assert_eq!(fs::read_to_string(place.join("key.pem")).unwrap(), "private");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(place.join("key.pem")).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    host.stop().unwrap();
    config.files[0].name = "../escaped".to_owned();
    assert_eq!(host.start(&start(&host.release("v2", "true"), config)).unwrap_err().reason, Reason::StartFailed);
}

#[test]
fn a_command_that_is_not_there_is_named_with_its_path() {
    // C16
    let host = Host::new();
    let release = host.release("v1", "true");
    let failure = host.start(&start(&release, process(&["mynode", "server.js"]))).unwrap_err();
    assert_eq!(failure.reason, Reason::StartFailed);
    assert!(
        failure.why.contains("mynode: not found in PATH=/usr/local/sbin") && failure.why.contains("run.env"),
        "{}",
        failure.why
    );
    assert_eq!(host.process().state, ProcessState::Ended);
    until("its keeper is gone", || host.keeper().is_none());
}

#[test]
fn another_machines_program_is_an_exec_format_error() {
    // C22: its bytes may read as a script, and no shell gets them.
    let host = Host::new();
    let release = host.release("v1", "true");
    let mut program = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x77, 0x66];
    program.extend(b"\necho obeyed as a script\n");
    fs::write(host.folder.release(&release).join("run"), program).unwrap();
    let start = start(&release, process(&["./run"]));
    for failure in
        [runtime::of(&start.config).check(&host.folder, &start).unwrap_err(), host.start(&start).unwrap_err()]
    {
        assert_eq!(failure.reason, Reason::ExecFormat, "{failure:?}");
        assert!(
            failure.why.contains("a program for another machine") && failure.why.contains(std::env::consts::ARCH),
            "{}",
            failure.why
        );
    }
    assert!(!host.log().contains("obeyed"));
}

#[test]
fn what_ends_before_it_was_ready_is_not_started_again() {
    let host = Host::new();
    let release = host.release("v1", "echo no database; sleep 0.1; exit 3");
    let mut config = process(&["./run"]);
    config.readiness = Some(crate::host::exec(&["false"]));
    host.start(&start(&release, config)).unwrap();
    let failure = host.not_ready();
    assert_eq!(failure.reason, Reason::ProcessDied);
    assert_eq!(failure.ended.as_ref().unwrap().status, Some(3));
    assert!(failure.why.contains("exit status 3"), "{}", failure.why);
    assert_eq!(failure.lines, ["no database"]);
    let facts = host.process();
    assert_eq!((facts.state, facts.restarts, facts.was_ready), (ProcessState::Ended, 0, false));
    until("its keeper is gone", || host.keeper().is_none());
}

#[test]
fn what_was_ready_is_started_again_with_growing_pauses() {
    // C1, U5
    let host = Host::new();
    let release = host.release("v1", "echo $$ >>../../shared/data/starts; kill -SEGV $$");
    host.started(&start(&release, process(&["./run"])));
    let state = host.wait_for_phase("it was started again and waits", |phase| matches!(phase, Phase::Waiting { .. }));
    let state = crate::support::until_some("two restarts", || {
        Some(host.state()).filter(|now| now.restarts >= 2 && matches!(now.phase, Phase::Waiting { .. }))
    })
    .max_by_counter(state);
    let facts = host.process();
    assert!(matches!(facts.state, ProcessState::Waiting { until_millis: 1.., .. }), "{:?}", facts.state);
    let ended = state.last_end.unwrap();
    assert_eq!((ended.status, ended.signal.as_deref()), (None, Some("SEGV")));
    assert!(!facts.ready && facts.was_ready);
    // An update ends that at once.
    host.stop().unwrap();
    assert_eq!(host.process().state, ProcessState::Stopped);
    let starts = fs::read_to_string(host.data("starts")).unwrap().lines().count();
    assert_eq!(starts, 1 + host.state().restarts as usize);
}

trait MaxByCounter {
    fn max_by_counter(self, other: Self) -> Self;
}

impl MaxByCounter for landfall_host::keeper::State {
    fn max_by_counter(self, other: Self) -> Self {
        if self.counter >= other.counter { self } else { other }
    }
}

#[test]
fn a_killed_application_is_back_after_a_second() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let first = host.started(&start(&release, process(&["./run"])));
    kill(first.pid, Signal::KILL);
    until("it runs again", || host.state().phase == Phase::Running && host.state().application != Some(first.clone()));
    let facts = host.process();
    assert_eq!((facts.restarts, facts.last_end.unwrap().signal.as_deref()), (1, Some("KILL")));
    assert!(facts.ready);
}

#[test]
fn exit_status_zero_is_the_end_of_the_work_under_on_failure() {
    let host = Host::new();
    let release = host.release("v1", "echo done >../../shared/data/done; exit 0");
    let mut config = with_policy(process(&["./run"]), RestartPolicy::OnFailure);
    config.readiness = Some(crate::host::exec(&["false"]));
    host.start(&start(&release, config)).unwrap();
    host.wait_ready().unwrap();
    let facts = host.process();
    assert_eq!((facts.state, facts.ready, facts.restarts), (ProcessState::Completed, true, 0));
    assert_eq!(facts.last_end.unwrap().status, Some(0));
}

#[test]
fn work_that_is_done_is_not_started_again() {
    let host = Host::new();
    let release = host.release("v1", "echo started >>../../shared/data/starts; exit 0");
    let work = start(&release, with_policy(process(&["./run"]), RestartPolicy::OnFailure));
    host.start(&work).unwrap();
    until("its work is done", || host.process().state == ProcessState::Completed);
    host.start(&work).unwrap();
    host.wait_ready().unwrap();
    assert_eq!(fs::read_to_string(host.data("starts")).unwrap(), "started\n");
}

#[test]
fn a_start_that_meets_an_end_waits_for_what_the_keeper_says_of_it() {
    let host = Host::new();
    let release = host.release(
        "v1",
        "echo started >>../../shared/data/starts; until [ -e ../../shared/data/done ]; do sleep 0.02; done",
    );
    let work = start(&release, with_policy(process(&["./run"]), RestartPolicy::OnFailure));
    let application = host.started(&work);
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::STOP).unwrap();
    host.wait_for_data("starts");
    fs::write(host.data("done"), "").unwrap();
    until("it has ended", || matches!(find(&application), Found::Dead));
    let goes_on = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        keeper.signal(Signal::CONT).unwrap();
    });
    host.start(&work).unwrap();
    goes_on.join().unwrap();
    assert_eq!(host.process().state, ProcessState::Completed);
    assert_eq!(fs::read_to_string(host.data("starts")).unwrap(), "started\n");
}

#[test]
fn what_puts_itself_into_the_background_is_ended_and_told() {
    // C2
    let host = Host::new();
    let release = host.release(
        "v1",
        "for i in 1 2; do setsid env -i sh -c 'sleep 1000 & sleep 1001' & done; sleep 0.3; echo started",
    );
    let mut config = process(&["./run"]);
    config.readiness = Some(crate::host::exec(&["false"]));
    host.start(&start(&release, config)).unwrap();
    let failure = host.not_ready();
    assert_eq!(failure.reason, Reason::ProcessDied);
    assert!(failure.why.contains("left 6 processes") && failure.why.contains("foreground"), "{}", failure.why);
    assert_eq!(failure.lines, ["started"]);
    let facts = host.facts();
    assert!(facts.survivors.is_empty() && facts.suspected.is_empty(), "{facts:?}");
}

#[test]
fn the_master_alone_gets_the_signal_and_kill_goes_to_all() {
    // C9
    let host = Host::new();
    let worker = "trap 'echo worker hurt >>../../shared/data/hurt' TERM; echo worker >>../../shared/data/up; while :; do sleep 0.05; done";
    let master = format!(
        "sh -c '{}' & child=$!; trap 'sleep 0.2; kill -KILL $child; echo master >../../shared/data/orderly; exit 0' TERM; while :; do sleep 0.05; done",
        worker.replace('\'', "'\\''")
    );
    let release = host.release("v1", &master);
    host.started(&start(&release, process(&["./run"])));
    host.wait_for_data("up");
    host.stop().unwrap();
    assert_eq!(fs::read_to_string(host.data("orderly")).unwrap().trim(), "master");
    assert!(!host.data("hurt").exists());
    assert!(host.living().is_empty());
    assert_eq!(host.process().last_end.unwrap().status, Some(0));

    // With `Group` all get it at once.
    let release = host.release("v2", &master);
    host.started(&start(&release, with_stop(process(&["./run"]), StopTo::Group, 20)));
    until("the worker is up", || fs::read_to_string(host.data("up")).is_ok_and(|up| up.lines().count() == 2));
    host.stop().unwrap();
    assert!(host.data("hurt").exists());
    assert!(host.living().is_empty());
}

#[test]
fn what_ignores_term_or_is_stopped_is_killed_after_the_grace_period() {
    let host = Host::new();
    let release = host.release(
        "v1",
        "trap '' TERM; sleep 1000 & sleep 1001 & echo up >../../shared/data/up; while :; do sleep 0.1; done",
    );
    let application = host.started(&start(&release, with_stop(process(&["./run"]), StopTo::Group, 1)));
    host.wait_for_data("up");
    let begun = crate::support::now();
    host.stop().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(matches!(find(&application), Found::Dead));
    assert!(host.living().is_empty());
    assert_eq!(host.process().last_end.unwrap().signal.as_deref(), Some("KILL"));

    // One that is stopped hears the signal all the same.
    let application = host.started(&start(&host.release("v2", "exec sleep 1000"), process(&["./run"])));
    kill(application.pid, Signal::STOP);
    host.stop().unwrap();
    assert_eq!(host.process().last_end.unwrap().signal.as_deref(), Some("TERM"));
}

#[test]
fn what_leaves_session_group_and_environment_is_ended_with_the_rest() {
    let host = Host::new();
    let text = "( ( setsid env -i setsid sh -c 'echo $$ >>../../shared/data/left; trap \"\" TERM HUP; while :; do sleep 0.1; done' & ) & ) ; exec sleep 1000";
    let release = host.release("v1", text);
    host.started(&start(&release, with_stop(process(&["./run"]), StopTo::Main, 1)));
    let left: i32 = host.wait_for_data("left").trim().parse().unwrap();
    let left = landfall_host::process::Identity::of(left).unwrap();
    host.stop().unwrap();
    assert!(matches!(find(&left), Found::Dead));
}

#[test]
fn children_of_a_leader_that_was_killed_are_ended_before_the_next_start() {
    // R3
    let host = Host::new();
    let text = "sleep 1000 & echo $! >>../../shared/data/child; exec sleep 1001";
    let release = host.release("v1", text);
    let leader = host.started(&start(&release, process(&["./run"])));
    let child: i32 = host.wait_for_data("child").trim().parse().unwrap();
    let child = landfall_host::process::Identity::of(child).unwrap();
    kill(leader.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    assert!(matches!(find(&child), Found::Dead));

    // The same where no keeper lives any more: the children carry the mark.
    let leader = host.state().application.unwrap();
    let child = until_child(&host, 2);
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(crate::support::PATIENCE));
    kill(leader.pid, Signal::KILL);
    until("the leader is dead", || matches!(find(&leader), Found::Dead));
    let facts = host.facts();
    assert_eq!(facts.process.unwrap().state, ProcessState::Ended);
    assert_eq!(facts.survivors.iter().map(|survivor| survivor.pid).collect::<Vec<_>>(), [child.pid]);
    let next = start(&host.release("v2", "exec sleep 1002"), process(&["./run"]));
    host.started(&next);
    assert!(matches!(find(&child), Found::Dead));
    assert!(host.facts().survivors.is_empty());
}

fn until_child(host: &Host, count: usize) -> landfall_host::process::Identity {
    let text = crate::support::until_some("the next child", || {
        fs::read_to_string(host.data("child")).ok().filter(|text| text.lines().count() == count)
    });
    landfall_host::process::Identity::of(text.lines().last().unwrap().parse().unwrap()).unwrap()
}

#[test]
fn term_passes_through_the_keeper_and_restarts_nothing() {
    let host = Host::new();
    let release = host.release("v1", "trap 'echo orderly >../../shared/data/end; exit 0' TERM; echo up >../../shared/data/up; while :; do sleep 0.05; done");
    host.started(&start(&release, process(&["./run"])));
    host.wait_for_data("up");
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::TERM).unwrap();
    assert!(keeper.wait(crate::support::PATIENCE));
    assert_eq!(host.wait_for_data("end"), "orderly\n");
    let state = host.state();
    assert_eq!((state.phase, state.restarts), (Phase::Ended, 0));
    assert!(host.living().is_empty());
}

#[test]
fn an_application_outlives_its_keeper_and_gets_another_one() {
    let host = Host::new();
    let release = host.release("v1", "while :; do date; sleep 0.05; done");
    let start = start(&release, process(&["./run"]));
    let application = host.started(&start);
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(crate::support::PATIENCE));
    let length = host.log().len();
    until("it goes on printing", || host.log().len() > length);
    assert_eq!(host.facts().keeper, None);
    assert_eq!(host.process().state, ProcessState::Running);

    // The same start asked for again, or a look, puts a keeper beside it.
    runtime::attend(&host.folder, None).unwrap();
    host.start(&start).unwrap();
    let facts = host.facts();
    assert!(!facts.keeper.clone().unwrap().parent);
    assert_eq!(facts.process.unwrap().pid, application.pid);
    // Two look at once: one keeper stays.
    runtime::attend(&host.folder, None).unwrap();
    assert_eq!(host.facts().keeper, facts.keeper);

    // It starts it again under itself.
    kill(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    let facts = host.facts();
    assert!(facts.keeper.unwrap().parent);
    let ended = facts.process.unwrap().last_end.unwrap();
    assert_eq!((ended.status, ended.signal), (None, None));
    host.stop().unwrap();
    assert!(host.living().is_empty());
}

#[test]
fn a_keeper_that_is_stuck_does_not_stand_in_the_way() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let application = host.started(&start(&release, process(&["./run"])));
    // Stopped, it is woken and told.
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::STOP).unwrap();
    host.stop().unwrap();
    assert!(matches!(find(&application), Found::Dead));
    assert_eq!(host.process().state, ProcessState::Stopped);
}

#[test]
fn a_keeper_goes_on_as_a_newer_program_with_the_same_children() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let start = start(&release, process(&["./run"]));
    let application = host.started(&start);
    let before = host.facts().keeper.unwrap();
    let newer = host.folder.root().join("ab".repeat(32));
    fs::copy(env!("CARGO_BIN_EXE_landfall-host"), &newer).unwrap();
    assert!(landfall_host::keeper::upgrade(&host.folder, &newer, crate::support::PATIENCE).unwrap());
    let facts = host.facts();
    let after = facts.keeper.unwrap();
    assert_eq!((after.pid, after.start, after.parent), (before.pid, before.start, true));
    assert_eq!(after.program.unwrap().as_str(), "ab".repeat(32));
    assert_eq!(facts.process.unwrap().pid, application.pid);

    // It is their parent still: it sees how they end, and what it knew is known.
    kill(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    assert_eq!(host.process().last_end.unwrap().signal.as_deref(), Some("KILL"));
    // One keeper a folder: it has the lock still.
    runtime::attend(&host.folder, None).unwrap();
    host.stop().unwrap();
    assert!(host.living().is_empty());
}

#[test]
fn a_keeper_costs_less_than_two_megabytes_and_holds_no_pipe() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    host.started(&start(&release, process(&["./run"])));
    let keeper = host.keeper().unwrap().identity().pid;
    let rollup = fs::read_to_string(format!("/proc/{keeper}/smaps_rollup")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // Pages of the program's own file are shared by all keepers; a debug build has many.
    println!("keeper: {} KiB of its own, {} KiB resident", kib("Anonymous:"), kib("Rss:"));
    assert!(kib("Anonymous:") < 2048, "{rollup}");
    // (What cargo gave to its tests goes on to their children.)
    let pipes = |pid: String| -> Vec<std::path::PathBuf> {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        links
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .filter(|to| to.to_string_lossy().starts_with("pipe:"))
            .collect()
    };
    let given = pipes("self".to_owned());
    let held: Vec<_> = pipes(keeper.to_string()).into_iter().filter(|pipe| !given.contains(pipe)).collect();
    assert!(held.is_empty(), "{held:?}");
    let name = fs::read(format!("/proc/{keeper}/cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&name).starts_with("landfall-keeper shop.web\0keep\0"));
}

#[test]
fn a_dead_keepers_record_is_not_written_over_by_an_old_one() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    host.started(&start(&release, process(&["./run"])));
    host.stop().unwrap();
    let next = start(&host.release("v2", "exec sleep 1000"), process(&["./run"]));
    host.started(&next);
    let state = host.state();
    assert_eq!(state.release, next.release);
    std::thread::sleep(crate::host::MOMENT);
    assert_eq!(host.state(), state);
}

#[test]
fn a_leftover_that_cant_be_proved_ours_is_told_and_not_touched() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let start = start(&release, process(&["./run"]));
    let stranger = crate::support::Guarded::spawn(
        std::process::Command::new("sleep").arg("1003").current_dir(host.folder.release(&release)),
    );
    until("it stands there", || !host.facts().suspected.is_empty());
    for failure in
        [runtime::of(&start.config).check(&host.folder, &start).unwrap_err(), host.start(&start).unwrap_err()]
    {
        assert_eq!(failure.reason, Reason::LeftoverSuspected);
        assert!(failure.why.contains("sleep (/"), "{}", failure.why);
        assert_eq!(failure.strangers.len(), 1);
    }
    host.stop().unwrap();
    assert!(matches!(find(&stranger.identity()), Found::Alive(_)));
}

#[test]
fn without_its_secrets_an_application_is_not_started() {
    // R28
    let mut host = Host::new();
    let release = host.release("v1", "echo \"$PASSWORD\" >../../shared/data/password; exec sleep 1000");
    let mut config = process(&["./run"]);
    config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("db".to_owned()) });
    let start = start(&release, config);
    assert_eq!(host.start(&start).unwrap_err().reason, Reason::AwaitingSecrets);
    host.secrets.0.insert("db".to_owned(), "hunter2".into());
    let application = host.started(&start);
    assert_eq!(host.wait_for_data("password"), "hunter2\n");

    // A keeper beside it does not have them: what ends then waits for the operator.
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(crate::support::PATIENCE));
    runtime::attend(&host.folder, None).unwrap();
    kill(application.pid, Signal::KILL);
    until("it waits for its secrets", || host.facts().awaiting_secrets);
    assert_eq!(host.process().state, ProcessState::Ended);
}

/// The keeper dies at each of its effects: whatever runs then is on record, and another start makes one of it.
#[test]
fn a_keeper_killed_at_any_effect_leaves_nothing_that_is_not_recorded() {
    let script = "echo $$ >>../../shared/data/pids; exec sleep 1000";
    if crate::support::is_inner() {
        let host = Host::at(std::path::Path::new(&std::env::var("LANDFALL_TEST_ROOT").unwrap()));
        let _ = host.start(&start(&host.release("v1", script), process(&["./run"])));
        std::mem::forget(host);
        return;
    }
    for effect in ["keeper.lock", "log.begin", "state.write"] {
        for when in ["before", "after"] {
            let host = Host::new();
            let release = host.release("v1", script);
            crate::support::run_again(
                "keeper::a_keeper_killed_at_any_effect_leaves_nothing_that_is_not_recorded",
                &[],
                &[
                    ("LANDFALL_HOST_KILL", &format!("{effect}:1:{when}")),
                    ("LANDFALL_TEST_ROOT", host.folder.root().to_str().unwrap()),
                ],
            );
            let pids = || fs::read_to_string(host.data("pids")).unwrap_or_default();
            assert!(host.facts().keeper.is_none(), "{effect} {when}");
            host.started(&start(&release, process(&["./run"])));
            until("it runs", || !pids().is_empty());
            let living: Vec<String> = pids()
                .lines()
                .filter(|pid| {
                    landfall_host::process::Stat::read(pid.parse().unwrap()).is_some_and(|stat| !stat.is_dead())
                })
                .map(str::to_owned)
                .collect();
            assert_eq!(living, [host.state().application.unwrap().pid.to_string()], "{effect} {when}");
            host.stop().unwrap();
        }
    }
}

#[test]
fn what_prints_as_fast_as_it_can_fills_no_disk() {
    let host = Host::new();
    let release = host
        .release("v1", "echo up >../../shared/data/up; exec yes 'a line of an application that prints all the time'");
    let mut config = process(&["./run"]);
    config.log = landfall_host_protocol::LogLimits { max_bytes: 1 << 20, files: 2 };
    let application = host.started(&start(&release, config));
    host.wait_for_data("up");
    until("it was rotated twice", || host.folder.log(2).exists());
    let handle = match find(&application) {
        Found::Alive(handle) => handle,
        other => panic!("{other:?}"),
    };
    // The file is cut while it is written to, again and again.
    let (mut length, mut cuts) = (0, 0);
    until("it was cut five times", || {
        let now = fs::metadata(host.folder.log(0)).map_or(0, |metadata| metadata.len());
        cuts += u32::from(now < length);
        length = now;
        cuts >= 5
    });
    // The writer was kept from nothing, and what it wrote between two cuts came into the file of this name.
    assert!(handle.is_alive());
    host.stop().unwrap();
    assert!(host.log().len() <= 1 << 20);
    assert!(fs::metadata(host.folder.log(1)).unwrap().len() <= 2 << 20);
    assert!(!host.folder.log(3).exists());
}

/// Where the file system cuts without a loss, the newest lines are there without a gap.
#[test]
fn of_a_hundred_megabytes_the_newest_lines_are_kept_at_little_cost() {
    const LAST: u64 = 12_000_000;
    let host = Host::new();
    let script = format!("seq 1 {LAST}; echo >../../shared/data/done; exec sleep 1000");
    let mut config = process(&["./run"]);
    config.log = landfall_host_protocol::LogLimits { max_bytes: 1 << 20, files: 2 };
    host.started(&start(&host.release("v1", &script), config));
    host.wait_for_data("done");
    let length = |number| fs::metadata(host.folder.log(number)).map_or(0, |metadata| metadata.len());
    until("all of it is within its bounds", || (0..3).map(length).sum::<u64>() <= 4 << 20 && length(0) <= 1 << 20);
    let keeper = host.keeper().unwrap().identity().pid;
    let stat = fs::read_to_string(format!("/proc/{keeper}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let rollup = fs::read_to_string(format!("/proc/{keeper}/smaps_rollup")).unwrap();
    let own = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next()).unwrap();
    println!("keeper: {ticks} hundredths of a second, {own} KiB of its own");
    assert!(ticks < 1000, "its keeper worked for {ticks} hundredths of a second");
    assert!(own.parse::<u64>().unwrap() < 2048, "{rollup}");
    // Nobody rotates it any more.
    host.stop().unwrap();
    assert!(!host.folder.log(3).exists());
    let text: String = (0..3).rev().map(|number| fs::read_to_string(host.folder.log(number)).unwrap()).collect();
    let lines: Vec<u64> = text.lines().skip(1).filter_map(|line| line.parse().ok()).collect();
    assert_eq!(lines.last(), Some(&LAST));
    let kind = rustix::fs::statfs(host.folder.root()).unwrap().f_type;
    if [0xef53, 0x5846_5342].contains(&kind) {
        let gap = lines.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "ext4 and xfs cut without a loss");
    }
}

/// A process of the shell helper's time: seen, left alone, and ended as a whole by the next update.
#[test]
fn what_the_shell_helper_started_is_taken_over_as_it_is() {
    let host = Host::new();
    let release = host.release("v1", "true");
    let helper = "sleep 1000 & exec sleep 1001";
    let application = crate::support::Guarded::shell(helper);
    let identity = application.identity();
    let digest = crate::host::digest("v1");
    let line = format!(
        "{} {} {} {digest} uid-1 3 3.2 {release}\n",
        identity.pid,
        identity.start,
        landfall_host::process::boot_id()
    );
    fs::write(host.folder.dot().join("process"), line).unwrap();
    fs::write(host.folder.dot().join("ready"), format!("uid-1 3.2 {} {}\n", identity.pid, identity.start)).unwrap();

    let facts = host.facts();
    let process_facts = facts.process.unwrap();
    assert_eq!(
        (process_facts.pid, process_facts.state, process_facts.config),
        (identity.pid, ProcessState::Running, None)
    );
    assert_eq!((process_facts.uid.as_str(), process_facts.revision, process_facts.redeploys), ("uid-1", 3, 2));
    assert!(process_facts.ready && process_facts.was_ready);
    runtime::attend(&host.folder, None).unwrap();
    let next = start(&host.release("v2", "exec sleep 1002"), process(&["./run"]));
    runtime::of(&next.config).check(&host.folder, &next).unwrap();
    assert!(host.start(&next).is_err());
    assert!(matches!(find(&identity), Found::Alive(_)));

    host.stop().unwrap();
    assert!(landfall_host::process::session_members(identity.pid).is_empty());
    assert_eq!(host.process().state, ProcessState::Stopped);
    host.started(&next);
    assert_eq!(host.process().state, ProcessState::Running);
}

#[test]
fn a_keeper_that_dies_before_its_application_is_ready_is_replaced() {
    let host = Host::new();
    let mut config = process(&["./run"]);
    config.readiness = Some(crate::host::exec(&["test", "-e", "../../shared/data/ready"]));
    host.started(&start(&host.release("v1", "exec sleep 1000"), config));
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(crate::support::PATIENCE));
    fs::write(host.data("ready"), "").unwrap();
    host.wait_ready().unwrap();
    assert!(host.process().was_ready);
}

/// C23
#[test]
fn a_root_that_runs_no_programs_is_refused_before_anything_stops() {
    let name = "keeper::a_root_that_runs_no_programs_is_refused_before_anything_stops";
    if crate::support::is_inner() {
        let host = Host::new();
        let start = start(&host.release("v1", "exec sleep 1000"), process(&["./run"]));
        let failure = runtime::of(&start.config).check(&host.folder, &start).unwrap_err();
        assert_eq!(failure.reason, Reason::HostUnsupported);
        assert!(failure.why.contains("noexec"), "{}", failure.why);
        return;
    }
    let script = "mount -t tmpfs -o noexec tmp /mnt && TMPDIR=/mnt exec \"$@\"";
    crate::support::run_again(name, &["unshare", "--mount", "sh", "-c", script, "sh"], &[]);
}

/// The record is of another boot: whoever has those numbers now is somebody else, mark and session included.
#[test]
fn after_a_reboot_nothing_is_signalled_and_another_start_is_made() {
    let host = Host::new();
    let start = start(&host.release("v1", "exec sleep 1000"), process(&["./run"]));
    host.started(&start);
    host.stop().unwrap();
    let mut state = host.state();
    let stranger = crate::support::Guarded::spawn(
        std::process::Command::new("setsid").args(["sleep", "1004"]).env(landfall_host::process::MARK, &state.instance),
    );
    until("it is a session of its own", || !landfall_host::process::session_members(stranger.pid()).is_empty());
    let there = stranger.identity();
    let before = landfall_host::process::Identity { boot_id: "of-another-boot".to_owned(), ..there.clone() };
    state.phase = Phase::Running;
    state.application = Some(before.clone());
    state.keeper.as_mut().unwrap().identity = before;
    state.write(&host.folder).unwrap();

    let facts = host.facts();
    assert_eq!(facts.process.unwrap().state, ProcessState::Ended);
    assert_eq!(facts.keeper, None);
    assert!(facts.survivors.is_empty());
    runtime::attend(&host.folder, None).unwrap();
    let application = host.started(&start);
    assert_ne!(application.pid, there.pid);
    assert!(matches!(find(&there), Found::Alive(_)));
    host.stop().unwrap();
    assert!(matches!(find(&there), Found::Alive(_)));
}
