//! Applications that their own commands start, stop and look at, and files that something else serves: what is seen of them, and what is left
//! of commands that fail, hang or lose who runs them.

use std::{fs, process::Command, time::Duration};

use landfall_host::{
    keeper::Phase,
    runtime::{self, Waited},
};
use landfall_host_protocol::{
    Configuration, EnvValue, EnvVar, FolderFacts, LogLimits, ProcessState, Push, Reason, Runtime, ScriptRuntime,
    StaticRuntime, Stop,
};
use rustix::process::Signal;

use crate::{
    client::Client,
    contract::script,
    host::{Host, exec, process, start},
    support::{PATIENCE, kill, until, until_some},
};

fn sh(text: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()]
}

fn with(change: impl FnOnce(&mut ScriptRuntime)) -> Configuration {
    let mut config = script();
    if let Runtime::Script(script) = &mut config.runtime {
        change(script);
    }
    config
}

fn files(reload: &str) -> Configuration {
    let reload = if reload.is_empty() { Vec::new() } else { sh(reload) };
    Configuration { runtime: Runtime::Static(StaticRuntime { reload, timeout_seconds: 30 }), ..process(&[]) }
}

impl Host {
    /// v1 runs, and is ready.
    #[track_caller]
    fn with_v1(config: Configuration) -> Self {
        let host = Self::new();
        host.run_v1(config);
        host
    }

    #[track_caller]
    fn run_v1(&self, config: Configuration) {
        let release = self.release("v1", "exec sleep 1000");
        self.switch(&release);
        self.start(&start(&release, config)).unwrap();
        self.wait_ready().unwrap();
    }

    fn attended(&self) -> i32 {
        runtime::attend(&self.folder, None).unwrap();
        self.keeper().expect("a watcher").identity().pid
    }

    fn stopped(&self) -> Option<String> {
        runtime::recorded(&self.folder).stop(&self.folder).unwrap()
    }

    fn application(&self) -> i32 {
        fs::read_to_string(self.data("pid")).unwrap().trim().parse().unwrap()
    }
}

#[test]
fn a_watcher_sees_the_end_of_an_application_and_what_is_started_then_is_another() {
    let host = Host::with_v1(script());
    host.attended();
    let before = host.process();
    assert_eq!((before.pid, before.state.clone(), before.ready), (0, ProcessState::Running, true));
    assert!(before.start > 0 && !before.boot_id.is_empty(), "which start it is: {before:?}");
    assert!(host.facts().keeper.is_some());
    // Sooner than it is asked for: the end of one of its processes is seen.
    kill(host.application(), Signal::KILL);
    host.wait_for_phase("down", |phase| *phase == Phase::Ended);
    until("its watcher has nothing to ask", || host.keeper().is_none());
    let down = host.process();
    assert_eq!((down.state, down.ready, down.was_ready), (ProcessState::Ended, false, true));
    let lines = down.last_end.unwrap().lines;
    assert!(lines[0].starts_with("landfall: found down by its status command: sh -c kill -0"), "{lines:?}");
    assert!(lines[0].contains("exit status 1"), "{lines:?}");
    // Whoever starts it again stops it first, as its own command does: that finds nothing, which is no failure.
    assert_eq!(host.stopped(), None);
    host.run_v1(script());
    assert_ne!(host.process().start, before.start);
    host.stop().unwrap();
}

