//! Updates of real applications: what runs already is left alone, what can refuse refuses before anything stops.

use landfall_host::{facts, process::Stat};
use landfall_host_protocol::{
    Author, ConfigHash, EventKind, FolderFacts, Outcome, ProcessFacts, ProcessState, Reason, Start, Step, StepName,
};

use crate::support::{Host, TestRelease, configuration, example, sh, start_step, wait_for};

fn facts(host: &Host) -> FolderFacts {
    facts::folder(&host.folder).unwrap()
}

fn process(host: &Host) -> ProcessFacts {
    facts(host).process.unwrap()
}

fn update(host: &Host, release: &TestRelease, start: Start) -> Vec<Step> {
    vec![
        host.stage_step(release, None),
        Step::Stop,
        Step::Switch { release: release.name.clone() },
        Step::Start(Box::new(start)),
        Step::WaitReady { timeout_seconds: 60 },
        Step::MinReady { seconds: 0 },
        Step::Prune { keep: vec![], at_most: 2 },
    ]
}

#[test]
fn a_target_that_runs_is_left_alone_whatever_its_revision() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    let later = Start { revision: 7, ..start_step(&one) };
    let task = host.succeed(update(&host, &one, later));
    for step in [StepName::Stage, StepName::Stop, StepName::Switch, StepName::Start] {
        assert!(host.was_skipped(&task, step), "{step:?}");
    }
    assert_eq!((process(&host).pid, process(&host).start), (before.pid, before.start));

    let again = Start { redeploys: 1, ..start_step(&one) };
    host.succeed(update(&host, &one, again));
    assert_ne!(process(&host).start, before.start, "a redeploy starts it again");
}

#[test]
fn a_tampered_release_refuses_before_anything_stops() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    host.succeed(vec![host.stage_step(&two, None)]);
    std::fs::write(host.folder.release(&two.name).join("lib/version"), "v9.9").unwrap();
    let steps = update(&host, &two, start_step(&two)).split_off(1);
    host.fail(steps, StepName::Stop, Reason::ReleaseTampered);
    assert_eq!(process(&host).start, before.start);
}

#[test]
fn a_runtime_that_can_not_be_refuses_before_anything_stops() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    let mut start = start_step(&two);
    if let landfall_host_protocol::Runtime::Process(process) = &mut start.config.runtime {
        process.stop.signal = "NOSUCH".to_owned();
    }
    host.fail(update(&host, &two, start), StepName::Stop, Reason::HostUnsupported);
    assert_eq!(process(&host).start, before.start);
}

/// Not even one that lives.
fn never_ready() -> landfall_host_protocol::Probe {
    landfall_host_protocol::Probe {
        action: landfall_host_protocol::ProbeAction::TcpSocket { port: 1, host: None },
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 1,
        failure_threshold: 1000,
        success_threshold: 1,
    }
}

#[test]
fn an_application_that_dies_at_once_ends_the_update() {
    let host = Host::new();
    let one = example("v1.0");
    let mut start = start_step(&one);
    start.config = configuration(&["/bin/sh", "-c", "echo no database; exit 4"]);
    start.config.readiness = Some(never_ready());
    let failure = host.fail(update(&host, &one, start), StepName::WaitReady, Reason::ProcessDied);
    assert_eq!(failure.ended.and_then(|ended| ended.status), Some(4));
    assert!(failure.lines.iter().any(|line| line.contains("no database")), "{:?}", failure.lines);
}

#[test]
fn without_a_probe_what_dies_in_its_first_second_was_never_ready() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    let mut start = start_step(&one);
    start.config = configuration(&["/bin/sh", "-c", "sleep 0.3; echo no database; exit 4"]);
    let failure = host.fail(update(&host, &one, start), StepName::WaitReady, Reason::ProcessDied);
    assert_eq!(failure.ended.and_then(|ended| ended.status), Some(4));
    // What lives is ready a second after its start, however long the runner takes to come to its wait.
    let mut start = start_step(&two);
    start.config = configuration(&["/bin/sleep", "600"]);
    host.succeed(update(&host, &two, start));
    let process = process(&host);
    let lived = process.ready_since.map(|since| landfall_host::clock::uptime_millis() - since);
    assert!(lived.is_some_and(|lived| lived >= 1000), "{lived:?}");
}

