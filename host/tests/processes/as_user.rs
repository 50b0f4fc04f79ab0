//! Applications of another user, whom the SSH user becomes by sudo or su. Each test runs in namespaces of its own with users of its own.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use landfall_host::{
    keeper::Phase,
    process::{Found, find},
    program, runtime,
};
use landfall_host_protocol::{ConfigHash, File, FileValue, ProbeAction, Reason, RunAs, RunAsMethod};
use rustix::process::Signal;

use crate::{
    host::{Host, exec, free_port, probe, process, start, with_stop},
    support::{PATIENCE, is_inner, kill, run_again, until},
};

const APP: u32 = 3301;
const DEPLOY: u32 = 3300;

/// Users `deploy` and `app`, sudoers as a host has them, and /tmp of its own with the programs in it.
const SETUP: &str = r#"set -e
mount -t tmpfs -o mode=1777 tmp /mnt
{ grep -v -e ^deploy: -e ^app: /etc/passwd; echo deploy:x:3300:3300::/:/bin/sh; echo app:x:3301:3301::/nonexistent:/usr/sbin/nologin; } >/mnt/passwd
{ grep -v -e ^deploy: -e ^app: /etc/group; echo deploy:x:3300:; echo app:x:3301:; } >/mnt/group
{ cut -d : -f 1 /mnt/passwd | sed 's/$/:*:19000:0:99999:7:::/'; } >/mnt/shadow
printf '%s\n' 'Defaults env_reset, use_pty' 'root ALL=(ALL:ALL) ALL' 'deploy ALL=(app) NOPASSWD: /bin/sh' >/mnt/sudoers
chmod 644 /mnt/passwd /mnt/group; chmod 640 /mnt/shadow; chmod 440 /mnt/sudoers
for file in passwd group shadow sudoers; do mount --bind /mnt/$file /etc/$file; done
cp "$1" /mnt/tests; cp "$PROGRAM" /mnt/landfall-host; chmod 755 /mnt/tests /mnt/landfall-host
shift
"#;

/// Runs the test as `deploy` with sudo, or as root with su.
fn as_other(test: &str, method: RunAsMethod, more: &str) {
    let become_deploy = match method {
        RunAsMethod::Sudo => "setpriv --reuid=3300 --regid=3300 --clear-groups",
        RunAsMethod::Su => "env",
    };
    let script = format!("{SETUP}\n{more}\nexport TMPDIR=/mnt HOME=/; {become_deploy} /mnt/tests \"$@\"");
    let surroundings =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script, "sh"];
    let method = match method {
        RunAsMethod::Sudo => "sudo",
        RunAsMethod::Su => "su",
    };
    run_again(test, &surroundings, &[("METHOD", method), ("PROGRAM", env!("CARGO_BIN_EXE_landfall-host"))]);
}

fn run_as() -> RunAs {
    let method = if std::env::var("METHOD").unwrap() == "su" { RunAsMethod::Su } else { RunAsMethod::Sudo };
    RunAs { method, user: "app".to_owned() }
}

