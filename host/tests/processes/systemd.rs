//! Units on a booted systemd.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use landfall_host::runtime::Waited;
use landfall_host_protocol::{
    ConfigHash, Configuration, EnvValue, EnvVar, FolderFacts, LogLimits, Probe, ProcessState, Push, Reason,
    ReleaseName, RestartPolicy, RunAs, RunAsMethod, Runtime, Secrets, Stop, StopTo, SystemdRuntime,
};

use crate::{
    application,
    client::Client,
    contract::keeps_the_contract,
    host::{Host, digest, exec, free_port, http, process, start, with_env},
    machine::{Machine, PART, part},
    support::{run_again, until, until_some},
};

pub const UNIT: &str = "landfall-shop.web.service";

pub fn systemd(command: &[&str]) -> Configuration {
    let runtime = SystemdRuntime {
        unit: None,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        memory_max_bytes: None,
        restart_policy: RestartPolicy::Always,
        stop: Stop { signal: "TERM".to_owned(), to: StopTo::Main, grace_seconds: 20 },
    };
    Configuration { runtime: Runtime::Systemd(runtime), ..process(&[]) }
}

fn with(mut configuration: Configuration, change: impl FnOnce(&mut SystemdRuntime)) -> Configuration {
    let Runtime::Systemd(runtime) = &mut configuration.runtime else { unreachable!() };
    change(runtime);
    configuration
}

/// What a command says on this host; `Err`: it failed.
pub fn say(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn unit_file() -> std::path::PathBuf {
    Path::new("/etc/systemd/system").join(UNIT)
}

#[test]
fn a_unit_of_root_keeps_the_contract() {
    if part().is_some() {
        let host = Host::at(Path::new("/srv/landfall"));
        keeps_the_contract(&host, &systemd(&["./run"]));
        assert!(!unit_file().exists() && !unit_file().with_file_name("multi-user.target.wants").join(UNIT).exists());
        assert!(!host.folder.dot().join("unit.env").exists());
        assert_eq!(say(&["systemctl", "show", "-pLoadState", "--value", UNIT]).unwrap().trim(), "not-found");
        return;
    }
    Machine::boot("nobody").run("systemd::a_unit_of_root_keeps_the_contract", "root");
}

#[test]
fn a_unit_of_a_lingering_user_keeps_the_contract() {
    if part().is_some() {
        let host = Host::at(Path::new("/srv/deploy"));
        return keeps_the_contract(&host, &systemd(&["./run"]));
    }
    Machine::boot("deploy").run_as(
        "deploy",
        "2000",
        "systemd::a_unit_of_a_lingering_user_keeps_the_contract",
        "deploy",
    );
}

#[test]
fn an_administrators_unit_keeps_the_contract_by_sudo() {
    if part().is_some() {
        let host = Host::at(Path::new("/srv/deploy"));
        let config = with(systemd(&[]), |runtime| runtime.unit = Some("web.service".to_owned()));
        return keeps_the_contract(&host, &config);
    }
    let machine = Machine::boot("nobody");
    machine.sh(
        "cat >/etc/systemd/system/web.service <<E
[Service]
Type=exec
User=deploy
ExecStart=/bin/sleep 1000
EnvironmentFile=/srv/deploy/shop.web/.landfall/unit.env
E
systemctl daemon-reload
c=/usr/bin/systemctl
echo \"deploy ALL=(root) NOPASSWD: $c start web.service, $c stop web.service, $c show web.service\" >/etc/sudoers.d/deploy",
    );
    machine.run_as("deploy", "2000", "systemd::an_administrators_unit_keeps_the_contract_by_sudo", "deploy");
    assert!(machine.sh("cat /etc/systemd/system/web.service").contains("sleep 1000"), "it stays");
}

/// What an application of another user, with secret values, sees of itself.
#[test]
fn a_unit_has_its_user_environment_log_and_files() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::a_unit_has_its_user_environment_log_and_files", "root");
    }
    let mut host = Host::at(Path::new("/srv/landfall"));
    let odd = "a \"b\" $HOME %n \\ `x` 'y' # ;\nnext\tline";
    let mut config = with_env(systemd(&["./run", "$HOME %n", "a \"b\""]), "ODD", odd);
    config.run_as = Some(RunAs { method: RunAsMethod::Su, user: "deploy".to_owned() });
    config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("db".to_owned()) });
    let script = "umask 022; d=$PWD/../../shared/data
        { id -un; echo $HOME; printf '%s|' \"$1\" \"$2\" \"$ODD\" \"$PASSWORD\"; echo; pwd; } >$d/said; echo to the log; echo and this >&2; exec sleep 1000";
    let release = host.release("v1", script);
    let first = start(&release, config.clone());
    host.secrets = Secrets([("db".to_owned(), "hunter2 $x".into())].into());

    // Values that may not be kept are not written.
    let runtime = landfall_host::runtime::of(&config);
    let failure = runtime.check(&host.folder, &first).unwrap_err();
    assert_eq!(failure.reason, Reason::HostUnsupported);
    assert!(failure.why.contains("keepSecretsOnHost"), "{}", failure.why);
    assert!(host.start(&first).is_err());
    assert!(!unit_file().exists() && !host.folder.dot().join("unit.env").exists());

    config.keep_secrets_on_host = true;
    let first = start(&release, config);
    runtime.check(&host.folder, &first).unwrap();
    host.start(&first).unwrap();
    host.wait_ready().unwrap();
    let said = until_some("it said all", || {
        fs::read_to_string(host.data("said")).ok().filter(|said| said.ends_with(&format!("{release}\n")))
    });
    let folder = host.folder.release(&release);
    assert_eq!(said, format!("deploy\n/home/deploy\n$HOME %n|a \"b\"|{odd}|hunter2 $x|\n{}\n", folder.display()));
    until("both lines are in the log", || host.log().contains("to the log\n") && host.log().contains("and this\n"));
    assert!(host.log().starts_with("=== landfall starts v1-"));
    let environment = host.folder.dot().join("unit.env");
    assert_eq!(fs::metadata(&environment).unwrap().mode() & 0o777, 0o600);
    let unit = fs::read_to_string(unit_file()).unwrap();
    assert!(!unit.contains("hunter2") && !say(&["systemctl", "show", UNIT]).unwrap().contains("hunter2"));
    assert_eq!(fs::metadata(unit_file()).unwrap().mode() & 0o777, 0o644);
    host.stop().unwrap();
    assert!(!environment.exists(), "no longer than it runs");
}