/// A drain that writes down what it does, in a place that does not move.
fn noted_drain(host: &Host) -> Step {
    let note = |word: &str| sh(&format!("echo {word} >>{}", host.root.join("drains").display()));
    Step::Drain(landfall_host_protocol::Drain::Exec {
        command: note("drained"),
        undo: note("undone"),
        timeout_seconds: 60,
    })
}

fn drains(host: &Host) -> String {
    std::fs::read_to_string(host.root.join("drains")).unwrap_or_default().replace('\n', " ")
}

/// Ready as long as this file of the project is there.
fn ready_with(mut start: Start, file: &str) -> Start {
    start.config.readiness = Some(landfall_host_protocol::Probe {
        action: landfall_host_protocol::ProbeAction::Exec { command: sh(&format!("test -e ../../{file}")) },
        ..never_ready()
    });
    start
}

fn with_drain(host: &Host, mut steps: Vec<Step>) -> Vec<Step> {
    steps.insert(1, noted_drain(host));
    steps
}

#[test]
fn a_host_whose_new_application_dies_stays_drained_until_one_is_ready() {
    // F9b
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let mut start = start_step(&two);
    start.config = configuration(&["/bin/false"]);
    start.config.readiness = Some(never_ready());
    host.fail(with_drain(&host, update(&host, &two, start)), StepName::WaitReady, Reason::ProcessDied);
    assert_eq!(drains(&host), "drained ");
    assert!(facts(&host).drained && !landfall_host::task::is_undo_due(&host.folder));
    // A task that brings nothing up changes nothing of that.
    host.succeed(vec![Step::Settle { seconds: 0 }]);
    assert_eq!(drains(&host), "drained ");
    // Nor does one that drains again, and does not get far.
    host.fail(
        vec![noted_drain(&host), Step::Switch { release: two.name.clone() }, stopped_start(&one)],
        StepName::Start,
        Reason::StartFailed,
    );
    assert_eq!(drains(&host), "drained drained ");
    // One that comes up is brought back into service.
    host.succeed(update(&host, &one, start_step(&one)));
    assert_eq!(drains(&host), "drained drained undone ");
    assert!(!facts(&host).drained);

    // Of the task that drained itself nothing is undone.
    host.succeed(with_drain(&host, update(&host, &two, start_step(&two))));
    assert_eq!(drains(&host), "drained drained undone drained ");
    assert!(!facts(&host).drained);
}

/// A start that can't be: `current` points elsewhere.
fn stopped_start(release: &TestRelease) -> Step {
    Step::Start(Box::new(start_step(release)))
}

#[test]
fn a_host_whose_switch_fails_stays_drained() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    std::fs::remove_file(host.folder.current()).unwrap();
    std::fs::create_dir_all(host.folder.current().join("by-hand")).unwrap();
    let steps = with_drain(&host, update(&host, &two, start_step(&two)));
    let task = host.task(steps);
    host.begin(&task).unwrap();
    let Outcome::Failed(failure) = host.end_of(&task).outcome else { panic!("it did not fail") };
    assert_eq!(failure.step, StepName::Switch);
    assert_eq!((drains(&host).as_str(), facts(&host).drained), ("drained ", true));
    assert_eq!(process(&host).state, ProcessState::Stopped);
}

#[test]
fn a_host_whose_stop_fails_before_it_acts_is_brought_back() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    // The keeper can't be told.
    std::fs::create_dir_all(host.folder.dot().join("order/in-the-way")).unwrap();
    host.fail(with_drain(&host, update(&host, &two, start_step(&two))), StepName::Stop, Reason::StopFailed);
    assert_eq!((drains(&host).as_str(), facts(&host).drained), ("drained undone ", false));
    assert_eq!((process(&host).start, process(&host).ready), (before.start, true));
}

#[test]
fn a_drained_application_that_its_drain_made_unready_is_brought_back() {
    let host = Host::new();
    let one = example("v1.0");
    std::fs::create_dir_all(host.folder.path()).unwrap();
    std::fs::write(host.folder.path().join("serving"), "").unwrap();
    host.succeed(update(&host, &one, ready_with(start_step(&one), "serving")));
    let drain = Step::Drain(landfall_host_protocol::Drain::Exec {
        command: sh("rm ../../serving"),
        undo: sh("echo >../../serving"),
        timeout_seconds: 60,
    });
    let task = host.task(vec![drain, Step::Settle { seconds: 600 }]);
    host.begin(&task).unwrap();
    wait_for("the drain", || host.has_ended(&task, StepName::Drain).then_some(()));
    assert!(facts(&host).drained);
    landfall_host::task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
    assert!(host.folder.path().join("serving").exists() && !facts(&host).drained);
}