fn host() -> Host {
    program::use_for_children(Path::new("/mnt/landfall-host"));
    let host = Host::new();
    for path in [host.folder.root(), &host.folder.path()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(host.folder.dot(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    host
}

fn uid_of(pid: i32) -> u32 {
    fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

fn life_of_another_users_application() {
    let host = host();
    let script = "id -u; echo $HOME $USER; echo up >../../shared/data/up; (setsid sleep 1000 &); trap 'echo orderly; exit 0' TERM; while :; do sleep 0.05; done";
    let mut config = with_stop(process(&["./run"]), landfall_host_protocol::StopTo::Main, 20);
    config.run_as = Some(run_as());
    config.readiness = Some(exec(&["sh", "-c", "test $(id -u) = 3301 && test -e ../../shared/data/up"]));
    let start = start(&host.release("v1", script), config);
    runtime::of(&start.config).check(&host.folder, &start).unwrap();
    let application = host.started(&start);
    assert_eq!(uid_of(application.pid), APP);
    assert_eq!(runtime::recorded_user(&host.folder), Ok(Some(run_as())), "its drain is run by this user");
    host.wait_ready().unwrap();
    assert_eq!(fs::metadata(host.folder.shared().join("data")).unwrap().uid(), APP);
    assert_eq!(fs::metadata(host.folder.shared()).unwrap().mode() & 0o7777, 0o755);
    assert!(host.log().contains(&format!("{APP}\n/nonexistent app\n")), "{}", host.log());
    // sudo and its shell are gone.
    let keeper = host.keeper().unwrap().identity().pid;
    let below = landfall_host::process::descendants(keeper);
    let names: Vec<String> = below
        .iter()
        .map(|process| fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default())
        .collect();
    assert!(!names.iter().any(|name| name.starts_with("sudo") || name.starts_with("su\n")), "{names:?}");

    // Started again by the keeper, with all that it left ended; how it ended is known.
    host.signal_as_app(application.pid, Signal::KILL);
    until("it runs again", || host.state().restarts == 1 && host.state().phase == Phase::Running);
    assert_eq!(host.process().last_end.unwrap().signal.as_deref(), Some("KILL"));
    host.wait_ready().unwrap();
    let application = host.state().application.unwrap();

    // A newer keeper has the same hands.
    assert!(landfall_host::keeper::upgrade(&host.folder, Path::new("/mnt/landfall-host.new"), PATIENCE).unwrap());
    assert!(matches!(find(&application), Found::Alive(_)));

    // Its keeper dies: it lives on, and the next one is its user's again.
    let keeper = host.keeper().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.wait(PATIENCE));
    assert!(matches!(find(&application), Found::Alive(_)));
    runtime::attend(&host.folder, None).unwrap();
    host.stop().unwrap();
    assert!(matches!(find(&application), Found::Dead));
    until("nothing of that user lives", || {
        landfall_host::process::pids().into_iter().all(|pid| {
            fs::metadata(format!("/proc/{pid}")).map_or(true, |metadata| metadata.uid() != APP)
                || landfall_host::process::Stat::read(pid).is_none_or(|stat| stat.is_dead())
        })
    });
    assert!(host.log().contains("orderly\n"));
}

impl Host {
    /// Only root or that user can.
    fn signal_as_app(&self, pid: i32, signal: Signal) {
        if rustix::process::getuid().is_root() {
            kill(pid, signal);
        } else {
            let text = format!("kill -{} {pid}", signal.as_raw());
            let done =
                std::process::Command::new("sudo").args(["-n", "-u", "app", "--", "/bin/sh", "-c", &text]).status();
            assert!(done.unwrap().success());
        }
    }
}

#[test]
fn another_users_application_lives_by_sudo() {
    if is_inner() {
        assert_eq!(rustix::process::getuid().as_raw(), DEPLOY);
        return life_of_another_users_application();
    }
    let more = "cp /mnt/landfall-host /mnt/landfall-host.new";
    as_other("as_user::another_users_application_lives_by_sudo", RunAsMethod::Sudo, more);
}

#[test]
fn another_users_application_lives_by_su() {
    if is_inner() {
        return life_of_another_users_application();
    }
    let more = "cp /mnt/landfall-host /mnt/landfall-host.new";
    as_other("as_user::another_users_application_lives_by_su", RunAsMethod::Su, more);
}

/// Its commands are his, its watcher asks as him, and what it leaves ends as a whole.
#[test]
fn commands_of_another_user_start_ask_and_stop_as_him() {
    if !is_inner() {
        return as_other("as_user::commands_of_another_user_start_ask_and_stop_as_him", RunAsMethod::Sudo, "");
    }
    use landfall_host_protocol::Runtime;
    let mut host = host();
    host.secrets.0.insert("db/key".to_owned(), "hunter2-word".into());
    let mut config = crate::contract::script();
    config.run_as = Some(run_as());
    let value = landfall_host_protocol::EnvValue::Secret("db/key".to_owned());
    config.env.push(landfall_host_protocol::EnvVar { name: "KEY".to_owned(), value });
    let Runtime::Script(script) = &mut config.runtime else { unreachable!() };
    let says = |text: &str, command: &mut Vec<String>| {
        let last = command.last_mut().unwrap();
        *last = format!("echo {text} $(id -u) ${{#KEY}} >>../../shared/data/asked; {last}");
    };
    says("start", &mut script.start);
    says("status", &mut script.status);
    says("stop", &mut script.stop);
    let release = host.release("v1", "(setsid sleep 1000 &); exec sleep 1001");
    host.switch(&release);
    let start = start(&release, config);
    runtime::of(&start.config).check(&host.folder, &start).unwrap();
    host.start(&start).unwrap();
    host.wait_ready().unwrap();
    runtime::attend(&host.folder, None).unwrap();
    assert!(host.keeper().is_some());
    let asked = || fs::read_to_string(host.data("asked")).unwrap();
    let before = asked().matches("status").count();
    until("its watcher asks", || asked().matches("status").count() > before);
    assert!(asked().starts_with("start 3301 12\nstatus 3301 0\n"), "{}", asked());
    let mine = |pid: i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == APP);
    host.stop().unwrap();
    assert!(asked().contains("stop 3301 0\n"), "{}", asked());
    until("nothing of that user lives", || {
        let is_dead = |pid: i32| landfall_host::process::Stat::read(pid).is_none_or(|stat| stat.is_dead());
        landfall_host::process::pids().into_iter().all(|pid| !mine(pid) || is_dead(pid))
    });
}

#[test]
fn folders_that_a_stranger_made_beside_the_data_are_not_used() {
    if is_inner() {
        let mut host = host();
        host.secrets.0.insert("key".to_owned(), "hunter2".into());
        let mut config = process(&["./run"]);
        config.run_as = Some(run_as());
        config.files.push(landfall_host_protocol::File {
            name: "secret".to_owned(),
            mode: 0o600,
            value: landfall_host_protocol::FileValue::Secret("key".to_owned()),
        });
        let start = start(&host.release("v1", "exec sleep 1000"), config);
        let shared = host.folder.shared();
        for name in ["config", "log", "data"] {
            // As who was killed in the moment left it.
            fs::create_dir_all(&shared).unwrap();
            fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
            fs::create_dir(shared.join(name)).unwrap();
            fs::write(shared.join(name).join("mine"), "").unwrap();
            std::os::unix::fs::chown(shared.join(name), Some(4000), Some(4000)).unwrap();
            let failure = host.start(&start).unwrap_err();
            assert!(failure.why.contains("is not a folder of uid"), "{}", failure.why);
            assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o7777, 0o755);
            assert!(!shared.join(name).join("secret").exists());
            fs::remove_dir_all(&shared).unwrap();
        }
        host.start(&start).unwrap();
        host.stop().unwrap();
        return;
    }
    as_other("as_user::folders_that_a_stranger_made_beside_the_data_are_not_used", RunAsMethod::Su, "");
}

#[test]
fn who_cant_be_become_is_named_before_anything_stops() {
    if is_inner() {
        let host = host();
        let mut config = process(&["./run"]);
        for (user, says) in [("web", "web"), ("-x", "no name of a user"), ("app", "password is required")] {
            config.run_as = Some(RunAs { method: RunAsMethod::Sudo, user: user.to_owned() });
            let start = start(&host.release("v1", "exec sleep 1000"), config.clone());
            let failure = runtime::of(&start.config).check(&host.folder, &start).unwrap_err();
            assert_eq!(failure.reason, Reason::HostUnsupported);
            assert!(failure.why.starts_with("could not become ") && failure.why.contains(says), "{}", failure.why);
            // And never is anything run as ourselves instead.
            assert!(host.start(&start).is_err());
            assert!(host.living().is_empty());
        }
        return;
    }
    let more = "printf '%s\\n' 'Defaults env_reset' 'root ALL=(ALL:ALL) ALL' >/etc/sudoers";
    as_other("as_user::who_cant_be_become_is_named_before_anything_stops", RunAsMethod::Sudo, more);
}

#[test]
fn another_users_socket_is_seen_to_be_his_under_hidepid() {
    if is_inner() {
        let host = host();
        let port = free_port();
        let mut config = crate::application::server(port, Path::new("/nonexistent"));
        config.run_as = Some(run_as());
        config.readiness = Some(probe(ProbeAction::TcpSocket { port, host: None }));
        let release = host.release("v1", "true");
        host.start(&start(&release, config)).unwrap();
        host.wait_ready().unwrap();
        let application = host.state().application.unwrap();
        assert!(matches!(find(&application), Found::Hidden));
        assert!(host.process().ready);
        host.stop().unwrap();
        assert!(!matches!(find(&application), Found::Alive(_)));
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        return;
    }
    as_other(
        "as_user::another_users_socket_is_seen_to_be_his_under_hidepid",
        RunAsMethod::Sudo,
        "mount -o remount,hidepid=2 /proc",
    );
}

/// Whatever is asked of that user's process ends the command that it runs: its keeper asks nothing meanwhile.
#[test]
fn an_exec_probe_of_another_user_comes_to_an_answer_under_hidepid() {
    if is_inner() {
        let host = host();
        let mut config = process(&["./run"]);
        config.run_as = Some(run_as());
        let asks = "cd ../../shared/data; echo asked >>asks; sleep 0.3; test -e up";
        config.readiness = Some(exec(&["sh", "-c", asks]));
        let script = "umask 022; echo up >../../shared/data/up; exec sleep 1000";
        host.start(&start(&host.release("v1", script), config)).unwrap();
        host.wait_ready().unwrap();
        let application = host.state().application.unwrap();
        assert!(matches!(find(&application), Found::Hidden));
        host.signal_as_app(application.pid, Signal::KILL);
        until("it runs again and is ready", || {
            let state = host.state();
            state.restarts == 1 && state.phase == Phase::Running && state.is_ready()
        });
        assert_eq!(host.process().last_end.unwrap().signal.as_deref(), Some("KILL"));
        host.stop().unwrap();
        return;
    }
    as_other(
        "as_user::an_exec_probe_of_another_user_comes_to_an_answer_under_hidepid",
        RunAsMethod::Sudo,
        "mount -o remount,hidepid=2 /proc",
    );
}

/// How hooks and drains run, whose output is read as it comes.
#[test]
fn a_command_of_another_user_prints_to_our_pipe_and_ends_as_a_whole() {
    use landfall_host::{
        as_user::AsUser,
        keeper::{Hands, launch::Launch},
    };
    use std::{
        io::{BufRead, BufReader},
        os::fd::OwnedFd,
    };
    if is_inner() {
        program::use_for_children(Path::new("/mnt/landfall-host"));
        let (reader, writer) = std::io::pipe().unwrap();
        let mut hands = AsUser::to_pipe(&run_as(), fs::File::from(OwnedFd::from(writer)));
        let process = hands.prepare(&fs::File::open("/dev/null").unwrap()).unwrap();
        let text = "id -u; echo \"$WORD\"; (setsid sleep 1000 &) ; exec sleep 1001";
        let command = ["sh", "-c", text].map(str::to_owned).to_vec();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("WORD".to_owned(), "a b".to_owned())];
        hands.go(&Launch { command, env, folder: "/".into() }).unwrap();
        let lines: Vec<String> = BufReader::new(reader).lines().take(2).map(Result::unwrap).collect();
        assert_eq!(lines, [APP.to_string(), "a b".to_owned()]);
        let started = hands.started();
        until("all of it runs", || hands.living(&started).len() == 2);
        assert!(hands.end_all(&started, PATIENCE));
        assert!(matches!(find(&process), Found::Dead));
        until("how it ended is known", || hands.reap(process.pid).is_some_and(|exit| exit.signal == Some(9)));
        return;
    }
    as_other("as_user::a_command_of_another_user_prints_to_our_pipe_and_ends_as_a_whole", RunAsMethod::Sudo, "");
}