/// systemd gives the application's environment to all commands of a unit, and whoever wrote it names programs in it.
#[test]
fn nothing_of_a_unit_has_more_rights_than_its_application() {
    if part().is_none() {
        let name = "systemd::nothing_of_a_unit_has_more_rights_than_its_application";
        return Machine::boot("nobody").run(name, "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let release =
        host.release("v1", "until [ -e ../../shared/data/end ]; do sleep 0.02; done; rm ../../shared/data/end; exit 3");
    let folder = host.folder.release(&release);
    for program in ["id", "mv", "sh", "cat", "printf"] {
        let path = folder.join(program);
        fs::write(&path, format!("#!/bin/sh\n/usr/bin/id -u >>{}/shared/users\n", host.folder.path().display()))
            .unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut config = with_env(systemd(&["./run"]), "PATH", &path);
    config.run_as = Some(RunAs { method: RunAsMethod::Su, user: "deploy".to_owned() });
    host.start(&start(&release, config)).unwrap();
    host.wait_ready().unwrap();
    let users = host.folder.shared().join("users");
    fs::write(&users, "").unwrap();
    fs::set_permissions(&users, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    fs::write(host.data("end"), "").unwrap();
    until("it is started again", || host.process().restarts == 1 && host.process().state == ProcessState::Running);
    let users = fs::read_to_string(&users).unwrap();
    assert!(!users.lines().any(|user| user == "0"), "root ran what the application's owner named");
    // What its own command wrote, with its own rights.
    assert_eq!(host.process().last_end.unwrap().status, Some(3));
    host.stop().unwrap();
}

/// An OOM kill under cgroup version 1 here, whose count systemd does not read; what version 2 tells is in the tests of `ended.rs`.
#[test]
fn an_oom_kill_is_told_and_the_unit_started_again() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::an_oom_kill_is_told_and_the_unit_started_again", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let config = with(systemd(&["./run"]), |runtime| runtime.memory_max_bytes = Some(24 << 20));
    // It is ready, and eats when it is told to.
    let script = "cd ../../shared/data; until [ -e eat ]; do sleep 0.02; done; rm eat; x=a; while :; do x=$x$x; done";
    host.start(&start(&host.release("v1", script), config)).unwrap();
    host.wait_ready().unwrap();
    let first = host.process();
    assert_eq!((first.state.clone(), first.restarts, first.last_end.clone()), (ProcessState::Running, 0, None));
    // Under version 1 the kernel now and then counts a kill elsewhere: such an end is told as a plain KILL.
    let mut ended = None;
    for nth in 1..=5 {
        until("it runs", || host.process().state == ProcessState::Running);
        fs::write(host.data("eat"), "").unwrap();
        until("its end is told, and it runs again", || {
            let process = host.process();
            process.restarts == nth && process.state == ProcessState::Running
        });
        ended = host.process().last_end.filter(|ended| ended.out_of_memory);
        if ended.is_some() {
            break;
        }
    }
    let ended = ended.expect("one of five kills is told as such");
    assert_eq!((ended.status, ended.signal.as_deref()), (None, Some("KILL")));
    let words = ended.in_words();
    assert_eq!(words, "was killed by the kernel for lack of memory (OOM)");
    let again = host.process();
    assert_ne!((again.pid, again.start), (first.pid, first.start));
    assert_eq!((again.ready, again.was_ready), (true, true));
    host.stop().unwrap();
}

#[test]
fn a_unit_is_back_after_a_reboot_without_us() {
    let name = "systemd::a_unit_is_back_after_a_reboot_without_us";
    let Some(part) = part() else {
        let mut machine = Machine::boot("deploy");
        machine.run(name, "root start");
        machine.run_as("deploy", "2000", name, "deploy start");
        machine.reboot();
        machine.run(name, "root look");
        machine.run_as("deploy", "2000", name, "deploy look");
        return;
    };
    let (user, part) = part.split_once(' ').unwrap();
    let host = Host::at(Path::new(if user == "root" { "/srv/landfall" } else { "/srv/deploy" }));
    let started = host.folder.dot().join("started");
    if part == "start" {
        let release = host.release("v1", "echo $$ >>../../shared/data/starts; exec sleep 1000");
        host.start(&start(&release, systemd(&["./run"]))).unwrap();
        host.wait_ready().unwrap();
        host.wait_for_data("starts");
        fs::write(started, &host.process().boot_id).unwrap();
        // It goes on when its test has ended.
        return std::mem::forget(host);
    }
    until("it runs", || host.process().state == ProcessState::Running);
    let process = host.process();
    assert_ne!(process.boot_id, fs::read_to_string(started).unwrap());
    assert_eq!(process.boot_id, landfall_host::process::boot_id());
    assert!(process.ready && process.ready_since.is_some() && process.was_ready);
    assert_eq!((process.revision, process.restarts), (1, 0));
    until("it started once more", || fs::read_to_string(host.data("starts")).unwrap().lines().count() == 2);
    // The next update goes on from here.
    host.stop().unwrap();
    assert_eq!(host.process().state, ProcessState::Stopped);
}

#[test]
fn what_others_do_to_a_unit_is_told_and_left_alone() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::what_others_do_to_a_unit_is_told_and_left_alone", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let config = systemd(&["./run"]);
    let runtime = landfall_host::runtime::of(&config);
    let first = start(&host.release("v1", "exec sleep 1000"), config);
    let refused = |what: &str| {
        let failure = runtime.check(&host.folder, &first).unwrap_err();
        assert_eq!(failure.reason, Reason::HostUnsupported);
        assert!(failure.why.contains(what), "{}", failure.why);
        assert!(host.start(&first).is_err());
    };

    // A foreign unit of our name: loaded, running, or of another folder of ours.
    let foreign = "[Service]\nExecStart=/bin/sleep 1001\n";
    fs::write(unit_file(), foreign).unwrap();
    say(&["systemctl", "daemon-reload"]).unwrap();
    say(&["systemctl", "start", UNIT]).unwrap();
    refused("not a unit of this project");
    host.stop().unwrap();
    assert_eq!(say(&["systemctl", "is-active", UNIT]).unwrap().trim(), "active");
    say(&["systemctl", "stop", UNIT]).unwrap();
    refused("not a unit of this project");
    // (A start that was refused is on record; its stop touches nothing of others.)
    let _ = host.stop();
    assert_eq!(fs::read_to_string(unit_file()).unwrap(), foreign);
    fs::remove_file(unit_file()).unwrap();
    fs::create_dir_all("/usr/lib/systemd/system").unwrap();
    let packaged = Path::new("/usr/lib/systemd/system").join(UNIT);
    fs::write(&packaged, foreign).unwrap();
    say(&["systemctl", "daemon-reload"]).unwrap();
    assert!(runtime.check(&host.folder, &first).unwrap_err().why.contains("somebody else's"));
    fs::remove_file(packaged).unwrap();

    // Masked.
    say(&["systemctl", "mask", UNIT]).unwrap();
    refused("systemctl unmask");
    let _ = host.stop();
    assert!(unit_file().is_symlink(), "who masked it unmasks it");
    say(&["systemctl", "unmask", UNIT]).unwrap();

    // Stopped outside: told as by hand, and stopped it stays.
    runtime.check(&host.folder, &first).unwrap();
    host.start(&first).unwrap();
    host.wait_ready().unwrap();
    assert_eq!(host.facts().by_hand, None);
    say(&["systemctl", "stop", UNIT]).unwrap();
    let facts = host.facts();
    assert_eq!(facts.process.unwrap().state, ProcessState::Stopped);
    let by_hand = facts.by_hand.unwrap();
    assert_eq!(by_hand.act, "stop");
    assert!(by_hand.at_millis > 1_600_000_000_000, "{by_hand:?}");
    assert_eq!(host.facts().by_hand, Some(by_hand), "the same at every look");
    assert!(host.wait_ready().unwrap_err().why.contains("stopped by somebody else"));
    assert_eq!(say(&["systemctl", "is-active", UNIT]).unwrap_err().trim(), "inactive");
    say(&["systemctl", "start", UNIT]).unwrap();
    assert_eq!((host.process().state, host.facts().by_hand), (ProcessState::Running, None));

    // Edited: told before anything stops. It is ours all the same, and goes with its stop.
    let text = fs::read_to_string(unit_file()).unwrap();
    fs::write(unit_file(), text.replace("RestartSec=2", "RestartSec=9")).unwrap();
    let failure = runtime.check(&host.folder, &first).unwrap_err();
    assert!(failure.why.contains("edited by hand") && failure.why.contains("drop-in"), "{}", failure.why);
    assert_eq!(host.process().state, ProcessState::Running);
    // A drop-in is what is meant for that.
    fs::write(unit_file(), text).unwrap();
    let drop_in = unit_file().with_file_name(format!("{UNIT}.d"));
    fs::create_dir(&drop_in).unwrap();
    fs::write(drop_in.join("own.conf"), "[Service]\nNice=5\n").unwrap();
    runtime.check(&host.folder, &first).unwrap();
    host.stop().unwrap();
    assert!(!unit_file().exists() && drop_in.join("own.conf").exists());
}

#[test]
fn a_unit_that_does_not_come_up_is_told_and_taken_away() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::a_unit_that_does_not_come_up_is_told_and_taken_away", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let is_gone = || {
        assert!(!unit_file().exists());
        assert_eq!(say(&["systemctl", "is-active", UNIT]).unwrap_err().trim(), "inactive");
        assert!(host.living().is_empty());
    };

    let config = systemd(&["./missing"]);
    let failure = host.start(&start(&host.release("v1", "exec sleep 1000"), config)).unwrap_err();
    assert_eq!(failure.reason, Reason::StartFailed);
    assert!(failure.why.contains("can't be executed (203/EXEC)"), "{}", failure.why);
    is_gone();

    // It ends before it is ready for the first time.
    let port = free_port();
    let mut config = systemd(&["./run"]);
    config.readiness = Some(http(port, "/"));
    host.start(&start(&host.release("v2", "echo no database; exit 3"), config.clone())).unwrap();
    let failure = host.not_ready();
    assert_eq!(
        (failure.reason, failure.why.as_str()),
        (Reason::ProcessDied, "the application ended with exit status 3")
    );
    assert_eq!(failure.lines.last().unwrap(), "no database");
    is_gone();
    let process = host.process();
    assert_eq!((process.state, process.last_end.unwrap().status), (ProcessState::Ended, Some(3)));

    // Somebody else has its port, and somebody else answers there later.
    let other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let second = start(&host.release("v3", "exec sleep 1000"), config);
    assert_eq!(host.start(&second).unwrap_err().reason, Reason::PortInUse);
    drop(other);
    host.start(&second).unwrap();
    let _other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let _answers = answering(_other.try_clone().unwrap());
    assert_eq!(host.not_ready().reason, Reason::PortInUse);
    host.stop().unwrap();
    is_gone();
}