#[test]
fn without_a_watcher_a_look_asks_and_a_no_is_asked_twice() {
    let flaps = "test ! -e ../../shared/data/down || { rm ../../shared/data/down; exit 1; }";
    let host = Host::with_v1(with(|script| script.status = sh(flaps)));
    fs::write(host.data("down"), "").unwrap();
    assert_eq!(host.process().state, ProcessState::Running, "it fails once");
    assert!(!host.data("down").exists());
    let host = Host::with_v1(script());
    kill(host.application(), Signal::KILL);
    until("down", || host.process().state == ProcessState::Ended);
    assert_eq!(host.state().phase, Phase::Running, "a look writes nothing");
    // Who acts looks first, and has it on record.
    let runtime = runtime::recorded(&host.folder);
    runtime.settle(&host.folder, &runtime::Patience::default(), &|| false);
    assert_eq!(host.state().phase, Phase::Ended);
    // While a task is at work its own looks count.
    let host = Host::with_v1(with(|script| script.status = sh("echo asked >>../../shared/data/asked")));
    fs::remove_file(host.data("asked")).unwrap();
    let id = landfall_host_protocol::TaskId { uid: String::new(), rollout: String::new(), attempt: 1, n: 0 };
    let task = Some(landfall_host_protocol::OpenTask { id, step: "stop".to_owned(), running: true });
    let mut facts = FolderFacts { task, ..FolderFacts::default() };
    runtime::recorded(&host.folder).observe(&host.folder, &mut facts);
    assert_eq!(facts.process.unwrap().state, ProcessState::Running);
    assert!(!host.data("asked").exists());
}

#[test]
fn a_status_command_that_can_not_answer_says_nothing_of_the_application() {
    let host = Host::with_v1(script());
    let answers_with = |status: Vec<String>| {
        let config = with(|script| {
            script.status = status;
            script.status_timeout_seconds = Some(1);
        });
        runtime::configuration::store(&host.folder, &config, &host.secrets).unwrap();
    };
    for status in [sh("sleep 1000"), sh("kill -KILL $$"), vec!["./no-such-file".to_owned()], sh("no-such-program")] {
        answers_with(status);
        assert_eq!(host.process().state, ProcessState::Running);
    }
    // Three of them in a row, as its watcher counts.
    let runtime = runtime::recorded(&host.folder);
    let failure = runtime.min_ready(&host.folder, Duration::from_secs(1000), &|| false).unwrap_err();
    assert_eq!(failure.reason, Reason::NotReady, "{failure:?}");
    let seen = host.process();
    assert!(!seen.ready && seen.unready_since.is_some() && seen.probe_failure.is_some(), "{seen:?}");
    assert_eq!(seen.state, ProcessState::Running);
    // It answers again.
    runtime::configuration::store(&host.folder, &script(), &host.secrets).unwrap();
    host.attended();
    until("ready again", || host.process().ready);
    assert_eq!(host.process().unready_since, None);
    host.stop().unwrap();
}

#[test]
fn a_readiness_probe_of_commands_and_of_files_is_asked_all_the_time() {
    for config in [script(), files("")] {
        let up = exec(&["test", "-e", "../../shared/up"]);
        let host = Host::new();
        fs::create_dir_all(host.folder.shared()).unwrap();
        fs::write(host.folder.shared().join("up"), "").unwrap();
        host.run_v1(Configuration { readiness: Some(up), ..config });
        host.attended();
        fs::remove_file(host.folder.shared().join("up")).unwrap();
        until("not ready", || !host.process().ready);
        let seen = host.process();
        assert!(seen.unready_since.is_some() && seen.probe_failure.unwrap().contains("exit status 1"));
        assert_eq!(seen.state, ProcessState::Running);
        fs::write(host.folder.shared().join("up"), "").unwrap();
        until("ready again", || host.process().ready);
        host.stop().unwrap();
        until("its watcher is gone", || host.keeper().is_none());
    }
}

#[test]
fn a_stop_command_that_fails_keeps_no_later_version_away() {
    for (stop, says) in [("echo no pid file; exit 3", "exit status 3"), ("setsid sleep 1000", "not done within 3 s")] {
        let host = Host::with_v1(with(|script| {
            script.stop = sh(stop);
            script.stop_timeout_seconds = Some(3);
        }));
        let remark = host.stopped().unwrap();
        assert!(remark.contains(says), "{remark}");
        assert!(host.log().contains(&remark), "{}", host.log());
        assert_eq!(host.process().state, ProcessState::Stopped);
        assert!(host.living().is_empty());
        let stops = format!("{}.stop", host.state().instance);
        assert!(landfall_host::process::marked(&stops).is_empty(), "what a stop command left");
    }
}

