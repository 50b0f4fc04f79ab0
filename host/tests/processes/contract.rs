//! What every runtime keeps to. One function, run against each of them.

use std::time::Duration;

use landfall_host::runtime::Waited;
use landfall_host_protocol::{Configuration, ProcessState};

use crate::{
    host::{Host, process, start},
    support::until,
};

/// `configuration`: of an application of two versions that run until they are stopped.
fn keeps_the_contract(host: &Host, configuration: &Configuration) {
    let runtime = landfall_host::runtime::of(configuration);
    let first = start(&host.release("v1", "exec sleep 1000"), configuration.clone());

    // Nothing was ever started.
    assert_eq!(host.facts().process, None);
    runtime.check(&host.folder, &first).unwrap();
    runtime.stop(&host.folder).unwrap();

    // Started twice, it runs once.
    runtime.start(&host.folder, &first, &host.secrets).unwrap();
    assert_eq!(runtime.wait_ready(&host.folder, crate::support::PATIENCE, &|| false).unwrap(), Waited::Reached);
    let facts = host.process();
    assert_eq!(facts.state, ProcessState::Running);
    assert!(facts.ready && facts.was_ready && facts.ready_since.is_some());
    assert_eq!((facts.release.clone(), facts.digest.clone()), (first.release.clone(), first.digest.clone()));
    assert_eq!((facts.config.clone(), facts.revision, facts.redeploys), (Some(configuration.hash.clone()), 1, 0));
    let living = host.living().len();
    runtime.start(&host.folder, &first, &host.secrets).unwrap();
    let again = host.process();
    assert_eq!((again.pid, again.start, again.restarts), (facts.pid, facts.start, 0));
    assert_eq!(host.living().len(), living);
    assert_eq!(runtime.min_ready(&host.folder, Duration::from_millis(50), &|| false).unwrap(), Waited::Reached);
    assert_eq!(runtime.min_ready(&host.folder, Duration::from_secs(1000), &|| true).unwrap(), Waited::Cancelled);
    runtime.check(&host.folder, &first).unwrap();

    // Something else is not started beside it.
    let second = start(&host.release("v2", "exec sleep 1000"), configuration.clone());
    assert!(runtime.start(&host.folder, &second, &host.secrets).is_err());
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
    runtime.start(&host.folder, &second, &host.secrets).unwrap();
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
