//! A death before each command, and what goes on from there.

use super::*;

/// Kills the act before its first command, its second, and so on, until it gets through; `again` is what the controller does next.
fn dies_everywhere(
    prepare: impl Fn(&mut Root, &Release),
    act: impl Fn(&mut Root, &Release),
    again: impl Fn(&mut Root, &Release),
) {
    for at in 1.. {
        let mut root = Root::new("dash");
        let release = release(&root.marker);
        prepare(&mut root, &release);
        root.mortal(at);
        act(&mut root, &release);
        let ticks = std::fs::metadata(root.folder.path().join("count")).map_or(0, |count| count.len());
        root.immortal();
        root.settled();
        until_now(&format!("left with one process or none at {at}"), || root.running() <= 1);
        again(&mut root, &release);
        assert!(root.path("current").exists() || !root.path("current").is_symlink(), "at {at}");
        if ticks < u64::from(at) {
            assert!(at > 5, "the script was not watched");
            return;
        }
        assert!(at < 100, "it never gets through");
    }
}

#[test]
fn a_stage_that_dies_anywhere_is_continued() {
    // A small release is unpacked by the call itself, a big one by a step of its own.
    for size in [1_000, 5_000_000] {
        dies_everywhere(
            |_, _| {},
            |root, release| {
                let staging = staging(release).replace(&release.tar.len().to_string(), &size.to_string());
                root.act("stage", &format!("{staging}payload=yes\n"), &release.tar);
            },
            |root, release| {
                send(root, release);
                assert_eq!(
                    std::fs::read(root.path(&format!("releases/{}/deep/er/file", release.name))).unwrap(),
                    root.marker.as_bytes()
                );
                assert!(root.facts().contains(&format!("@release={}", release.name)));
                let left: Vec<_> = std::fs::read_dir(root.path(".landfall/tmp")).unwrap().collect();
                assert!(left.is_empty(), "{left:?}");
            },
        );
    }
}

#[test]
fn a_switch_that_dies_anywhere_is_continued() {
    dies_everywhere(
        send,
        |root, release| {
            root.act("switch", &format!("release={}\n", release.name), b"");
        },
        |root, release| {
            root.done("switch", &format!("release={}\n", release.name), b"");
            assert_eq!(
                std::fs::read_link(root.path("current")).unwrap(),
                Path::new(&format!("releases/{}", release.name))
            );
        },
    );
}

#[test]
fn a_start_that_dies_anywhere_leaves_one_process_or_none_and_never_one_unrecorded() {
    dies_everywhere(
        send,
        |root, release| {
            root.act("start", &starting(release, &["./app"]), b"");
        },
        |root, release| {
            // The launched process may just be on its way: it holds the lock, and the next act waits for it.
            root.done("start", &starting(release, &["./app"]), b"");
            let facts = root.facts();
            assert!(value(&facts, "process").unwrap().starts_with("1 "), "{facts}");
            root.runs_once();
        },
    );
}

#[test]
fn a_stop_that_dies_anywhere_is_continued() {
    dies_everywhere(
        |root, release| {
            send(root, release);
            root.done("start", &starting(release, &["./app"]), b"");
        },
        |root, _| {
            root.act("stop", "grace=2\n", b"");
        },
        |root, _| {
            root.done("stop", "grace=2\n", b"");
            assert_eq!(root.running(), 0);
            assert!(!root.path(".landfall/process").exists());
        },
    );
}

#[test]
fn an_update_is_one_act_whether_the_process_ends_or_is_killed_in_every_shell() {
    let turned = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let mut root = Root::new(shell);
            let release = release(&root.marker);
            send(&mut root, &release);
            root.done("turn", &turning(&release, "1.0", 5, &["./app"]), b"");
            let first = living(&mut root);
            assert_eq!(first.0, "1.0", "{shell}");
            let stays = ["sh", "-c", "trap '' TERM; exec sleep 1000"];
            root.done("turn", &turning(&release, "1.1", 5, &stays), b"");
            let second = living(&mut root);
            assert!(second.0 == "1.1" && second.1 != first.1, "{shell}: {first:?} {second:?}");
            let line = format!("/proc/{}/cmdline", second.1);
            until_now("deaf to TERM", || std::fs::read(&line).is_ok_and(|line| line == b"sleep\x001000\0"));
            // It is waited for by a step, which has to kill it, and starts the next one.
            root.done("turn", &turning(&release, "1.2", 1, &["./app", "ü '"]), b"");
            assert!(root.path(".landfall/steps/uid-of-w-1.0-1-6/turn/exit").exists(), "{shell}: that was a step");
            assert_eq!(living(&mut root).0, "1.2", "{shell}");
            root.runs_once();
            // Nothing is stopped where the turn is over already.
            let third = living(&mut root);
            root.done("turn", &turning(&release, "1.2", 1, &["./app"]), b"");
            assert_eq!(living(&mut root), third, "{shell}");
            let acts = std::fs::read_to_string(root.path(".landfall/journal")).unwrap();
            assert_eq!(acts.lines().filter(|line| line.contains(" end turn ")).count(), 4, "{shell}: {acts}");
            until_now(&format!("all said under {shell}"), || {
                let log = std::fs::read_to_string(root.path("shared/log/output.log")).unwrap();
                log.ends_with("ü '|it's $HOME \"`id`\" \\0041 *\n  ü|\n")
            });
        })
    });
    for one in turned {
        one.join().unwrap();
    }
}

