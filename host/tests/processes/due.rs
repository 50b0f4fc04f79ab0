//! What is due is done, whatever hangs: a probe that is not answered, an application that takes its time to end.

use std::fs;

use landfall_host::keeper::Phase;
use landfall_host_protocol::{Configuration, LogLimits, Probe, ProbeAction, ProcessState, StopTo};
use rustix::process::Signal;

use crate::{
    host::{Host, exec, free_port, http, process, start, with_stop},
    support::{kill, until},
};

/// Longer than a test is patient.
const LONG: u32 = 600;

/// A command that says that it was asked, and hangs.
fn hanging() -> Probe {
    Probe { timeout_seconds: LONG, ..exec(&["sh", "-c", "echo $$ >>../../shared/data/asked; exec sleep 1000"]) }
}

/// An application that prints some 20 MB a second.
fn printing(host: &Host, before: &str, mut config: Configuration) -> landfall_host::process::Identity {
    let script = format!(
        "{before}echo up >../../shared/data/up; while :; do head -c 200000 /dev/zero | tr '\\0' x; sleep 0.005; done"
    );
    config.log = LogLimits { max_bytes: 64 << 10, files: 2 };
    let application = host.started(&start(&host.release("v1", &script), config));
    host.wait_for_data("up");
    application
}

/// The log is cut while it is written to, again and again.
fn is_rotated(host: &Host) {
    let (mut length, mut cuts) = (0, 0);
    until("it was cut three times", || {
        let now = fs::metadata(host.folder.log(0)).map_or(0, |metadata| metadata.len());
        cuts += u32::from(now < length);
        length = now;
        cuts >= 3
    });
}

#[test]
fn a_log_is_rotated_beside_a_command_that_hangs() {
    // F10b
    let host = Host::new();
    let mut config = process(&["./run"]);
    config.readiness = Some(hanging());
    printing(&host, "", config);
    host.wait_for_data("asked");
    is_rotated(&host);
    assert_eq!(fs::read_to_string(host.data("asked")).unwrap().lines().count(), 1, "the first try goes on");
    // What is to be stopped waits for no probe.
    host.stop().unwrap();
    assert!(host.living().is_empty());
}

#[test]
fn a_log_is_rotated_beside_a_request_that_nobody_answers() {
    let host = Host::new();
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut config = process(&["./run"]);
    config.liveness = Some(Probe { timeout_seconds: LONG, ..http(port, "/") });
    printing(&host, "", config);
    let asked = listener.accept().unwrap();
    is_rotated(&host);
    host.stop().unwrap();
    drop(asked);
}

#[test]
fn a_log_is_rotated_while_its_application_takes_its_time_to_end() {
    let host = Host::new();
    let application = printing(&host, "trap '' TERM; ", with_stop(process(&["./run"]), StopTo::Main, LONG));
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| host.stop());
        until("it is told to end", || host.folder.dot().join("order").exists());
        is_rotated(&host);
        assert!(!stop.is_finished());
        for process in landfall_host::process::session_members(application.pid) {
            kill(process.pid, Signal::KILL);
        }
        stop.join().unwrap().unwrap();
    });
}

#[test]
fn a_probe_that_hangs_keeps_no_other_from_being_asked() {
    let host = Host::new();
    let mut config = process(&["./run"]);
    let text = "test -e ../../shared/data/hang || exit 0; echo $$ >>../../shared/data/asked; exec sleep 1000";
    config.readiness = Some(Probe { timeout_seconds: LONG, ..exec(&["sh", "-c", text]) });
    config.liveness = Some(exec(&["sh", "-c", "! test -e ../../shared/data/ill"]));
    let release = host.release("v1", "exec sleep 1000");
    host.started(&start(&release, config.clone()));
    host.wait_ready().unwrap();
    fs::write(host.data("hang"), "").unwrap();
    host.wait_for_data("asked");
    fs::write(host.data("ill"), "").unwrap();
    until("it is seen not to live", || host.state().restarts == 1);
    host.stop().unwrap();
    assert!(host.living().is_empty());

    // The other way round.
    fs::remove_file(host.data("asked")).unwrap();
    config.liveness = Some(hanging());
    config.readiness = Some(exec(&["sh", "-c", "! test -e ../../shared/data/unready"]));
    host.started(&start(&release, config));
    host.wait_ready().unwrap();
    host.wait_for_data("asked");
    fs::write(host.data("unready"), "").unwrap();
    until("it is not ready any more", || !host.process().ready);
    assert_eq!(host.process().state, ProcessState::Running);
}

#[test]
fn the_end_of_an_application_is_seen_while_its_probe_hangs() {
    let host = Host::new();
    let mut config = process(&["./run"]);
    config.liveness = Some(hanging());
    let application = host.started(&start(&host.release("v1", "exec sleep 1000"), config));
    host.wait_for_data("asked");
    kill(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    // The try of the run before was ended with it, and the next one is made.
    until("it is asked again", || fs::read_to_string(host.data("asked")).unwrap().lines().count() == 2);
    let first: i32 = fs::read_to_string(host.data("asked")).unwrap().lines().next().unwrap().parse().unwrap();
    until("the first try is over", || landfall_host::process::Stat::read(first).is_none_or(|stat| stat.is_dead()));
}

/// A record that could not be written is written as soon as it can be.
#[test]
fn a_record_is_written_while_a_probe_hangs() {
    let name = "due::a_record_is_written_while_a_probe_hangs";
    if !crate::support::is_inner() {
        // The first is of the start, the second says that it is ready, or what its probe said first.
        return crate::support::run_again(name, &[], &[("LANDFALL_HOST_KILL", "keep/state.write:2:28")]);
    }
    let host = Host::new();
    let port = free_port();
    let mut config = crate::application::server(port, &host.folder.root().join("status"));
    config.readiness = Some(crate::host::probe(ProbeAction::TcpSocket { port, host: None }));
    config.liveness = Some(hanging());
    host.started(&start(&host.release("v1", "true"), config));
    host.wait_for_data("asked");
    host.wait_ready().unwrap();
}
