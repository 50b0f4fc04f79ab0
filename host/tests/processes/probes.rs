//! Probes of a living application, and whose socket it is that answers.

use std::fs;

use landfall_host_protocol::{EnvValue, EnvVar, HttpHeader, ProbeAction, ProcessState, Reason};
use rustix::process::Signal;

use crate::{
    application::server,
    host::{Host, exec, free_port, http, probe, process, start},
    support::{kill, until, until_some},
};

#[test]
fn what_a_probe_prints_is_told_without_secret_values() {
    let mut host = Host::new();
    host.secrets.0.insert("db".to_owned(), "hunter2hunter2".into());
    let mut config = process(&["sleep", "1000"]);
    config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("db".to_owned()) });
    config.readiness = Some(exec(&["sh", "-c", "echo login with $PASSWORD failed; exit 1"]));
    host.started(&start(&host.release("v1", "true"), config));
    let told = until_some("the refusal is told", || host.process().probe_failure.filter(|why| why.contains("login")));
    assert!(told.contains("login with *** failed"), "{told}");
}

#[test]
fn an_application_is_ready_as_long_as_it_says_so() {
    // U4, C7
    let host = Host::new();
    let status = host.folder.root().join("status");
    fs::write(&status, "503").unwrap();
    let port = free_port();
    let mut config = server(port, &status);
    config.readiness = Some(http(port, "/healthz"));
    let release = host.release("v1", "true");
    let application = host.started(&start(&release, config));
    until("the refusal is told", || {
        host.process()
            .probe_failure
            .is_some_and(|why| why.contains("answered with 503") && why.contains(&format!("Host: 127.0.0.1:{port}")))
    });
    assert!(!host.process().was_ready);
    fs::write(&status, "200").unwrap();
    host.wait_ready().unwrap();
    assert!(host.process().probe_failure.is_none());

    fs::write(&status, "500").unwrap();
    until("it is not ready any more", || !host.process().ready);
    let facts = host.process();
    assert_eq!((facts.state, facts.was_ready, facts.ready_since), (ProcessState::Running, true, None));
    assert!(facts.unready_since.is_some(), "it is told from one that was not ready yet");
    fs::write(&status, "301").unwrap();
    until("it is ready again", || host.process().ready);
    assert_eq!(host.process().unready_since, None);

    // Stopped by a signal, it lives and answers nobody.
    kill(application.pid, Signal::STOP);
    until("it is not ready any more", || !host.process().ready);
    assert_eq!(host.process().state, ProcessState::Running);
    assert_eq!(host.process().restarts, 0);
    host.stop().unwrap();
}

#[test]
fn the_host_header_of_the_configuration_is_sent() {
    // C11
    let host = Host::new();
    let status = host.folder.root().join("status");
    fs::write(&status, "400").unwrap();
    let port = free_port();
    let mut config = server(port, &status);
    let mut readiness = http(port, "/");
    if let ProbeAction::HttpGet(get) = &mut readiness.action {
        get.headers.push(HttpHeader { name: "Host".to_owned(), value: "shop.example.com".to_owned() });
    }
    config.readiness = Some(readiness);
    host.started(&start(&host.release("v1", "true"), config));
    until("the header is told and was sent", || {
        host.process().probe_failure.is_some_and(|why| {
            why.contains("(Host: shop.example.com) was answered with 400")
                && why.contains("I was asked: Host: shop.example.com")
        })
    });
}

#[test]
fn a_port_of_somebody_else_makes_nothing_ready() {
    let host = Host::new();
    let port = free_port();
    let other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut config = process(&["./run"]);
    config.readiness = Some(probe(ProbeAction::TcpSocket { port, host: None }));
    let start = start(&host.release("v1", "exec sleep 1000"), config);
    let own = std::process::id().cast_signed();

    // Before the start,
    let failure = host.start(&start).unwrap_err();
    assert_eq!(failure.reason, Reason::PortInUse);
    assert!(failure.strangers.iter().any(|stranger| stranger.pid == own), "{failure:?}");
    assert!(host.living().is_empty());

    // and while it is waited for.
    drop(other);
    host.started(&start);
    let _other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let failure = host.not_ready();
    assert_eq!(failure.reason, Reason::PortInUse);
    assert!(failure.why.contains("not this application"), "{}", failure.why);
    assert!(failure.strangers.iter().any(|stranger| stranger.pid == own), "{failure:?}");
    assert!(!host.process().was_ready);
}

