//! What every runtime keeps to. One function, run against each of them.

use std::time::Duration;

use landfall_host::runtime::Waited;
use landfall_host_protocol::{Configuration, ProcessState, Reason, Runtime, ScriptRuntime, StaticRuntime};

use crate::{
    host::{Host, process, start},
    support::until,
};

/// `configuration`: of an application of two versions that run until they are stopped.
pub fn keeps_the_contract(host: &Host, configuration: &Configuration) {
    let runtime = landfall_host::runtime::of(configuration);
    let first = start(&host.release("v1", "exec sleep 1000"), configuration.clone());

    // Nothing was ever started.
    assert_eq!(host.facts().process, None);
    runtime.check(&host.folder, &first).unwrap();
    runtime.stop(&host.folder).unwrap();

    // Started twice, it runs once.
    host.switch(&first.release);
    host.start(&first).unwrap();
    assert_eq!(runtime.wait_ready(&host.folder, crate::support::PATIENCE, &|| false).unwrap(), Waited::Reached);
    let facts = host.process();
    assert_eq!(facts.state, ProcessState::Running);
    assert!(facts.ready && facts.was_ready && facts.ready_since.is_some());
    assert_eq!((facts.release.clone(), facts.digest.clone()), (first.release.clone(), first.digest.clone()));
    assert_eq!((facts.config.clone(), facts.revision, facts.redeploys), (Some(configuration.hash.clone()), 1, 0));
    let living = host.living().len();
    host.start(&first).unwrap();
    let again = host.process();
    assert_eq!((again.pid, again.start, again.restarts), (facts.pid, facts.start, 0));
    assert_eq!(host.living().len(), living);
    assert_eq!(runtime.min_ready(&host.folder, Duration::from_millis(50), &|| false).unwrap(), Waited::Reached);
    assert_eq!(runtime.min_ready(&host.folder, Duration::from_secs(1000), &|| true).unwrap(), Waited::Cancelled);
    runtime.check(&host.folder, &first).unwrap();

    // Something else is not started beside it.
    let second = start(&host.release("v2", "exec sleep 1000"), configuration.clone());
    assert!(host.start(&second).is_err());
    assert_eq!(host.process().pid, facts.pid);

    // Stopped twice, it is stopped.
    runtime.stop(&host.folder).unwrap();
    let stopped = host.process();
    assert_eq!((stopped.state, stopped.ready, stopped.ready_since), (ProcessState::Stopped, false, None));
    until("nothing of it lives", || host.living().is_empty());
    runtime.stop(&host.folder).unwrap();
    assert_eq!(host.process().state, ProcessState::Stopped);
    assert!(runtime.wait_ready(&host.folder, crate::support::PATIENCE, &|| false).is_err());

    // And another version takes its place.
    host.switch(&second.release);
    host.start(&second).unwrap();
    runtime.wait_ready(&host.folder, crate::support::PATIENCE, &|| false).unwrap();
    let facts = host.process();
    assert_eq!((facts.state, facts.release), (ProcessState::Running, second.release));
    let facts = host.facts();
    assert!(facts.survivors.is_empty() && facts.suspected.is_empty(), "{facts:?}");
    runtime.stop(&host.folder).unwrap();
}

#[test]
fn a_process_below_a_keeper_keeps_the_contract() {
    keeps_the_contract(&Host::new(), &process(&["./run"]));
}

#[test]
fn without_pidfd_calls_a_process_keeps_the_contract() {
    if crate::support::is_inner() {
        return keeps_the_contract(&Host::new(), &process(&["./run"]));
    }
    let variables = [(landfall_host::process::WITHOUT_PIDFD, "1")];
    crate::support::run_again("contract::without_pidfd_calls_a_process_keeps_the_contract", &[], &variables);
}