/// Answers every question with a yes, until the test ends.
fn answering(listener: std::net::TcpListener) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let _ = std::io::Read::read(&mut connection, &mut [0u8; 4096]);
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        }
    })
}

#[test]
fn a_unit_is_ready_when_it_answers_and_completed_when_it_is_done() {
    if part().is_none() {
        return Machine::boot("nobody")
            .run("systemd::a_unit_is_ready_when_it_answers_and_completed_when_it_is_done", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let port = free_port();
    let status = host.folder.path().join("status");
    let server = application::server(port, &status);
    let Runtime::Process(process) = &server.runtime else { unreachable!() };
    let words: Vec<&str> = process.command.iter().map(String::as_str).collect();
    let mut config = Configuration { env: server.env.clone(), ..systemd(&words) };
    config.readiness = Some(http(port, "/"));
    fs::write(&status, "503").unwrap();
    host.start(&start(&host.release("v1", ""), config)).unwrap();
    let runtime = landfall_host::runtime::recorded(&host.folder);
    let failure = runtime.wait_ready(&host.folder, Duration::from_secs(1), &|| false).unwrap_err();
    assert_eq!(failure.reason, Reason::NotReady);
    assert!(failure.why.contains("503") || failure.why.contains("refused"), "{}", failure.why);
    assert!(!host.process().ready);
    fs::write(&status, "200").unwrap();
    host.wait_ready().unwrap();
    assert!(host.process().ready);
    fs::write(&status, "500").unwrap();
    let failure = runtime.min_ready(&host.folder, Duration::from_secs(1000), &|| false).unwrap_err();
    assert!(failure.why.contains("was ready and is not any more"), "{}", failure.why);
    assert!(!host.process().ready);
    host.stop().unwrap();

    let done = with(systemd(&["./run"]), |runtime| runtime.restart_policy = RestartPolicy::OnFailure);
    host.start(&start(&host.release("v2", "exit 0"), done)).unwrap();
    host.wait_ready().unwrap();
    until("its work is done", || host.process().state == ProcessState::Completed);
    let process = host.process();
    assert!(process.ready && host.facts().by_hand.is_none());
    assert_eq!(process.last_end.and_then(|ended| ended.status), Some(0));
    host.stop().unwrap();
    assert_eq!(host.process().state, ProcessState::Stopped);
}

#[test]
fn a_stop_gives_the_grace_period_and_then_kills_all() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::a_stop_gives_the_grace_period_and_then_kills_all", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let config = with(systemd(&["./run"]), |runtime| {
        runtime.stop = Stop { signal: "INT".to_owned(), to: StopTo::Main, grace_seconds: 20 };
    });
    let script = "d=../../shared/data; trap 'echo asked >>$d/said; sleep 0.2; echo done >>$d/said; exit 0' INT; echo up >>$d/said
        while :; do sleep 0.05; done";
    host.start(&start(&host.release("v1", script), config.clone())).unwrap();
    host.wait_for_data("said");
    host.stop().unwrap();
    assert_eq!(fs::read_to_string(host.data("said")).unwrap(), "up\nasked\ndone\n");

    // It hears nothing, and neither does what left its session.
    let script = "trap '' TERM INT; setsid sh -c \"trap '' TERM INT; echo up >../../shared/data/child; while :; do sleep 1; done\" &
        while :; do sleep 1; done";
    let config = with(config, |runtime| runtime.stop.grace_seconds = 1);
    host.start(&start(&host.release("v2", script), config)).unwrap();
    host.wait_for_data("child");
    assert!(host.living().len() >= 2);
    host.stop().unwrap();
    assert!(host.living().is_empty());
    assert_eq!(say(&["systemctl", "is-failed", UNIT]).unwrap_err().trim(), "inactive", "nothing is listed as failed");
}