#[test]
fn a_child_that_listens_makes_its_application_ready() {
    let host = Host::new();
    let port = free_port();
    let mut config = server(port, &host.folder.root().join("status"));
    // Below a shell, in a session of its own, with its parent gone.
    if let landfall_host_protocol::Runtime::Process(process) = &mut config.runtime {
        let words: Vec<String> = process.command.iter().map(|word| format!("'{word}'")).collect();
        let text = format!("(setsid {} &) ; while :; do sleep 0.1; done", words.join(" "));
        process.command = vec!["sh".to_owned(), "-c".to_owned(), text];
    }
    config.readiness = Some(probe(ProbeAction::TcpSocket { port, host: None }));
    host.started(&start(&host.release("v1", "true"), config));
    host.wait_ready().unwrap();
    host.stop().unwrap();
    assert!(host.living().is_empty());
}

#[test]
fn a_command_is_asked_in_the_release_with_the_applications_environment() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let mut config = crate::host::with_env(process(&["./run"]), "WORD", "open");
    config.readiness = Some(exec(&[
        "sh",
        "-c",
        "test -f run && test \"$WORD\" = open && test -e ../../shared/data/ready || { echo not yet; exit 7; }",
    ]));
    host.started(&start(&release, config));
    until("the refusal is told", || {
        host.process().probe_failure.is_some_and(|why| why.ends_with("exit status 7: not yet"))
    });
    fs::write(host.data("ready"), "").unwrap();
    host.wait_ready().unwrap();
}

fn is_ready_after_two_yes_in_a_row(mut config: landfall_host_protocol::Configuration) {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    // Yes, no, yes, yes.
    let mut readiness = exec(&[
        "sh",
        "-c",
        "cd ../../shared/data && echo >>asked && n=$(wc -l <asked) && [ $n != 2 ] || { echo at $n; exit 1; }",
    ]);
    readiness.success_threshold = 2;
    config.readiness = Some(readiness);
    host.start(&start(&release, config)).unwrap();
    host.wait_ready().unwrap();
    let facts = host.process();
    assert!(facts.ready && facts.probe_failure.is_none(), "{facts:?}");
    let asked = fs::read_to_string(host.data("asked")).unwrap();
    assert!(asked.lines().count() >= 4, "{asked}");
    host.stop().unwrap();
}

#[test]
fn a_process_that_must_answer_twice_in_a_row_is_not_ready_before() {
    is_ready_after_two_yes_in_a_row(process(&["./run"]));
}

#[test]
fn a_script_that_must_answer_twice_in_a_row_is_not_ready_before() {
    is_ready_after_two_yes_in_a_row(crate::contract::script());
}

#[test]
fn a_command_that_hangs_is_ended_with_all_it_started() {
    let host = Host::new();
    let release = host.release("v1", "exec sleep 1000");
    let mut readiness = exec(&["sh", "-c", "sleep 1234 & echo $! >>../../shared/data/asked; sleep 1235"]);
    readiness.timeout_seconds = 1;
    let mut config = process(&["./run"]);
    config.readiness = Some(readiness);
    host.started(&start(&release, config));
    until("it took too long", || host.process().probe_failure.is_some_and(|why| why.contains("not done within 1 s")));
    let first: i32 = fs::read_to_string(host.data("asked")).unwrap().lines().next().unwrap().parse().unwrap();
    until("its child is gone", || landfall_host::process::Stat::read(first).is_none_or(|stat| stat.is_dead()));
    // An order goes before a command that hangs.
    host.stop().unwrap();
    assert!(host.living().is_empty());
}