#[test]
fn an_application_that_died_drained_is_brought_back_once_it_is_ready() {
    let host = Host::new();
    let one = example("v1.0");
    std::fs::create_dir_all(host.folder.path()).unwrap();
    std::fs::write(host.folder.path().join("up"), "").unwrap();
    host.succeed(update(&host, &one, ready_with(start_step(&one), "up")));
    let task = host.task(vec![noted_drain(&host), Step::Settle { seconds: 600 }]);
    host.begin(&task).unwrap();
    wait_for("the drain", || host.has_ended(&task, StepName::Drain).then_some(()));
    std::fs::remove_file(host.folder.path().join("up")).unwrap();
    let pid = rustix::process::Pid::from_raw(process(&host).pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for("its end", || (process(&host).state != ProcessState::Running).then_some(()));
    landfall_host::task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
    assert_eq!((drains(&host).as_str(), facts(&host).drained), ("drained ", true));
    wait_for("its restart", || (process(&host).state == ProcessState::Running).then_some(()));
    assert_eq!(drains(&host), "drained ", "it runs, and is not ready");
    std::fs::write(host.folder.path().join("up"), "").unwrap();
    // By its keeper: nobody looks, and no task begins.
    wait_for("the undo", || (drains(&host) == "drained undone " && !facts(&host).drained).then_some(()));
}

#[test]
fn a_new_application_that_is_ready_too_late_is_brought_into_service_then() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let mut steps = with_drain(&host, update(&host, &two, ready_with(start_step(&two), "up")));
    steps[5] = Step::WaitReady { timeout_seconds: 0 };
    host.fail(steps, StepName::WaitReady, Reason::NotReady);
    assert_eq!((drains(&host).as_str(), facts(&host).drained), ("drained ", true));
    std::fs::write(host.folder.path().join("up"), "").unwrap();
    wait_for("the undo", || (drains(&host) == "drained undone " && !facts(&host).drained).then_some(()));
}

#[test]
fn a_runner_that_dies_between_stop_and_start_leaves_the_host_drained() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let task = host.task(vec![noted_drain(&host), Step::Stop, Step::Settle { seconds: 600 }]);
    host.begin(&task).unwrap();
    wait_for("the stop", || host.has_ended(&task, StepName::Stop).then_some(()));
    for pid in host.processes() {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
    }
    wait_for("the end of the runner", || (!landfall_host::task::is_running(&host.folder, &task.id)).then_some(()));
    assert!(!landfall_host::task::is_undo_due(&host.folder), "nobody tries that all the time");
    landfall_host::task::undo_lost(&host.folder).unwrap();
    assert_eq!((drains(&host).as_str(), facts(&host).drained), ("drained ", true));
    host.succeed(update(&host, &one, start_step(&one)));
    assert_eq!((drains(&host).as_str(), facts(&host).drained), ("drained undone ", false));
}

#[test]
fn configurations_of_applications_that_are_gone_go() {
    let host = Host::new();
    let one = example("v1.0");
    let with = |hash: &str, redeploys| {
        let mut start = start_step(&one);
        start.config.hash = ConfigHash::parse(hash).unwrap();
        Start { redeploys, ..start }
    };
    host.succeed(update(&host, &one, with("1:00000000", 0)));
    host.succeed(update(&host, &one, with("1:11111111", 0)));
    let names: Vec<_> =
        std::fs::read_dir(host.folder.dot().join("config")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["1-11111111"]);
}

#[test]
fn current_changed_by_hand_starts_nothing_else() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(vec![
        host.stage_step(&one, None),
        host.stage_step(&two, None),
        Step::Switch { release: one.name.clone() },
    ]);
    host.fail(vec![Step::Start(Box::new(start_step(&two)))], StepName::Start, Reason::StartFailed);
    assert_eq!(host.applications(), [0; 0]);
}

