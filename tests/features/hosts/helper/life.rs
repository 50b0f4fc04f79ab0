//! A whole life of a release, in every shell.

use super::*;

fn whole_life(shell: &'static str) {
    let mut root = Root::new(shell);
    let release = release(&root.marker);
    assert!(!root.facts().contains("@missing="), "{}", root.facts());
    send(&mut root, &release);
    root.done("stop", "grace=1\n", b"");
    root.done("switch", &format!("release={}\n", release.name), b"");
    root.done("start", &starting(&release, &["./app", "", "a b", "'", "-n", "\n", "*"]), b"");
    root.done("mark", "rollout=1.0\n", b"");
    let facts = root.facts();
    assert!(value(&facts, "process").unwrap().starts_with("1 "), "{facts}");
    assert_eq!(value(&facts, "current").unwrap(), format!("releases/{}", release.name));
    assert_eq!(value(&facts, "ready").unwrap().split(' ').next(), Some("uid-of-web"));
    root.runs_once();
    let mut log = String::new();
    until_now("done talking", || {
        log = std::fs::read_to_string(root.path("shared/log/output.log")).unwrap();
        log.ends_with("ü|\n")
    });
    let said = log.split_once('\n').unwrap().1;
    assert_eq!(said, "|a b|'|-n|\n|*|it's $HOME \"`id`\" \\0041 *\n  ü|\n", "{shell}");

    let pid = value(&facts, "process").unwrap().split(' ').nth(1).unwrap();
    // A shell can't undo what whoever started these tests ignores (as for `make test &`); it must not add to it.
    let added = ignored_signals(pid) & !ignored_signals("self");
    assert_eq!(added & 0b110, 0, "{shell}: INT and QUIT reach the application");
    let descriptors =
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    assert!(descriptors.into_iter().all(|file| !file.ends_with("lock")), "{shell}: the application holds no lock");

    root.done("stop", "grace=3\n", b"");
    assert_eq!(root.running(), 0);
    root.done("prune", "keep=\natmost=0\n", b"");
    assert!(root.facts().contains(&format!("@release={}", release.name)), "current is never pruned");
    root.done("remove", "grace=1\n", b"");
    assert!(!root.path("").exists());
}

#[test]
fn dash_carries_a_release_through_its_life() {
    whole_life("dash");
}

#[test]
fn busybox_ash_carries_a_release_through_its_life() {
    whole_life("busybox sh");
}

#[test]
fn posix_bash_carries_a_release_through_its_life() {
    whole_life("bash --posix");
}

#[test]
fn mksh_carries_a_release_through_its_life() {
    whole_life("mksh");
}

/// What one program of a host digests another can check: a release that is there stays when openssl comes or goes.
#[test]
fn a_release_is_known_again_whoever_digests() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    // So many digits of bytes are openssl's.
    let big = staging(&release).replace(&format!("size={}", release.tar.len()), "size=10000000");
    let answer = root.act("stage", &big, b"");
    assert!(value(&answer, "error").is_none() && value(&answer, "need").is_none(), "{answer}");
}

#[test]
fn a_log_that_is_held_open_is_emptied_and_its_end_kept() {
    for shell in SHELLS {
        let mut root = Root::new(shell);
        let release = release(&root.marker);
        send(&mut root, &release);
        // 30 MiB at once, and a little more when it may.
        let go = root.folder.path().join("go");
        let waits = format!("while ! [ -e {} ]; do sleep 0.1; done", go.display());
        let program =
            format!("head -c 31457280 /dev/zero | tr '\\0' x; echo; echo END; {waits}; echo LATER; exec sleep 1000");
        root.done("start", &starting(&release, &["sh", "-c", &program]), b"");
        let log = root.path("shared/log/output.log");
        until_now("long and at its end", || std::fs::read(&log).unwrap().ends_with(b"x\nEND\n"));
        assert_eq!(value(&root.facts(), "rotated"), Some("1"), "{shell}");
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0, "{shell}");
        let kept = std::fs::read(root.path("shared/log/output.log.1")).unwrap();
        assert_eq!(kept.len(), 10 << 20, "{shell}");
        assert!(kept.ends_with(b"x\nEND\n"), "{shell}");
        std::fs::write(&go, "").unwrap();
        until_now("said later", || std::fs::metadata(&log).unwrap().len() > 0);
        use std::os::unix::fs::MetadataExt;
        let after = std::fs::metadata(&log).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "LATER\n", "{shell}: the process goes on at the beginning");
        assert!(after.blocks() <= 16, "{shell}: no hole is counted, no old block kept: {}", after.blocks());
        assert_eq!(value(&root.facts(), "rotated"), None, "{shell}");
    }
}

#[test]
fn starts_for_healing_are_counted_on_the_host_and_another_start_begins_anew() {
    for shell in SHELLS {
        let mut root = Root::new(shell);
        let release = release(&root.marker);
        send(&mut root, &release);
        let kill = |root: &mut Root| {
            let pid = value(&root.facts(), "process").unwrap().split(' ').nth(1).unwrap().to_owned();
            Command::new("kill").args(["-9", &pid]).status().unwrap();
            // A killed process lives until it has run once more.
            while !value(&root.facts(), "process").unwrap().starts_with("0 ") {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        root.done("start", &starting(&release, &["./app"]), b"");
        for n in 1..=7 {
            kill(&mut root);
            root.done("start", &format!("heal=1\n{}", starting(&release, &["./app"])), b"");
            let facts = root.facts();
            let heals = facts.lines().filter(|line| line.starts_with("@heal=")).count();
            assert_eq!(heals, n.min(6), "{shell}: {facts}");
        }
        assert!(value(&root.facts(), "uptime").unwrap().parse::<u64>().is_ok());
        kill(&mut root);
        root.done("start", &starting(&release, &["./app"]), b"");
        assert!(value(&root.facts(), "heal").is_none(), "{shell}");
    }
}

#[test]
fn a_process_with_a_bracket_in_its_name_is_known_by_its_start_time() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    let odd = root.folder.path().join("a) S 1 (b");
    std::fs::copy("/bin/sleep", &odd).unwrap();
    std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o755)).unwrap();
    root.done("start", &starting(&release, &[odd.to_str().unwrap(), "1000"]), b"");
    let pid = value(&root.facts(), "process").unwrap().split(' ').nth(1).unwrap().to_owned();
    let named = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(a) S 1 (b)"));
    until_now("the application by its name", named);
    let facts = root.facts();
    assert!(value(&facts, "process").unwrap().starts_with("1 "), "{facts}");
    root.done("stop", "grace=2\n", b"");
    assert_eq!(root.running(), 0);
}