#[test]
fn an_application_that_is_not_live_is_started_again() {
    let host = Host::new();
    let release = host.release("v1", "rm -f ../../shared/data/ill; echo >../../shared/data/up; exec sleep 1000");
    let mut config = process(&["./run"]);
    config.liveness = Some(exec(&["sh", "-c", "! test -e ../../shared/data/ill"]));
    let first = host.started(&start(&release, config));
    host.wait_for_data("up");
    fs::write(host.data("ill"), "").unwrap();
    until("it was started again", || host.process().restarts == 1 && host.process().state == ProcessState::Running);
    let facts = host.process();
    assert_ne!(facts.pid, first.pid);
    let ended = facts.last_end.unwrap();
    assert_eq!(ended.signal.as_deref(), Some("TERM"));
    assert!(ended.lines.last().unwrap().contains("liveness probe failed"), "{ended:?}");
}

fn https(port: u16, host: Option<&str>) -> landfall_host_protocol::Probe {
    let mut probe = http(port, "/healthz");
    if let ProbeAction::HttpGet(get) = &mut probe.action {
        get.scheme = landfall_host_protocol::HttpScheme::Https;
        let header = |name: &str| HttpHeader { name: "Host".to_owned(), value: name.to_owned() };
        get.headers.extend(host.map(header));
    }
    probe
}

#[test]
fn readiness_by_https_takes_any_certificate_and_sends_the_name() {
    let host = Host::new();
    let status = host.folder.root().join("status");
    fs::write(&status, "503").unwrap();
    let port = free_port();
    let mut config = crate::host::with_env(server(port, &status), "TLS", "1");
    config.readiness = Some(https(port, Some("shop.example.com")));
    let start = start(&host.release("v1", "true"), config);
    landfall_host::runtime::of(&start.config).check(&host.folder, &start).unwrap();
    host.started(&start);
    until("the refusal is told, with the name", || {
        host.process().probe_failure.is_some_and(|why| {
            why.contains("was answered with 503")
                && why.contains("I was asked: Host: shop.example.com as shop.example.com")
        })
    });
    fs::write(&status, "204").unwrap();
    host.wait_ready().unwrap();
    fs::write(&status, "500").unwrap();
    until("it is not ready any more", || !host.process().ready);
    assert_eq!(host.process().restarts, 0);
}

#[test]
fn liveness_is_not_asked_before_the_application_is_ready() {
    let host = Host::new();
    let tries = host.data("tries");
    let mut config = process(&["sleep", "1000"]);
    config.readiness = Some(exec(&["sh", "-c", "echo >>../../shared/data/tries; test -e ../../shared/data/ready"]));
    let mut liveness = exec(&["false"]);
    liveness.failure_threshold = 1;
    config.liveness = Some(liveness);
    host.started(&start(&host.release("v1", "true"), config));
    until("readiness is asked again and again", || {
        fs::read_to_string(&tries).is_ok_and(|tries| tries.lines().count() > 5)
    });
    assert_eq!((host.process().state, host.process().restarts), (ProcessState::Running, 0));
    fs::write(host.data("ready"), "").unwrap();
    until("then it is", || host.process().last_end.is_some_and(|end| end.lines.join(" ").contains("liveness")));
    host.stop().unwrap();
}

#[test]
fn liveness_by_https_starts_an_ill_application_again() {
    let host = Host::new();
    let status = host.folder.root().join("status");
    fs::write(&status, "200").unwrap();
    let port = free_port();
    let mut config = crate::host::with_env(server(port, &status), "TLS", "1");
    config.readiness = Some(https(port, None));
    let mut liveness = https(port, None);
    liveness.failure_threshold = 2;
    config.liveness = Some(liveness);
    host.started(&start(&host.release("v1", "true"), config));
    host.wait_ready().unwrap();
    fs::write(&status, "500").unwrap();
    until("it is ended", || host.process().last_end.is_some());
    let ended = host.process().last_end.unwrap();
    assert!(ended.lines.last().unwrap().contains("(Host: 127.0.0.1:"), "{ended:?}");
    fs::write(&status, "200").unwrap();
    until("it was started again and is ready", || host.process().restarts == 1 && host.process().ready);
}