#[test]
fn who_may_not_have_a_unit_hears_what_is_missing() {
    let name = "systemd::who_may_not_have_a_unit_hears_what_is_missing";
    let Some(part) = part() else {
        let machine = Machine::boot("deploy");
        machine.sh(
            "printf '[Service]\nExecStart=/bin/sleep 1000\n' >/etc/systemd/system/web.service; systemctl daemon-reload",
        );
        machine.run_as("guest", "2001", name, "guest");
        machine.run_as("deploy", "2000", name, "deploy");
        machine.sh("rm /usr/bin/systemctl /bin/systemctl 2>/dev/null; ! command -v systemctl");
        machine.run_as("deploy", "2000", name, "deploy, without systemctl");
        // And where systemd does not run.
        let words = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"];
        return run_again(name, &words, &[(PART, "none")]);
    };
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    let release = host.release("v1", "exec sleep 1000");
    let refused = |config: Configuration| {
        let runtime = landfall_host::runtime::of(&config);
        let first = start(&release, config);
        let failure = runtime.check(&host.folder, &first).unwrap_err();
        assert_eq!(failure.reason, Reason::HostUnsupported, "{}", failure.why);
        failure.why.clone()
    };
    let with_unit = |unit: &str| with(systemd(&[]), |runtime| runtime.unit = Some(unit.to_owned()));
    match part.as_str() {
        "guest" => {
            assert!(refused(systemd(&["./run"])).contains("loginctl enable-linger guest"));
            let why = refused(with_unit("web.service"));
            assert!(why.contains("sudo does not allow systemctl start web.service"), "{why}");
            assert!(why.contains("guest ALL=(root) NOPASSWD: /usr/bin/systemctl start web.service"), "{why}");
            assert!(refused(with_unit("no-such.service")).contains("not-found: the administrator installs it"));
            assert!(refused(with_unit("../web")).contains("can't be an administrator's unit"));
            assert!(refused(with_unit("landfall-shop.web.service")).contains("can't"));
        }
        "deploy" => {
            let mut config = systemd(&["./run"]);
            config.run_as = Some(RunAs { method: RunAsMethod::Sudo, user: "guest".to_owned() });
            assert!(refused(config).contains("run.systemd.unit"));
            let why = refused(with_env(systemd(&["./run"]), "spring.url", "x"));
            assert!(why.contains("takes no variable"), "{why}");
            let mut config = systemd(&["./run"]);
            config.liveness = Some(http(1, "/"));
            assert!(refused(config).contains("livenessProbe"));
            let config = with(systemd(&["./run"]), |runtime| runtime.stop.signal = "NONE".to_owned());
            assert!(refused(config).contains("signal NONE"));
            // Version 1 gives a user no controller: a limit that does not hold is none.
            let config = with(systemd(&["./run"]), |runtime| runtime.memory_max_bytes = Some(1 << 30));
            assert!(refused(config).contains("no limit of memory would hold"));
        }
        "deploy, without systemctl" => {
            assert!(refused(systemd(&["./run"])).contains("systemctl is not installed"));
            assert!(refused(with_unit("web.service")).contains("systemctl is not installed"));
        }
        _ => assert!(refused(systemd(&["./run"])).contains("systemd does not run this machine")),
    }
}

