//! What an application, another user or a machine that fails can do to a keeper and a runner: it harms nobody else.

use std::time::Duration;

use landfall_host::{keeper::Phase, runtime};
use landfall_host_protocol::{EnvValue, EnvVar, ProcessState};
use rustix::process::Signal;

use crate::{
    host::{Host, exec, process, start},
    support::{PATIENCE, until},
};

#[test]
fn a_probe_that_lacks_a_secret_value_is_no_failure() {
    let mut host = Host::new();
    host.secrets.0.insert("db".to_owned(), "hunter2".to_owned());
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