/// What one try of a probe by https comes to, of a server that does this with its connection.
fn asked_by_https(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> landfall_host::probe::Tried {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let probe = https(listener.local_addr().unwrap().port(), None);
    let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    let tried = landfall_host::probe::connect(&probe.action, std::time::Duration::from_secs(1), &[]);
    server.join().unwrap();
    tried
}

#[test]
fn servers_of_tls_1_2_and_1_3_are_asked() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tried = asked_by_https(move |connection| {
            crate::tls::serve(&crate::tls::config(&[version]), connection, |request, name| {
                // Of an address no name is sent.
                let fine = request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:") && name.is_none();
                format!("HTTP/1.1 {} X\r\n\r\n", if fine { 200 } else { 400 })
            })
            .unwrap();
        });
        assert_eq!(tried, landfall_host::probe::Tried::Yes, "{version:?}");
    }
}

#[test]
fn a_port_without_tls_and_a_mute_one_are_told_in_words() {
    use landfall_host::probe::Tried;
    use std::io::{Read as _, Write as _};
    let tried = asked_by_https(|mut connection| {
        let _ = connection.read(&mut [0; 4096]);
        let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    let Tried::No(why) = tried else { panic!("{tried:?}") };
    assert!(why.starts_with("TLS: ") && why.contains("does it speak https"), "{why}");
    // It takes the question, and says nothing.
    let tried = asked_by_https(|mut connection| while !matches!(connection.read(&mut [0; 4096]), Ok(0) | Err(_)) {});
    assert_eq!(tried, Tried::No("nothing was answered within 1 s".to_owned()));
    let tried = asked_by_https(drop);
    let Tried::No(why) = tried else { panic!("{tried:?}") };
    assert!(why.contains("closed") || why.contains("reset"), "{why}");
}

#[test]
fn who_dies_after_it_was_ready_fails_the_time_it_must_stay_so() {
    let host = Host::new();
    let release = host.release("v1", "sleep 0.7; echo last words; exit 4");
    host.started(&start(&release, process(&["./run"])));
    host.wait_ready().unwrap();
    let runtime = landfall_host::runtime::recorded(&host.folder);
    let failure = runtime.min_ready(&host.folder, std::time::Duration::from_secs(100), &|| false).unwrap_err();
    assert_eq!(failure.reason, Reason::ProcessDied);
    assert_eq!(failure.ended.unwrap().status, Some(4));
    assert_eq!(failure.lines, ["last words"]);
}

#[test]
fn the_time_that_it_is_ready_outlives_its_keepers() {
    let host = Host::new();
    let mut config = process(&["./run"]);
    let mut readiness = exec(&["true"]);
    readiness.success_threshold = 2;
    config.readiness = Some(readiness);
    host.started(&start(&host.release("v1", "exec sleep 1000"), config));
    host.wait_ready().unwrap();
    let since = host.process().ready_since.unwrap();
    let is_the_same = || {
        let facts = host.process();
        assert_eq!((facts.ready, facts.ready_since), (true, Some(since)));
    };
    let newer = host.folder.root().join("ab".repeat(32));
    fs::copy(env!("CARGO_BIN_EXE_landfall-host"), &newer).unwrap();
    assert!(landfall_host::keeper::upgrade(&host.folder, &newer, crate::support::PATIENCE).unwrap());
    is_the_same();
    kill(host.keeper().unwrap().identity().pid, Signal::KILL);
    until("the keeper is gone", || host.keeper().is_none());
    is_the_same();
    landfall_host::runtime::attend(&host.folder, None).unwrap();
    assert!(host.keeper().is_some());
    is_the_same();
    // Only the rest of the time is waited for.
    let gone = landfall_host::clock::uptime_millis() - since;
    let needed = std::time::Duration::from_millis(gone + 300);
    landfall_host::runtime::recorded(&host.folder).min_ready(&host.folder, needed, &|| false).unwrap();
    assert!(landfall_host::clock::uptime_millis() - since >= gone + 300);
    is_the_same();
}