#[test]
fn a_runner_that_dies_leaves_the_application_alone() {
    let host = Host::new();
    let one = example("v1.0");
    let mut steps = update(&host, &one, start_step(&one));
    steps.truncate(5);
    steps.push(Step::MinReady { seconds: 600 });
    let task = host.task(steps);
    assert_eq!(host.begin(&task), Ok(false));
    wait_for("minReady", || (landfall_host::task::open(&host.folder)?.step == "minReady").then_some(()));
    let before = process(&host);
    for pid in host.processes() {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
    }
    // No keeper and no application holds the runner's lock.
    wait_for("the end of the runner", || (!landfall_host::task::is_running(&host.folder, &task.id)).then_some(()));
    assert!(Stat::read(before.pid).is_some_and(|stat| !stat.is_dead()));
    host.succeed(update(&host, &one, start_step(&one)));
    assert_eq!(process(&host).start, before.start);
}

fn kill_runner(host: &Host, task: &landfall_host_protocol::Task) {
    for pid in host.processes() {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
    }
    wait_for("the end of the runner", || (!landfall_host::task::is_running(&host.folder, &task.id)).then_some(()));
}

#[test]
fn the_time_of_min_ready_goes_on_in_the_task_of_the_next_operator() {
    const MILLIS: u64 = 2000;
    let host = Host::new();
    let one = example("v1.0");
    let mut steps = update(&host, &one, start_step(&one));
    steps[5] = Step::MinReady { seconds: 600 };
    let task = host.task(steps);
    host.begin(&task).unwrap();
    wait_for("minReady", || (landfall_host::task::open(&host.folder)?.step == "minReady").then_some(()));
    kill_runner(&host, &task);
    let since = process(&host).ready_since.unwrap();
    let uptime = landfall_host::clock::uptime_millis;
    wait_for("the time", || (uptime() - since >= MILLIS - 200).then_some(()));
    let mut steps = update(&host, &one, start_step(&one));
    steps[5] = Step::MinReady { seconds: u32::try_from(MILLIS / 1000).unwrap() };
    let task = host.succeed(steps);
    assert!(uptime() - since >= MILLIS);
    let at = |wanted: &EventKind| {
        let events = landfall_host::task::events(&host.folder, &task.id, 0).unwrap();
        let found = events.iter().find(|event| event.step == StepName::MinReady && &event.kind == wanted);
        found.unwrap().after_millis
    };
    assert!(at(&EventKind::Ended) - at(&EventKind::Begun) < MILLIS, "the time is not counted from zero");
    assert_eq!(process(&host).ready_since, Some(since));
}

#[test]
fn who_dies_within_min_ready_fails_the_task_and_is_started_again() {
    // As kubelet does; the operator decides what is to run here.
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let mut start = start_step(&two);
    // The first run dies once it was ready, the second stays.
    start.config = configuration(&[
        "/bin/sh",
        "-c",
        "echo >>../../runs; [ $(wc -l <../../runs) = 1 ] || exec sleep 1000; while [ ! -e ../../die ]; do sleep 0.01; done; exit 4",
    ]);
    let mut steps = update(&host, &two, start);
    steps[5] = Step::MinReady { seconds: 600 };
    let task = host.task(steps);
    host.begin(&task).unwrap();
    wait_for("minReady", || (landfall_host::task::open(&host.folder)?.step == "minReady").then_some(()));
    std::fs::write(host.folder.path().join("die"), "").unwrap();
    let Outcome::Failed(failure) = host.end_of(&task).outcome else { panic!("it did not fail") };
    assert_eq!((failure.step, failure.reason), (StepName::MinReady, Reason::ProcessDied));
    let now = wait_for("its restart", || Some(process(&host)).filter(|now| now.restarts == 1 && now.ready));
    assert_eq!((now.state, now.digest), (ProcessState::Running, two.digest.clone()));
    assert!(facts(&host).keeper.is_some());
    // The task that goes back stands its keeper down.
    host.succeed(update(&host, &one, start_step(&one)));
    assert_eq!(process(&host).digest, one.digest);
    assert_eq!(host.applications().len(), 1);
}

#[test]
fn a_drain_of_a_dead_runner_is_undone_by_the_keeper() {
    use landfall_host_protocol::Drain;
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    let drain = Step::Drain(Drain::Exec {
        command: sh("echo drained >>../../drains"),
        undo: sh("echo undone >>../../drains"),
        timeout_seconds: 60,
    });
    let task = host.task(vec![drain, Step::Settle { seconds: 600 }]);
    assert_eq!(host.begin(&task), Ok(false));
    wait_for("the drain", || (landfall_host::task::open(&host.folder)?.step == "settle").then_some(()));
    for pid in host.processes() {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
    }
    // Nobody looks, and no task begins.
    wait_for("the undo", || {
        let drains = std::fs::read_to_string(host.folder.path().join("drains")).ok()?;
        (drains == "drained\nundone\n" && landfall_host::task::open(&host.folder).is_none()).then_some(())
    });
    assert_eq!(process(&host).start, before.start);
}