fn file(name: &str, mode: u32, key: &str) -> File {
    File { name: name.to_owned(), mode, value: FileValue::Secret(key.to_owned()) }
}

/// Names in `shared/config`, in order.
fn names(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.folder.shared().join("config")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn files_are_the_users() {
    let mut host = host();
    host.secrets.0.insert("key".to_owned(), vec![b'k', 0xff, 0, b'y'].into());
    let script = "umask 022; cd ../../shared; cat config/key.pem >data/seen; cat config/app.ini >>data/seen; echo . >>data/seen; exec sleep 1000";
    let mut config = process(&["./run"]);
    config.run_as = Some(run_as());
    config.files = vec![
        file("key.pem", 0o600, "key"),
        File { name: "app.ini".to_owned(), mode: 0o400, value: FileValue::Plain("[a]\n".to_owned()) },
    ];
    let place = host.folder.shared().join("config");
    let look = |name: &str| {
        let found = fs::symlink_metadata(place.join(name)).unwrap();
        (found.uid(), found.mode() & 0o7777, found.ino())
    };
    let release = host.release("v1", script);
    host.start(&start(&release, config.clone())).unwrap();
    until("it read both", || fs::read(host.data("seen")).is_ok_and(|seen| seen == b"k\xff\0y[a]\n.\n"));
    let (key, ini) = (look("key.pem"), look("app.ini"));
    assert_eq!((key.0, key.1, ini.0, ini.1), (APP, 0o600, APP, 0o400));
    let found = fs::metadata(&place).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (rustix::process::getuid().as_raw(), 0o755));
    assert_eq!(names(&host), ["app.ini", "key.pem"]);
    if !rustix::process::getuid().is_root() {
        let refused = fs::read(place.join("key.pem")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
    host.stop().unwrap();

    // What is as it is to be stays; what changed is another file, and its user's again.
    host.secrets.0.insert("key".to_owned(), "later".into());
    host.start(&start(&release, config.clone())).unwrap();
    assert_eq!(look("app.ini"), ini);
    let later = look("key.pem");
    assert_eq!((later.0, later.1), (APP, 0o600));
    assert_ne!(later.2, key.2);
    host.stop().unwrap();

    // Without the user they are ours again.
    config.hash = ConfigHash::parse("1:0123456789abcde0").unwrap();
    config.run_as = None;
    config.files = vec![file("key.pem", 0o600, "key")];
    fs::remove_dir_all(host.folder.shared().join("data"))
        .or_else(|_| host.as_app("rm -rf", &host.folder.shared().join("data")))
        .unwrap();
    host.start(&start(&host.release("v2", "exec sleep 1000"), config.clone())).unwrap();
    assert_eq!(look("key.pem").0, rustix::process::getuid().as_raw());
    assert_eq!(fs::read(place.join("key.pem")).unwrap(), b"later");
    host.stop().unwrap();

    // Who is not wanted any more goes, whosever it is.
    assert_eq!(names(&host), ["app.ini", "key.pem"]);
    runtime::configuration::keep_only(&host.folder, &[&config.hash]);
    assert_eq!(names(&host), ["key.pem"]);
}

impl Host {
    /// A command of that user's.
    fn as_app(&self, command: &str, path: &Path) -> std::io::Result<()> {
        let text = format!("{command} {}/*", path.display());
        let _ = std::process::Command::new("sudo").args(["-n", "-u", "app", "--", "/bin/sh", "-c", &text]).status()?;
        fs::remove_dir(path)
    }
}

#[test]
fn files_of_another_users_application_are_his_by_sudo() {
    if is_inner() {
        return files_are_the_users();
    }
    // However little its user lets others see.
    let more = "echo 'Defaults umask=0777, umask_override' >>/etc/sudoers; mount -o remount,hidepid=2 /proc";
    as_other("as_user::files_of_another_users_application_are_his_by_sudo", RunAsMethod::Sudo, more);
}

#[test]
fn files_of_another_users_application_are_his_by_su() {
    if is_inner() {
        return files_are_the_users();
    }
    as_other("as_user::files_of_another_users_application_are_his_by_su", RunAsMethod::Su, "");
}

/// What a hostile user runs in the place of our program: it answers as it should, and does something else than to write the file.
const HOSTILE: &str = r#"#!/bin/sh
exec 3<&0
if [ "$2" != detached ]; then setsid "$0" as-user detached <&3 >/dev/null 2>&1 & exit; fi
say() { printf '%s\n' "$1" >&0; }
say '{"hello":{"uid":3301,"pid":'$$'}}'
while read -r line; do
  path=${line#*\"path\":\"}; path=${path%%\"*}
  case $line in
    *makeFolder*) mkdir "$path"; say '"made"' ;;
    *hasFile*) say '{"has":false}' ;;
    *makeFile*) eval "$(cat /mnt/deed)"; echo done >>/mnt/deeds; say '"made"' ;;
    *) say '{"hello":{"uid":3301,"pid":'$$'}}' ;;
  esac