/// What the session does at a look: nobody else asks once the task is over.
#[test]
fn a_watcher_asks_all_the_time_and_tells_what_systemd_does() {
    if part().is_none() {
        return Machine::boot("deploy").run_as(
            "deploy",
            "2000",
            "systemd::a_watcher_asks_all_the_time_and_tells_what_systemd_does",
            "deploy",
        );
    }
    let host = Host::at(Path::new("/srv/deploy"));
    let port = free_port();
    let status = host.folder.path().join("status");
    let server = application::server(port, &status);
    let Runtime::Process(process) = &server.runtime else { unreachable!() };
    let words: Vec<&str> = process.command.iter().map(String::as_str).collect();
    let mut config = Configuration { env: server.env.clone(), ..systemd(&words) };
    config.readiness = Some(http(port, "/"));
    config.log = LogLimits { max_bytes: 1 << 20, files: 1 };
    let first = start(&host.release("v1", ""), config);
    host.start(&first).unwrap();
    host.wait_ready().unwrap();
    assert_eq!(host.facts().keeper, None);
    let attend = || landfall_host::runtime::attend(&host.folder, None).unwrap();
    attend();
    let watcher = host.facts().keeper.unwrap();
    assert!(!watcher.parent);
    attend();
    assert_eq!(host.facts().keeper.unwrap().pid, watcher.pid, "one is enough");

    // Unready and ready again, without anybody asking.
    fs::write(&status, "503").unwrap();
    until("it is told unready", || !host.state().is_ready());
    assert!(host.state().probe_failure.unwrap().contains("503"));
    assert!(host.process().was_ready && !host.process().ready);
    fs::write(&status, "200").unwrap();
    until("it is told ready", || host.state().is_ready());

    // Killed, it is started again by systemd; the new one is ready once it answers.
    let before = host.process();
    fs::write(&status, "503").unwrap();
    crate::support::kill(before.pid, rustix::process::Signal::KILL);
    until("systemd starts it again, and the record knows", || {
        let state = host.state();
        let application = state.application.as_ref().map_or(0, |application| application.pid);
        application != before.pid && !state.is_ready() && state.probe_failure.is_some()
    });
    let process = host.process();
    assert_eq!((process.state, process.ready, process.restarts), (ProcessState::Running, false, 1));
    assert_eq!(process.last_end.unwrap().signal.as_deref(), Some("KILL"));
    fs::write(&status, "200").unwrap();
    until("the new one is ready", || host.process().ready);

    // Its own death changes nothing of the unit; a stop ends it with the unit.
    crate::support::kill(watcher.pid, rustix::process::Signal::KILL);
    until("the watcher is dead", || host.facts().keeper.is_none());
    assert!(host.process().ready);
    attend();
    let watcher = host.facts().keeper.unwrap().pid;
    host.stop().unwrap();
    assert_eq!(host.facts().keeper, None);
    assert!(
        !Path::new(&format!("/proc/{watcher}")).exists()
            || landfall_host::process::Stat::read(watcher).unwrap().is_dead()
    );

    // One that is stopped outside is told so, and its watcher goes.
    host.start(&first).unwrap();
    host.wait_ready().unwrap();
    attend();
    say(&["env", "XDG_RUNTIME_DIR=/run/user/2000", "systemctl", "--user", "stop", UNIT]).unwrap();
    until("the watcher goes", || host.facts().keeper.is_none());
    assert_eq!(host.process().state, ProcessState::Stopped);
    assert!(host.facts().by_hand.is_some());
    host.stop().unwrap();
}