#[test]
fn a_wait_for_readiness_can_be_cancelled() {
    use landfall_host_protocol::{Outcome, Probe, ProbeAction};
    let host = Host::new();
    let one = example("v1.0");
    let mut start = start_step(&one);
    start.config.readiness = Some(Probe {
        action: ProbeAction::Exec { command: vec!["/bin/false".to_owned()] },
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 5,
        failure_threshold: 1,
        success_threshold: 1,
    });
    let mut steps = update(&host, &one, start);
    steps[4] = Step::WaitReady { timeout_seconds: 600 };
    let task = host.task(steps);
    assert_eq!(host.begin(&task), Ok(false));
    wait_for("waitReady", || (landfall_host::task::open(&host.folder)?.step == "waitReady").then_some(()));
    landfall_host::task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
    assert_eq!(host.applications().len(), 1, "the application is left alone");
}

/// Answers each request with the next status; tells what was asked.
fn server(statuses: &'static [u16]) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let answer = |status: &u16| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let token =
                lines.map(Result::unwrap).take_while(|line| !line.is_empty()).find(|line| line.starts_with("X-Token"));
            write!(stream, "HTTP/1.1 {status} Words\r\nContent-Length: 0\r\n\r\n").unwrap();
            format!("{first} {}", token.unwrap_or_default())
        };
        statuses.iter().map(answer).collect()
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn a_drain_by_http_is_asked_once_and_undone() {
    use landfall_host_protocol::{Drain, HttpGet, HttpHeader, HttpScheme};
    let host = Host::new();
    let (port, asked) = server(&[204, 503, 200]);
    let request = |path: &str| HttpGet {
        port,
        path: path.to_owned(),
        scheme: HttpScheme::Http,
        host: None,
        headers: vec![HttpHeader { name: "X-Token".to_owned(), value: "plain".to_owned() }],
    };
    let drain = |undo| {
        Step::Drain(Drain::Http { request: request("/drain"), undo, method: "POST".to_owned(), timeout_seconds: 60 })
    };
    host.succeed(vec![drain(None)]);
    let failure = host.fail(vec![drain(Some(request("/undrain")))], StepName::Drain, Reason::DrainFailed);
    assert!(failure.why.contains("503"), "{}", failure.why);
    let drained = "POST /drain HTTP/1.1 X-Token: plain";
    assert_eq!(asked.join().unwrap(), [drained, drained, "POST /undrain HTTP/1.1 X-Token: plain"]);
}

#[test]
fn a_drain_by_https_is_asked_and_undone() {
    use landfall_host_protocol::{Drain, HttpGet, HttpScheme};
    let host = Host::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = crate::tls::config(rustls::ALL_VERSIONS);
    let asked = std::thread::spawn(move || {
        let answer = |status: u16| {
            let mut asked = String::new();
            let connection = listener.accept().unwrap().0;
            crate::tls::serve(&config, connection, |request, _| {
                asked = request.lines().next().unwrap().to_owned();
                format!("HTTP/1.1 {status} X\r\n\r\nwhat was said")
            })
            .unwrap();
            asked
        };
        [204, 302, 200].map(answer)
    });
    let request = |path: &str| HttpGet {
        port,
        path: path.to_owned(),
        scheme: HttpScheme::Https,
        host: Some("localhost".to_owned()),
        headers: vec![],
    };
    let drain = |undo| {
        Step::Drain(Drain::Http { request: request("/drain"), undo, method: "PUT".to_owned(), timeout_seconds: 60 })
    };
    host.succeed(vec![drain(None)]);
    let failure = host.fail(vec![drain(Some(request("/undrain")))], StepName::Drain, Reason::DrainFailed);
    assert!(failure.why.contains("302"), "{}", failure.why);
    assert_eq!(asked.join().unwrap(), ["PUT /drain HTTP/1.1", "PUT /drain HTTP/1.1", "PUT /undrain HTTP/1.1"]);

    let impossible = drain(Some(request("/with a blank")));
    let failure = host.fail(vec![impossible], StepName::Drain, Reason::DrainFailed);
    assert!(failure.why.contains("/with a blank"), "a drain without an undo is not begun: {}", failure.why);
}