fn what_still_runs_is_told(stop: &str, says: &str) {
    // Nothing here is proved to be the application's.
    let host = Host::with_v1(with(|script| {
        script.start = sh("touch ../../shared/data/elsewhere");
        script.status = sh("test -e ../../shared/data/elsewhere");
        script.stop = sh(stop);
        script.stop_timeout_seconds = Some(3);
    }));
    let failure = host.stop().unwrap_err();
    assert_eq!(failure.reason, Reason::StopFailed);
    assert!(failure.why.contains(says) && failure.why.contains("runs"), "{failure:?}");
    assert_eq!(host.process().state, ProcessState::Running);
    let v2 = start(&host.release("v2", "true"), script());
    assert_eq!(host.start(&v2).unwrap_err().reason, Reason::StartFailed);
    fs::remove_file(host.data("elsewhere")).unwrap();
    host.stopped();
    assert_eq!(host.process().state, ProcessState::Stopped);
}

#[test]
fn what_still_runs_after_its_stop_command_is_told_and_nothing_is_started_beside_it() {
    what_still_runs_is_told("true", "still runs, as its status command says");
}

#[test]
fn what_still_runs_after_a_stop_command_that_failed_is_told_with_both() {
    what_still_runs_is_told("echo is locked; exit 1", "exit status 1");
}

fn what_may_still_run_is_told(stop: &str, says: &str) {
    // Nothing here is proved to be the application's.
    let host = Host::with_v1(with(|script| {
        script.start = sh("true");
        script.status = sh("test ! -e ../../shared/data/mute || exit 127; test ! -e ../../shared/data/down");
        script.stop = sh(stop);
        script.stop_timeout_seconds = Some(1);
    }));
    fs::write(host.data("mute"), "").unwrap();
    let failure = host.stop().unwrap_err();
    assert_eq!(failure.reason, Reason::StopFailed);
    assert!(failure.why.contains(says) && failure.why.contains("exit status 127"), "{failure:?}");
    assert_eq!(host.process().state, ProcessState::Running);
    fs::remove_file(host.data("mute")).unwrap();
    fs::write(host.data("down"), "").unwrap();
    host.stopped();
    assert_eq!(host.process().state, ProcessState::Stopped);
}

#[test]
fn a_stop_after_which_the_status_command_has_no_answer_is_not_done() {
    what_may_still_run_is_told("true", "its status command has no answer");
}

#[test]
fn a_stop_that_fails_without_an_answer_of_the_status_command_is_told_with_both() {
    what_may_still_run_is_told("exit 3", "exit status 3; whether");
}

#[test]
fn a_status_command_that_never_answered_keeps_no_later_version_away() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    host.switch(&release);
    host.start(&start(&release, with(|script| script.status = sh("exit 127")))).unwrap();
    assert_eq!(host.stopped(), None);
    assert_eq!(host.process().state, ProcessState::Stopped);
    assert!(host.living().is_empty());
}

#[test]
fn what_a_command_prints_that_is_asked_is_not_told_where_it_can_not_be_masked() {
    for keeps in [false, true] {
        let mut host = Host::new();
        host.secrets.0.insert("db/key".to_owned(), "hunter2-word".into());
        let mut config = with(|script| {
            script.start = sh("echo $KEY >../../shared/data/said");
            script.status = sh("cat ../../shared/data/said; test ! -e ../../shared/data/down");
        });
        config.env.push(EnvVar { name: "KEY".to_owned(), value: EnvValue::Secret("db/key".to_owned()) });
        config.keep_secrets_on_host = keeps;
        host.run_v1(config);
        fs::write(host.data("down"), "").unwrap();
        let seen = host.process();
        assert_eq!(seen.state, ProcessState::Ended);
        let line = seen.last_end.unwrap().lines.remove(0);
        assert!(line.contains("exit status 1") && !line.contains("hunter2"), "{line}");
        assert_eq!(line.ends_with("***"), keeps, "{line}");
    }
}