/// A probe's command runs from the release as the application does, and may outlive who asked.
#[test]
fn a_probe_under_way_is_no_stranger_to_the_next_start() {
    if part().is_none() {
        let name = "systemd::a_probe_under_way_is_no_stranger_to_the_next_start";
        return Machine::boot("nobody").run(name, "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    for user in [None, Some("deploy")] {
        let mut config = systemd(&["./run"]);
        config.run_as = user.map(|user| RunAs { method: RunAsMethod::Su, user: user.to_owned() });
        // It answers at once, and after that never.
        let asks = "cd ../../shared/data; [ -e asked ] || { touch asked; exit 0; }; echo $$ >>asks; cd ../../releases/*; sleep 1000; exit 1";
        config.readiness = Some(Probe { timeout_seconds: 1000, ..exec(&["sh", "-c", asks]) });
        let first = start(&host.release("v1", "exec sleep 1001"), config.clone());
        host.start(&first).unwrap();
        host.wait_ready().unwrap();
        landfall_host::runtime::attend(&host.folder, None).unwrap();
        let probe: i32 = host.wait_for_data("asks").trim().parse().unwrap();
        let is_over = || landfall_host::process::Stat::read(probe).is_none_or(|stat| stat.is_dead());
        let watcher = host.facts().keeper.unwrap();
        landfall_host::runtime::of(&config).check(&host.folder, &first).unwrap();

        // Killed by somebody, the watcher leaves its probe.
        crate::support::kill(watcher.pid, rustix::process::Signal::KILL);
        until("the watcher is dead", || host.facts().keeper.is_none());
        landfall_host::runtime::of(&config).check(&host.folder, &first).unwrap();
        assert_eq!(host.facts().suspected, []);
        let application = host.process().pid;
        host.stop().unwrap();
        assert!(is_over(), "{user:?}: the probe goes with the application that it asks about");
        assert_eq!(host.facts().suspected, []);
        for file in ["asked", "asks"] {
            fs::remove_file(host.data(file)).unwrap();
        }

        // And where only a start follows: the unit is down already.
        host.start(&first).unwrap();
        host.wait_ready().unwrap();
        assert_ne!(host.process().pid, application);
        landfall_host::runtime::attend(&host.folder, None).unwrap();
        host.wait_for_data("asks");
        let watcher = host.facts().keeper.unwrap();
        crate::support::kill(watcher.pid, rustix::process::Signal::KILL);
        say(&["systemctl", "stop", UNIT]).unwrap();
        host.start(&first).unwrap();
        host.stop().unwrap();
        fs::remove_dir_all(host.folder.shared().join("data")).unwrap();
    }
}

#[test]
fn a_minimum_of_readiness_that_is_on_no_record_begins_once() {
    if part().is_none() {
        let name = "systemd::a_minimum_of_readiness_that_is_on_no_record_begins_once";
        return Machine::boot("nobody").run(name, "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    host.start(&start(&host.release("v1", "exec sleep 1000"), systemd(&["./run"]))).unwrap();
    host.wait_ready().unwrap();
    let mut state = host.state();
    state.ready_since = None;
    state.write(&host.folder).unwrap();
    let runtime = landfall_host::runtime::recorded(&host.folder);
    let min_ready = || runtime.min_ready(&host.folder, Duration::from_secs(1000), &|| true).unwrap();
    assert_eq!(min_ready(), Waited::Cancelled);
    let since = host.state().ready_since.expect("the next who waits goes on from here");
    assert_eq!(min_ready(), Waited::Cancelled);
    assert_eq!(host.state().ready_since, Some(since));
    host.stop().unwrap();
}

/// Nothing but its text says whose an administrator's unit is.
#[test]
fn a_unit_that_does_not_name_the_folder_is_not_touched() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::a_unit_that_does_not_name_the_folder_is_not_touched", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let release = host.release("v1", "exec sleep 1000");
    let folder = host.folder.path().display().to_string();
    std::os::unix::fs::symlink(host.folder.release(&release), host.folder.current()).unwrap();
    let write = |lines: &str| {
        fs::write("/etc/systemd/system/web.service", format!("[Service]\nType=exec\n{lines}\n")).unwrap();
        say(&["systemctl", "daemon-reload"]).unwrap();
    };
    let config = with(systemd(&[]), |runtime| runtime.unit = Some("web.service".to_owned()));
    let first = start(&release, config);
    let runtime = landfall_host::runtime::of(&first.config);

    for lines in [
        "ExecStart=/bin/sleep 1000".to_owned(),
        format!("ExecStart=/bin/sleep 1000\nWorkingDirectory=-{folder}.old"),
        // Who saves the data of an application is none.
        format!("ExecStart=/bin/tail -f /dev/null {folder}/shared/data"),
        format!("ExecStart=/bin/sleep 1000\nEnvironmentFile=-{folder}-2/.landfall/unit.env"),
    ] {
        write(&lines);
        say(&["systemctl", "start", "web.service"]).unwrap();
        let failure = runtime.check(&host.folder, &first).unwrap_err();
        assert_eq!(failure.reason, Reason::HostUnsupported, "{lines}");
        let what = format!("EnvironmentFile=-{folder}/.landfall/unit.env");
        assert!(failure.why.contains("web.service") && failure.why.contains(&what), "{}", failure.why);
        assert_eq!(host.start(&first).unwrap_err().reason, Reason::HostUnsupported, "{lines}");
        let _ = host.stop();
        assert_eq!(say(&["systemctl", "is-active", "web.service"]).unwrap().trim(), "active", "{lines}");
        say(&["systemctl", "stop", "web.service"]).unwrap();
    }

    for lines in [
        format!("ExecStart={folder}/current/run"),
        format!("ExecStart=/bin/sleep 1000\nWorkingDirectory={folder}/current"),
        format!("ExecStart=/bin/sh -c \"exec $0\" {folder}/current/run"),
        format!("ExecStart=/bin/sleep 1000\nEnvironmentFile=-{folder}/.landfall/unit.env"),
    ] {
        write(&lines);
        runtime.check(&host.folder, &first).unwrap_or_else(|failure| panic!("{lines}: {}", failure.why));
        host.start(&first).unwrap();
        host.wait_ready().unwrap();
        // It was given to something else meanwhile: it runs on.
        write("ExecStart=/bin/sleep 1000");
        let failure = host.stop().unwrap_err();
        assert_eq!(failure.reason, Reason::StopFailed);
        assert!(failure.why.contains("does not name"), "{}", failure.why);
        assert_eq!(say(&["systemctl", "is-active", "web.service"]).unwrap().trim(), "active", "{lines}");
        write(&lines);
        host.stop().unwrap();
        assert_eq!(say(&["systemctl", "is-active", "web.service"]).unwrap_err().trim(), "inactive", "{lines}");
    }
}

#[test]
fn another_runtime_takes_over_from_a_unit_and_back() {
    if part().is_none() {
        return Machine::boot("nobody").run("systemd::another_runtime_takes_over_from_a_unit_and_back", "root");
    }
    let host = Host::at(Path::new("/srv/landfall"));
    let release = host.release("v1", "exec sleep 1000");
    let hashed = |config: Configuration, hash: &str| Configuration { hash: ConfigHash::parse(hash).unwrap(), ..config };
    let as_unit = start(&release, hashed(systemd(&["./run"]), "1:0123456789abcde0"));
    let as_process = start(&release, hashed(process(&["./run"]), "1:0123456789abcde1"));
    for (one, other) in [(&as_process, &as_unit), (&as_unit, &as_process)] {
        host.start(one).unwrap();
        host.wait_ready().unwrap();
        // What runs by the one is no reason against the other, but neither starts beside it.
        landfall_host::runtime::of(&other.config).check(&host.folder, other).unwrap();
        let pid = host.process().pid;
        assert_eq!(host.start(other).unwrap_err().reason, Reason::StartFailed);
        assert_eq!((host.process().pid, host.process().state), (pid, ProcessState::Running));
        host.stop().unwrap();
        host.start(other).unwrap();
        host.wait_ready().unwrap();
        assert_eq!(host.process().config, Some(other.config.hash.clone()));
        host.stop().unwrap();
        assert!(host.living().is_empty() && !unit_file().exists());
    }
}

/// Dead after an effect is dead before the next one; the first one is tried both ways.
#[test]
fn a_start_and_a_stop_end_the_same_after_a_death_anywhere() {
    let name = "systemd::a_start_and_a_stop_end_the_same_after_a_death_anywhere";
    let Some(part) = part() else { return Machine::boot("nobody").run(name, "all") };
    let host = Host::at(Path::new("/srv/landfall"));
    let script = "echo started >>../../shared/data/starts; exec sleep 1000";
    match part.as_str() {
        "start" => {
            host.start(&start(&ReleaseName::new("v1", digest("v1").as_str()), systemd(&["./run"]))).unwrap();
            return std::mem::forget(host);
        }
        "stop" => {
            host.stop().unwrap();
            return std::mem::forget(host);
        }
        _ => {}
    }
    host.release("v1", script);
    let gates = host.folder.root().join("gates");
    // This test again, in a process that may die.
    let act = |act: &str, kill: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--test-threads=1"]).env(PART, act);
        command.env("LANDFALL_HOST_GATE_LOG", &gates).env("LANDFALL_HOST_KILL", kill);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let died = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(died || output.status.success(), "{act} {kill}: {said}");
        died
    };
    let runs_once = |what: &str| {
        until(what, || host.data("starts").exists());
        assert_eq!(host.process().state, ProcessState::Running, "{what}");
        assert_eq!(fs::read_to_string(host.data("starts")).unwrap(), "started\n", "{what}");
        assert_eq!(host.living().len(), 1, "{what}");
    };
    let is_gone = |what: &str| {
        assert_eq!(host.process().state, ProcessState::Stopped, "{what}");
        assert!(host.living().is_empty() && !unit_file().exists(), "{what}");
        assert!(!unit_file().with_file_name("multi-user.target.wants").join(UNIT).is_symlink(), "{what}");
        assert!(!host.folder.dot().join("unit.env").exists(), "{what}");
        assert_eq!(say(&["systemctl", "show", "-pLoadState", "--value", UNIT]).unwrap().trim(), "not-found", "{what}");
        let _ = fs::remove_file(host.data("starts"));
    };
    let points = |name: &str| {
        let _ = fs::remove_file(&gates);
        assert!(!act(name, ""));
        let log = fs::read_to_string(&gates).unwrap();
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        let mut points = Vec::new();
        for gate in log.lines().filter_map(|line| line.split(' ').next()) {
            let count = counts.entry(gate.to_owned()).or_default();
            *count += 1;
            if points.is_empty() {
                points.push(format!("{gate}:{count}:before"));
            }
            points.push(format!("{gate}:{count}:after"));
        }
        points
    };
    // What only a first start makes is not systemd's.
    points("start");
    points("stop");
    is_gone("stopped for the first time");
    let starts = points("start");
    runs_once("started");
    let stops = points("stop");
    is_gone("stopped");
    for gate in ["unit.environment", "state.write", "unit.write", "unit.enable", "unit.start"] {
        assert!(starts.iter().any(|point| point.starts_with(gate)), "{gate}: {starts:?}");
    }
    for gate in ["unit.stop", "unit.disable", "unit.remove", "unit.environment", "state.write"] {
        assert!(stops.iter().any(|point| point.starts_with(gate)), "{gate}: {stops:?}");
    }
    for point in &starts {
        assert!(act("start", point), "{point}");
        host.facts();
        assert!(!act("start", ""));
        runs_once(point);
        assert!(!act("stop", ""));
        is_gone(point);
        // A stop may be all that follows.
        if point.starts_with("unit.write") || point.starts_with("unit.start") {
            assert!(act("start", point), "{point}");
            assert!(!act("stop", ""));
            is_gone(point);
        }
    }
    for point in &stops {
        assert!(!act("start", ""));
        runs_once(point);
        assert!(act("stop", point), "{point}");
        assert!(!act("stop", ""));
        is_gone(point);
    }
}

#[test]
fn a_session_puts_a_watcher_there_and_tells_restarts_unasked() {
    if part().is_none() {
        let name = "systemd::a_session_puts_a_watcher_there_and_tells_restarts_unasked";
        return Machine::boot("deploy").run_as("deploy", "2000", name, "deploy");
    }
    let host = Host::at(Path::new("/srv/deploy"));
    host.start(&start(&host.release("v1", "exec sleep 1000"), systemd(&["./run"]))).unwrap();
    host.wait_ready().unwrap();
    let (mut client, welcome) = Client::greeted(host.folder.root());
    let told = welcome.facts.folders[host.folder.name()].process.clone().unwrap();
    assert_eq!((told.state, told.ready), (ProcessState::Running, true));
    assert!(welcome.supports.contains(landfall_host_protocol::supports::RUNTIME_SYSTEMD));
    let mut pushed = |what: &str, is: &dyn Fn(&FolderFacts) -> bool| loop {
        let Push::Folders { folders, .. } = client.push() else { panic!("another push: {what}") };
        let facts = folders.get(host.folder.name()).cloned().flatten();
        if let Some(facts) = facts.filter(|facts| is(facts)) {
            return facts;
        }
    };
    let watcher = pushed("a watcher", &|facts| facts.keeper.is_some()).keeper.unwrap();
    crate::support::kill(told.pid, rustix::process::Signal::KILL);
    let running = |facts: &FolderFacts| {
        facts.process.as_ref().is_some_and(|process| process.state == ProcessState::Running && process.pid != told.pid)
    };
    let facts = pushed("the next run", &running);
    let process = facts.process.unwrap();
    assert_eq!((process.restarts, process.last_end.unwrap().signal.as_deref()), (1, Some("KILL")));
    assert_eq!(facts.keeper, Some(watcher), "the same goes on");
    // Somebody else's stop.
    say(&["env", "XDG_RUNTIME_DIR=/run/user/2000", "systemctl", "--user", "stop", UNIT]).unwrap();
    let facts = pushed("the stop", &|facts| facts.by_hand.is_some());
    assert_eq!(facts.process.unwrap().state, ProcessState::Stopped);
    host.stop().unwrap();
}