#[test]
fn a_folder_whose_application_is_on_no_record_is_not_removed() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let (keeper, application) = (facts(&host).keeper.unwrap().pid, process(&host).pid);
    rustix::process::kill_process(rustix::process::Pid::from_raw(keeper).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    wait_for("the end of the keeper", || Stat::read(keeper).is_none_or(|stat| stat.is_dead()).then_some(()));
    std::fs::remove_file(host.folder.state()).unwrap();
    let failure = host.fail(vec![Step::Remove], StepName::Remove, Reason::LeftoverSuspected);
    assert!(failure.strangers.iter().any(|stranger| stranger.pid == application), "{failure:?}");
    assert!(host.folder.release(&one.name).is_dir());
}

#[test]
fn the_folder_of_a_running_application_is_not_replaced() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    std::fs::write(host.folder.release(&one.name).join("lib/version"), "v9.9").unwrap();
    std::fs::write(host.folder.release(&one.name).join("data"), "its own").unwrap();
    let failure = host.fail(vec![host.stage_step(&one, None)], StepName::Stage, Reason::ReleaseTampered);
    assert!(failure.why.contains("lib/version"), "{}", failure.why);
    assert_eq!(std::fs::read(host.folder.release(&one.name).join("data")).unwrap(), b"its own");
    assert_eq!(process(&host).start, before.start);

    host.succeed(vec![Step::Stop]);
    host.succeed(update(&host, &one, start_step(&one)));
    host.assert_whole(&one);
}

#[test]
fn a_cancel_between_stop_and_start_leaves_no_host_down() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let mut steps = update(&host, &one, Start { redeploys: 1, ..start_step(&one) });
    steps.insert(2, Step::Settle { seconds: 2 });
    let task = host.task(steps);
    host.begin(&task).unwrap();
    wait_for("the stop", || host.has_ended(&task, StepName::Stop).then_some(()));
    landfall_host::task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
    let now = process(&host);
    assert_eq!((now.state, now.redeploys), (ProcessState::Running, 1));
}

#[test]
fn what_a_person_did_is_told_until_a_task_acts_on_the_application() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let mut task = host.task(vec![Step::Stop]);
    task.author = Author::Hand { reason: "heat".to_owned(), user: None };
    host.begin(&task).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Succeeded);
    for _ in 0..2 {
        host.succeed(vec![host.stage_step(&two, None)]);
        assert_eq!(facts(&host).by_hand.map(|act| act.reason).as_deref(), Some("heat"));
    }
    host.succeed(update(&host, &two, start_step(&two)));
    assert_eq!(facts(&host).by_hand, None);
}

/// A host whose application was killed while its keeper was stopped: nobody says what became of it.
fn with_stuck_keeper() -> (Host, TestRelease, rustix::process::Pid) {
    use rustix::process::{Pid, Signal, kill_process};
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(update(&host, &one, start_step(&one)));
    let keeper = Pid::from_raw(facts(&host).keeper.unwrap().pid).unwrap();
    kill_process(keeper, Signal::STOP).unwrap();
    let pid = process(&host).pid;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_for("its end", || Stat::read(pid).is_none_or(|stat| stat.is_dead()).then_some(()));
    (host, one, keeper)
}

#[test]
fn a_wait_for_a_keeper_that_is_stuck_can_be_cancelled() {
    let (host, one, keeper) = with_stuck_keeper();
    let mut steps = update(&host, &one, Start { redeploys: 1, ..start_step(&one) });
    steps.insert(1, Step::Settle { seconds: 600 });
    let task = host.task(steps);
    host.begin(&task).unwrap();
    wait_for("settle", || (landfall_host::task::open(&host.folder)?.step == "settle").then_some(()));
    landfall_host::task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
    let state = Stat::read(keeper.as_raw_nonzero().get()).unwrap().state;
    assert_eq!(state, 'T', "its keeper is left alone");
}

#[test]
fn a_keeper_that_is_stuck_is_waited_for_once_in_a_task() {
    let (mut host, one, _) = with_stuck_keeper();
    host.environment.push(("LANDFALL_HOST_PATIENCE_MILLIS", "300".to_owned()));
    let failure = host.fail(vec![Step::MinReady { seconds: 600 }], StepName::MinReady, Reason::ProcessDied);
    assert!(failure.why.contains("nobody saw how"), "{}", failure.why);
    let mut steps = update(&host, &one, Start { redeploys: 1, ..start_step(&one) });
    steps.insert(1, Step::Settle { seconds: 0 });
    host.succeed(steps);
    assert_eq!((process(&host).state, process(&host).redeploys), (ProcessState::Running, 1));
}