#[test]
fn a_reload_that_a_reboot_cut_off_is_of_the_boot_before() {
    let host = Host::with_v1(files("true"));
    let mut record = host.state();
    record.booted = Some("earlier".to_owned());
    record.phase = Phase::Ended;
    (record.was_ready, record.ready_since) = (false, None);
    record.write(&host.folder).unwrap();
    let seen = host.process();
    assert_eq!((seen.state, seen.boot_id.as_str()), (ProcessState::Ended, "earlier"));
    host.run_v1(files("true"));
    assert_eq!(host.process().state, ProcessState::Running);
}

#[test]
fn a_start_that_hangs_or_fails_leaves_nothing_and_prints_no_more_than_the_log_takes() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    host.switch(&release);
    let mut config = with(|script| {
        script.start = sh("setsid sleep 1000 & (setsid sleep 1001 &); timeout 0.5 yes; echo $KEY; sleep 1000");
        script.timeout_seconds = 3;
    });
    config.log = LogLimits { max_bytes: 64 << 10, files: 1 };
    config.env.push(EnvVar { name: "KEY".to_owned(), value: EnvValue::Secret("db/key".to_owned()) });
    let mut host = host;
    host.secrets.0.insert("db/key".to_owned(), "hunter2-word".into());
    let failure = host.start(&start(&release, config.clone())).unwrap_err();
    assert!(failure.why.contains("not done within 3 s"), "{}", failure.why);
    assert!(host.living().is_empty());
    assert_eq!(failure.lines.last().unwrap(), "***");
    assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    let bytes: u64 = (0..3).filter_map(|file| fs::metadata(host.folder.log(file)).ok()).map(|file| file.len()).sum();
    // It printed until it was ended.
    assert!(bytes < 256 << 20, "{bytes}");
    // One that looks has no value of it, and says nothing that may have one in it.
    let Runtime::Script(script) = &mut config.runtime else { unreachable!() };
    script.start = sh("test -n \"$KEY\"; setsid ./run >/dev/null 2>&1 & echo $! >../../shared/data/pid");
    script.status = sh("test -z \"$KEY\" || exit 9; grep -q '^State:.[^Z]' /proc/$(cat ../../shared/data/pid)/status");
    script.stop = sh("echo sa''id $KEY; exit 7");
    host.start(&start(&release, config)).unwrap();
    host.wait_ready().unwrap();
    let remark = host.stopped().unwrap();
    assert!(remark.contains("exit status 7") && !remark.contains("said"), "{remark}");
}

#[test]
fn files_that_are_served_from_elsewhere_are_seen_and_started_again() {
    let host = Host::with_v1(files("echo reloaded $LANDFALL_INSTANCE"));
    let before = host.process();
    assert!(before.ready && before.start > 0);
    host.switch(&host.release("v2", "true"));
    let seen = host.process();
    assert_eq!((seen.state, seen.was_ready), (ProcessState::Ended, true));
    let lines = seen.last_end.unwrap().lines;
    assert!(lines[0].starts_with("landfall: found changed: current points at v2-"), "{lines:?}");
    host.stop().unwrap();
    host.run_v1(files("echo reloaded $LANDFALL_INSTANCE"));
    assert_ne!(host.process().start, before.start);
    assert_eq!(host.log().matches("reloaded").count(), 2);
    fs::remove_file(host.folder.current()).unwrap();
    assert_eq!(host.process().state, ProcessState::Ended);
    assert!(host.keeper().is_none());
    runtime::attend(&host.folder, None).unwrap();
    assert!(host.keeper().is_none(), "nothing of it is asked");
}

#[test]
fn after_a_reboot_what_commands_started_is_down_and_files_are_not() {
    for (config, state) in [(script(), ProcessState::Ended), (files(""), ProcessState::Running)] {
        let host = Host::with_v1(config);
        let mut record = host.state();
        record.booted = Some("earlier".to_owned());
        record.write(&host.folder).unwrap();
        let seen = host.process();
        assert_eq!(
            (seen.state.clone(), seen.ready, seen.was_ready),
            (state.clone(), state == ProcessState::Running, true)
        );
        assert_eq!(seen.boot_id == "earlier", state == ProcessState::Ended);
        record.booted = Some(landfall_host::process::boot_id().to_owned());
        record.write(&host.folder).unwrap();
        host.stop().unwrap();
    }
}

