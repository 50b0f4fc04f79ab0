//! Two callers at once: who holds the lock, and who takes it.

use super::*;

/// An act that stops (SIGSTOP) under the lock, before it moves its first file into place. Answers its process.
fn stopped_holder(root: &mut Root, release: &Release) -> std::thread::JoinHandle<String> {
    // With both locks, before anything is on record.
    let stops = "flock() { command flock \"$@\" || return 1; [ \"$2\" != 8 ] || kill -s STOP 0; }";
    root.altered("export PATH LC_ALL\n", &format!("export PATH LC_ALL\n{stops}\n"));
    let (path, shell) = (root.folder.path().join(".landfall/bin/x"), root.shell);
    let stuck =
        Root { shell, folder: tempfile::tempdir().unwrap(), n: root.n, token: root.token, marker: String::new() };
    let text = format!("release={}\n", release.name);
    let stuck = std::thread::spawn(move || stuck.raw_of(&path, &stuck.request("switch", &text), b""));
    let lock = root.path(".landfall/lock");
    until_now(&format!("stopped: the holder under {shell}"), || {
        let pid = std::fs::read_to_string(&lock).unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    });
    root.immortal();
    stuck
}

#[test]
fn a_stopped_holder_of_the_lock_is_ended_by_a_higher_token_in_every_shell() {
    let ended = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let mut root = Root::new(shell);
            let release = release(&root.marker);
            send(&mut root, &release);
            let stuck = stopped_holder(&mut root, &release);
            root.token = 2;
            let began = std::time::Instant::now();
            root.done("switch", &format!("release={}\n", release.name), b"");
            assert!(began.elapsed() < Duration::from_secs(60), "{shell}: {:?}", began.elapsed());
            assert!(!stuck.join().unwrap().contains("end 0"), "{shell}: the stopped call did nothing");
            assert_eq!(value(&root.facts(), "fence"), Some("plane 100 2"), "{shell}");
        })
    });
    for one in ended {
        one.join().unwrap();
    }
}

#[test]
fn a_stopped_holder_of_the_lock_is_busy_to_its_own_token_and_untouched() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    let stuck = stopped_holder(&mut root, &release);
    let answer = root.act("switch", &format!("release={}\n", release.name), b"");
    assert!(value(&answer, "error").is_some_and(|error| error.starts_with("busy lock")), "{answer}");
    assert!(!stuck.is_finished());
    root.token = 2;
    root.done("switch", &format!("release={}\n", release.name), b"");
    stuck.join().unwrap();
}

#[test]
fn a_launch_that_stops_before_it_is_the_application_is_ended_by_a_higher_token() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    root.altered(" && seat && cd ", " && seat && kill -s STOP $$ && cd ");
    let answer = root.act("start", &starting(&release, &["./app"]), b"");
    assert!(value(&answer, "error").is_some_and(|error| error.starts_with("failed start")), "{answer}");
    root.immortal();
    root.facts();
    root.token = 2;
    root.done("start", &starting(&release, &["./app"]), b"");
    root.runs_once();
}