/// In the middle of an update its keeper goes on as a newer program, and then it and the runner are killed.
#[test]
fn an_application_outlives_keeper_and_runner_and_is_updated_after() {
    use rustix::process::{Pid, Signal, kill_process};
    let kill = |pid: i32| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let before = process(&host);
    let mut steps = update(&host, &two, start_step(&two));
    steps.insert(1, Step::Settle { seconds: 600 });
    host.begin(&host.task(steps)).unwrap();
    wait_for("settle", || (landfall_host::task::open(&host.folder)?.step == "settle").then_some(()));

    let newer = host.root.parent().unwrap().join("newer");
    std::fs::copy(env!("CARGO_BIN_EXE_landfall-host"), &newer).unwrap();
    assert!(landfall_host::keeper::upgrade(&host.folder, &newer, crate::support::PATIENCE).unwrap());
    let keeper = facts(&host).keeper.unwrap();
    assert!(keeper.parent);
    host.processes().into_iter().for_each(kill);
    kill(keeper.pid);
    wait_for("the end of both", || (host.processes().is_empty() && facts(&host).keeper.is_none()).then_some(()));
    let now = process(&host);
    assert_eq!((now.pid, now.start, now.state), (before.pid, before.start, ProcessState::Running));

    host.succeed(update(&host, &two, start_step(&two)));
    assert_eq!(process(&host).release, two.name);
    assert_eq!(host.applications().len(), 1);
}

/// Its keeper and its first process are killed: a child alone is left.
fn kill_all_but_a_child(host: &Host) -> i32 {
    use rustix::process::{Pid, Signal, kill_process};
    let now = facts(host);
    let leader = now.process.unwrap().pid;
    let child = wait_for("its child", || host.applications().into_iter().find(|pid| *pid != leader));
    for pid in [now.keeper.unwrap().pid, leader] {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait_for("its end", || Stat::read(pid).is_none_or(|stat| stat.is_dead()).then_some(()));
    }
    child
}

/// R3
#[test]
fn children_of_a_dead_leader_outlive_neither_an_update_nor_a_removal() {
    let host = Host::new();
    let forks = |version| {
        let script = format!("#!/bin/sh\n: {version}\nsleep 1000 &\nexec sleep 1001\n");
        crate::support::release(version, &[("bin/run", 0o755, &script)])
    };
    let (one, two) = (forks("v1.0"), forks("v2.0"));
    host.succeed(update(&host, &one, start_step(&one)));
    let child = kill_all_but_a_child(&host);
    assert_eq!(host.applications(), [child]);
    host.succeed(update(&host, &two, start_step(&two)));
    assert!(!host.applications().contains(&child));
    let child = kill_all_but_a_child(&host);
    assert_eq!(host.applications(), [child]);
    host.succeed(vec![Step::Remove]);
    assert!(Stat::read(child).is_none_or(|stat| stat.is_dead()));
    assert!(host.applications().is_empty() && !host.folder.path().exists());
}

#[test]
fn a_clock_that_is_wrong_by_years_decides_nothing() {
    let mut host = Host::new();
    let decade: i64 = 315_360_000;
    let versions = ["v1.0", "v2.0", "v3.0"].map(example);
    for (version, wrong_by) in versions.iter().zip([0, decade, -6 * decade]) {
        host.environment = vec![("LANDFALL_HOST_CLOCK_WRONG_BY", wrong_by.to_string())];
        let mut steps = update(&host, version, start_step(version));
        steps[5] = Step::MinReady { seconds: 1 };
        let task = host.succeed(steps);
        assert_eq!(process(&host).release, version.name, "wrong by {wrong_by} s");
        // What was done last is the last, whenever it says that it was.
        assert_eq!(facts(&host).journal, task.id.n + 2);
        assert!(host.folder.release(&version.name).exists());
    }
    let kept: Vec<_> = landfall_host::steps::staged::list(&host.folder).into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept, [versions[1].name.clone(), versions[2].name.clone()], "what runs and the one before it");
    host.succeed(vec![Step::Remove]);
}