#[test]
fn an_application_that_ends_while_it_is_waited_for_fails_at_once() {
    let host = Host::new();
    let mut config = Configuration { readiness: Some(exec(&["false"])), ..script() };
    let Runtime::Script(script) = &mut config.runtime else { unreachable!() };
    // It ends once it was seen to run.
    let Some(status) = script.status.last_mut() else { unreachable!() };
    status.push_str(" && touch ../../shared/data/seen");
    let release = host.release("v1", "until [ -e ../../shared/data/seen ]; do sleep 0.02; done");
    host.switch(&release);
    host.start(&start(&release, config)).unwrap();
    let failure = host.not_ready();
    assert_eq!(failure.reason, Reason::ProcessDied, "{failure:?}");
    assert!(failure.why.contains("as its status command says"), "{failure:?}");
    assert_eq!(host.process().state, ProcessState::Ended);
}

#[test]
fn what_a_stop_command_leaves_gets_its_signal_and_its_time() {
    let orderly = "trap 'sleep 0.2; echo orderly >../../shared/data/end; exit 0' USR1; while :; do sleep 0.05; done";
    let host = Host::new();
    let release = host.release("v1", orderly);
    host.switch(&release);
    let config = with(|script| {
        script.stop = vec!["true".to_owned()];
        script.leave = Stop { signal: "USR1".to_owned(), grace_seconds: 20, ..Stop::default() };
    });
    host.start(&start(&release, config)).unwrap();
    host.wait_ready().unwrap();
    assert_eq!(host.stopped(), None);
    assert_eq!(host.wait_for_data("end"), "orderly\n");
}

/// Dead after an effect is dead before the next one; the first one is tried both ways.
#[test]
fn commands_end_the_same_after_a_death_anywhere() {
    const PART: &str = "LANDFALL_TEST_PART";
    const ROOT: &str = "LANDFALL_TEST_ROOT";
    let name = "commands::commands_end_the_same_after_a_death_anywhere";
    let config = with(|script| {
        script.start = sh(
            "echo start >>../../shared/data/starts; setsid ./run </dev/null >/dev/null 2>&1 & echo $! >../../shared/data/pid",
        );
    });
    if let (Ok(part), Some(root)) = (std::env::var(PART), std::env::var_os(ROOT)) {
        let host = Host::at(root.as_ref());
        match part.as_str() {
            "start" => host.start(&start(&host.release("v1", "exec sleep 1000"), config)).unwrap(),
            _ => host.stop().unwrap(),
        }
        return std::mem::forget(host);
    }
    let host = Host::new();
    host.switch(&host.release("v1", "exec sleep 1000"));
    let gates = host.folder.root().join("gates");
    let act = |act: &str, point: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--test-threads=1"]).env(PART, act).env(ROOT, host.folder.root());
        command.env("LANDFALL_HOST_GATE_LOG", &gates).env("LANDFALL_HOST_KILL", point);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let died = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(died || output.status.success(), "{act} {point}: {said}");
        died
    };
    let points = |name: &str| {
        let _ = fs::remove_file(&gates);
        assert!(!act(name, ""));
        let log = fs::read_to_string(&gates).unwrap();
        let names: Vec<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
        let count = |at: usize| names[..=at].iter().filter(|name| **name == names[at]).count();
        let after = (0..names.len()).map(|at| format!("{}:{}:after", names[at], count(at)));
        std::iter::once(format!("{}:1:before", names[0])).chain(after).collect::<Vec<_>>()
    };
    let runs_once = |what: &str| {
        assert_eq!(host.process().state, ProcessState::Running, "{what}");
        until(&format!("{what}: one process"), || host.living().len() == 1);
    };
    let is_gone = |what: &str| {
        assert_eq!(host.process().state, ProcessState::Stopped, "{what}");
        assert!(host.living().is_empty(), "{what}");
    };
    // What only a first start makes is done.
    points("start");
    points("stop");
    let (starts, stops) = (points("start"), points("stop"));
    for gate in ["state.write", "log.begin", "script.start"] {
        assert!(starts.iter().any(|point| point.starts_with(gate)), "{gate}: {starts:?}");
    }
    assert!(stops.iter().any(|point| point.starts_with("script.stop")), "{stops:?}");
    for point in &starts {
        assert!(act("start", point), "{point}");
        // As every task of the operator does.
        assert!(!act("stop", ""));
        is_gone(point);
        let _ = fs::remove_file(host.data("starts"));
        assert!(!act("start", ""));
        runs_once(point);
        assert_eq!(fs::read_to_string(host.data("starts")).unwrap(), "start\n", "{point}");
        assert!(!act("stop", ""));
    }
    for point in &stops {
        assert!(!act("start", ""));
        assert!(act("stop", point), "{point}");
        assert!(!act("stop", ""));
        is_gone(point);
    }
}