/// An application that its own commands put into the background, and that forgets its environment only in part.
pub fn script() -> Configuration {
    let words = |text: &str| vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()];
    let pid = "../../shared/data/pid";
    Configuration {
        runtime: Runtime::Script(ScriptRuntime {
            start: words(&format!(
                "echo starting; setsid ./run </dev/null >/dev/null 2>&1 & echo $! >{pid}; sleep 0.1"
            )),
            stop: words(&format!("kill $(cat {pid}); rm {pid}")),
            // (Who adopts orphans may let a dead one wait.)
            status: words(&format!("kill -0 $(cat {pid}) && ! grep -q '^State:.Z' /proc/$(cat {pid})/status")),
            timeout_seconds: 30,
            stop_timeout_seconds: None,
            status_timeout_seconds: None,
            leave: Default::default(),
        }),
        ..process(&[])
    }
}

#[test]
fn what_commands_start_and_stop_keeps_the_contract() {
    keeps_the_contract(&Host::new(), &script());
}

#[test]
fn files_that_something_else_serves_keep_the_contract() {
    let reload = vec!["sh".to_owned(), "-c".to_owned(), "echo reloaded".to_owned()];
    let runtime = Runtime::Static(StaticRuntime { reload, timeout_seconds: 30 });
    let host = Host::new();
    keeps_the_contract(&host, &Configuration { runtime, ..process(&[]) });
    assert_eq!(host.log().matches("reloaded").count(), 2);
}

#[test]
fn files_that_are_served_since_before_a_reboot_were_ready_since_then() {
    let runtime = Runtime::Static(StaticRuntime { reload: Vec::new(), timeout_seconds: 30 });
    let host = Host::new();
    host.switch(&host.release("v1", "true"));
    host.start(&start(&host.release("v1", "true"), Configuration { runtime, ..process(&[]) })).unwrap();
    host.wait_ready().unwrap();
    let mut state = host.state();
    let in_time = || {
        let end = crate::support::now() + Duration::from_secs(5);
        let late = || crate::support::now() > end;
        let runtime = landfall_host::runtime::recorded(&host.folder);
        runtime.min_ready(&host.folder, Duration::from_millis(1), &late).unwrap()
    };
    // Of a boot that took longer than this one does.
    (state.booted, state.ready_since) = (Some("earlier".to_owned()), Some(u64::MAX / 2));
    state.write(&host.folder).unwrap();
    assert_eq!(host.process().ready_since, Some(0));
    assert_eq!(in_time(), Waited::Reached);
    // Nobody saw when.
    let mut state = host.state();
    state.ready_since = None;
    state.write(&host.folder).unwrap();
    assert_eq!(in_time(), Waited::Reached);
    assert!(host.process().ready_since.is_some());
}

#[test]
fn commands_that_fail_or_hang_are_told_with_their_words() {
    let host = Host::new();
    let words = |text: &str| vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()];
    let mut config = script();
    let Runtime::Script(script) = &mut config.runtime else { unreachable!() };
    script.timeout_seconds = 1;
    script.start = words("echo no such database; exit 3");
    let release = host.release("v1", "exec sleep 1000");
    let failure = host.start(&start(&release, config.clone())).unwrap_err();
    assert_eq!(failure.reason, Reason::StartFailed);
    assert!(failure.why.ends_with("exit status 3"), "{}", failure.why);
    assert_eq!(failure.lines.last().unwrap(), "no such database");
    assert_eq!(host.process().state, ProcessState::Ended);

    let Runtime::Script(script) = &mut config.runtime else { unreachable!() };
    script.start = words("sleep 1000 & sleep 1001");
    let failure = host.start(&start(&release, config.clone())).unwrap_err();
    assert!(failure.why.contains("not done within 1 s"), "{}", failure.why);
    assert!(host.living().is_empty());
}

#[test]
fn what_a_stop_command_leaves_is_ended_all_the_same() {
    let host = Host::new();
    let mut config = script();
    let Runtime::Script(script) = &mut config.runtime else { unreachable!() };
    script.stop = vec!["true".to_owned()];
    host.start(&start(&host.release("v1", "sleep 1000 & exec sleep 1001"), config)).unwrap();
    host.wait_ready().unwrap();
    until("both run", || host.living().len() == 2);
    host.stop().unwrap();
    assert!(host.living().is_empty());
    assert_eq!(host.process().state, ProcessState::Stopped);
}