done
"#;

#[test]
fn what_a_hostile_user_puts_in_the_place_of_his_file_is_not_used() {
    if !is_inner() {
        let more = "touch /mnt/deeds; chmod 666 /mnt/deeds; echo ours >/mnt/ours; chmod 666 /mnt/ours; \
                    mkdir /mnt/bin; mv /mnt/landfall-host /mnt/true-program; chown 3300 /mnt/bin; ln -s bin/program /mnt/landfall-host";
        let test = "as_user::what_a_hostile_user_puts_in_the_place_of_his_file_is_not_used";
        return as_other(test, RunAsMethod::Sudo, more);
    }
    let put = |bytes: &[u8]| {
        fs::write("/mnt/bin/new", bytes).unwrap();
        fs::set_permissions("/mnt/bin/new", std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename("/mnt/bin/new", "/mnt/bin/program").unwrap();
    };
    put(HOSTILE.as_bytes());
    let mut host = host();
    host.secrets.0.insert("key".to_owned(), "hunter2".into());
    let mut config = process(&["./run"]);
    config.run_as = Some(run_as());
    config.files = vec![file("key.pem", 0o600, "key")];
    let start = start(&host.release("v1", "exec sleep 1000"), config);
    let deeds = [
        "true",
        "ln -s /mnt/ours $path",
        "ln /mnt/ours $path",
        "mkfifo -m 600 $path",
        "umask 022; printf hunter2 >$path",
        "umask 077; truncate -s 1T $path",
        "umask 077; printf hunter2 >$path; ln $path $path.too",
        "umask 077; rm -rf ${path%/*}; ln -sn /mnt ${path%/*}; printf otherwise >$path",
        "mkdir -m 700 $path; mkdir -m 700 ${path%/*}/more; touch ${path%/*}/more/file",
    ];
    for deed in deeds {
        fs::write("/mnt/deed", deed).unwrap();
        fs::write("/mnt/deeds", "").unwrap();
        let failure = host.start(&start).unwrap_err();
        assert_eq!(fs::read_to_string("/mnt/deeds").unwrap(), "done\n", "{deed}: {}", failure.why);
        assert_eq!(failure.reason, Reason::StartFailed, "{deed}: {}", failure.why);
        assert!(!host.folder.shared().join("config/key.pem").exists(), "{deed}");
        assert_eq!(fs::read_to_string("/mnt/ours").unwrap(), "ours\n");
        // What is more than a file is left: only its user could remove it.
        assert_eq!(names(&host).is_empty(), !deed.contains("mkdir"), "{deed}: {:?}", names(&host));
    }
    put(&fs::read("/mnt/true-program").unwrap());
    host.start(&start).unwrap();
    assert_eq!(fs::symlink_metadata(host.folder.shared().join("config/key.pem")).unwrap().uid(), APP);
    host.stop().unwrap();
}

/// What sudo itself says, and what it allows beside what is needed.
#[test]
fn a_sudo_that_wants_a_terminal_and_one_that_is_too_wide_are_told() {
    let name = "as_user::a_sudo_that_wants_a_terminal_and_one_that_is_too_wide_are_told";
    if !is_inner() {
        for (rules, case) in [
            ("Defaults requiretty\nroot ALL=(ALL:ALL) ALL\ndeploy ALL=(app) NOPASSWD: /bin/sh", "tty"),
            ("root ALL=(ALL:ALL) ALL\ndeploy ALL=(ALL) NOPASSWD: ALL", "wide"),
            ("root ALL=(ALL:ALL) ALL\ndeploy ALL=(app) NOPASSWD: /bin/sh", "fit"),
        ] {
            let more = format!("printf '{rules}\\n' >/etc/sudoers; echo {case} >/mnt/case");
            as_other(name, RunAsMethod::Sudo, &more);
        }
        return;
    }
    let case = fs::read_to_string("/mnt/case").unwrap();
    let found = landfall_host::facts::check_users(Some(RunAsMethod::Sudo), &["app".to_owned()]);
    let host = host();
    let mut config = process(&["./run"]);
    config.run_as = Some(run_as());
    let start = start(&host.release("v1", "exec sleep 1000"), config);
    let check = runtime::of(&start.config).check(&host.folder, &start);
    if case == "tty\n" {
        assert!(found.cannot_become["app"].contains("tty"), "{:?}", found.cannot_become);
        let failure = check.unwrap_err();
        assert_eq!(failure.reason, Reason::HostUnsupported);
        assert!(failure.why.contains("tty"), "{}", failure.why);
        assert!(host.start(&start).is_err() && host.living().is_empty());
        return;
    }
    assert!(found.cannot_become.is_empty(), "{:?}", found.cannot_become);
    assert_eq!(found.sudo_too_wide, case == "wide\n");
    check.unwrap();
}

/// The user's own quota or disk refuses his file: said with its numbers, and what was there stays.
#[test]
fn a_full_disk_of_another_users_file_is_told_with_numbers() {
    let name = "as_user::a_full_disk_of_another_users_file_is_told_with_numbers";
    if !is_inner() {
        let more = "mkdir /mnt/disk; mount -t tmpfs -o size=2m,mode=755,uid=3300 disk /mnt/disk";
        return as_other(name, RunAsMethod::Sudo, more);
    }
    program::use_for_children(Path::new("/mnt/landfall-host"));
    let mut host = Host::at(Path::new("/mnt/disk"));
    for path in [&host.folder.path(), host.folder.root()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut config = process(&["./run"]);
    config.run_as = Some(run_as());
    config.files = vec![file("key.pem", 0o600, "key")];
    let start = start(&host.release("v1", "exec sleep 1000"), config);
    host.secrets.0.insert("key".to_owned(), "small".into());
    host.start(&start).unwrap();
    host.stop().unwrap();
    let path = host.folder.shared().join("config/key.pem");
    let before = fs::metadata(&path).unwrap().ino();
    host.secrets.0.insert("key".to_owned(), vec![b'x'; 3 << 20].into());
    let failure = host.start(&start).unwrap_err();
    assert_eq!(failure.reason, Reason::DiskFull, "{}", failure.why);
    assert!(failure.full.is_some());
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    assert_eq!(names(&host), ["key.pem"]);
    host.secrets.0.insert("key".to_owned(), "small".into());
    host.start(&start).unwrap();
    host.stop().unwrap();
}