#[test]
fn a_stop_command_whose_runner_died_is_ended_before_another_runs() {
    const ROOT: &str = "LANDFALL_TEST_ROOT";
    if let Some(root) = std::env::var_os(ROOT) {
        let host = Host::at(root.as_ref());
        let _ = host.stop();
        return std::mem::forget(host);
    }
    let host = Host::with_v1(with(|script| {
        script.stop = sh(
            "echo begun >>../../shared/data/stops; test -e ../../shared/data/quick || sleep 1000; kill $(cat ../../shared/data/pid)",
        );
    }));
    let root = host.folder.root().to_owned();
    // Who stops dies in the middle.
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = "commands::a_stop_command_whose_runner_died_is_ended_before_another_runs";
    child.args(["--exact", name, "--test-threads=1"]).env(ROOT, &root);
    let mut child = child.stdout(std::process::Stdio::null()).spawn().unwrap();
    let lines = || fs::read_to_string(host.data("stops")).unwrap_or_default();
    until("the stop command runs", || lines() == "begun\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let stops = format!("{}.stop", host.state().instance);
    let left =
        until_some("it lives on", || Some(landfall_host::process::marked(&stops)).filter(|left| !left.is_empty()));
    fs::write(host.data("quick"), "").unwrap();
    assert_eq!(host.stopped(), None);
    assert_eq!(lines(), "begun\nbegun\n");
    for process in left {
        assert!(matches!(landfall_host::process::find(&process), landfall_host::process::Found::Dead));
    }
}

#[test]
fn a_wait_ends_where_it_is_cancelled_whatever_the_status_command_does() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    host.switch(&release);
    host.start(&start(&release, with(|script| script.status = sh("exit 3")))).unwrap();
    let runtime = runtime::recorded(&host.folder);
    assert_eq!(runtime.wait_ready(&host.folder, PATIENCE, &|| true).unwrap(), Waited::Cancelled);
    let failure = runtime.wait_ready(&host.folder, Duration::from_millis(50), &|| false).unwrap_err();
    assert!(failure.why.contains("exit status 3"), "{failure:?}");
    host.stop().unwrap();
}

#[test]
fn a_session_puts_a_watcher_there_and_tells_the_end_unasked() {
    let host = Host::with_v1(script());
    let (mut client, welcome) = Client::greeted(host.folder.root());
    assert!(welcome.supports.contains(landfall_host_protocol::supports::RUNTIME_WATCHED));
    let told = welcome.facts.folders[host.folder.name()].process.clone().unwrap();
    assert_eq!((told.state, told.ready), (ProcessState::Running, true));
    let mut pushed = |what: &str, is: &dyn Fn(&FolderFacts) -> bool| loop {
        let Push::Folders { folders, .. } = client.push() else { panic!("another push: {what}") };
        let facts = folders.get(host.folder.name()).cloned().flatten();
        if let Some(facts) = facts.filter(|facts| is(facts)) {
            return facts;
        }
    };
    pushed("a watcher", &|facts| facts.keeper.is_some());
    kill(host.application(), Signal::KILL);
    let is_down = |facts: &FolderFacts| facts.process.as_ref().is_some_and(|found| found.state == ProcessState::Ended);
    let process = pushed("the end", &is_down).process.unwrap();
    assert!(process.was_ready && process.last_end.unwrap().lines[0].contains("found down"));
    host.stop().unwrap();
}