#[test]
fn an_update_that_dies_anywhere_is_continued() {
    dies_everywhere(
        |root, release| {
            send(root, release);
            root.done("turn", &turning(release, "1.0", 5, &["./app"]), b"");
        },
        |root, release| {
            root.act("turn", &turning(release, "1.1", 5, &["./app"]), b"");
        },
        |root, release| {
            root.done("turn", &turning(release, "1.1", 5, &["./app"]), b"");
            assert_eq!(living(root).0, "1.1");
            root.runs_once();
        },
    );
}

#[test]
fn an_update_whose_step_dies_anywhere_is_continued() {
    let die = move |at: u32| {
        let mut root = Root::new("dash");
        let release = release(&root.marker);
        send(&mut root, &release);
        // Longer than a call waits by itself, however slow the machine makes that: it ends when a step waits for it.
        let waits = format!(
            "trap 'until ls -d {}/*/turn; do sleep 0.05; done; sleep 0.1; exit' TERM; exec >/dev/null 2>&1; sleep 1000 & while :; do wait; done",
            root.path(".landfall/steps").display()
        );
        let slow = ["sh", "-c", &waits];
        root.done("turn", &turning(&release, "1.0", 60, &slow), b"");
        let children = format!("/proc/{0}/task/{0}/children", living(&mut root).1);
        // It sleeps: the trap is set.
        until_now("asleep", || std::fs::read_to_string(&children).is_ok_and(|pids| !pids.is_empty()));
        until_now("asleep", || root.running() == 2);
        root.mortal(at);
        root.act("turn", &turning(&release, "1.1", 60, &["./app"]), b"");
        let ticks = std::fs::metadata(root.folder.path().join("count")).map_or(0, |count| count.len());
        root.immortal();
        root.settled();
        root.done("turn", &turning(&release, "1.1", 60, &["./app"]), b"");
        assert_eq!(living(&mut root).0, "1.1", "at {at}");
        root.runs_once();
        let through = ticks < u64::from(at);
        let step = || {
            std::fs::read_dir(root.path(".landfall/steps"))
                .unwrap()
                .flatten()
                .any(|one| one.path().join("turn").exists())
        };
        assert!(!through || step(), "no step was needed");
        through
    };
    for first in (1..100).step_by(8) {
        let lanes: Vec<_> = (first..first + 8).map(|at| std::thread::spawn(move || die(at))).collect();
        let through: Vec<bool> = lanes.into_iter().map(|lane| lane.join().unwrap()).collect();
        if through.contains(&true) {
            assert!(first > 8, "the script was not watched");
            return;
        }
    }
    panic!("it never gets through");
}

#[test]
fn an_update_ends_leftover_children_first() {
    let turned = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let mut root = Root::new(shell);
            let release = release(&root.marker);
            send(&mut root, &release);
            // As whoever starts a server and waits for it: the signal ends the one who waits at once.
            let wraps = ["sh", "-c", "(trap '' TERM; exec sleep 1000) & wait"];
            root.done("turn", &turning(&release, "1.0", 1, &wraps), b"");
            let wrapper = living(&mut root).1;
            until_now(&format!("deaf to TERM under {shell}"), || deaf_child_of(&wrapper));
            root.done("turn", &turning(&release, "1.1", 1, &["./app"]), b"");
            assert_eq!(living(&mut root).0, "1.1", "{shell}");
            root.runs_once();
        })
    });
    for one in turned {
        one.join().unwrap();
    }
}

/// Whether a process has a child that is what it is to become.
fn deaf_child_of(pid: &str) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .any(|child| std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0"))
}

#[test]
fn an_act_of_a_moment_that_is_waited_for_is_looked_at_again() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    root.done("switch", &format!("release={}\n", release.name), b"");
    let answer = root.raw(&root.request("attach", "step=switch\npatience=5\n"), b"");
    assert_eq!(value(&answer, "error"), Some("moved 4"), "{answer}");
}
