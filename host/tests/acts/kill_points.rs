//! Every durable effect of a task, with the process killed just before it and just after it, with the power lost there (what was not
//! synced is gone, and the next boot has another id), and with a disk that has no room for it. The operator then goes on as from any facts, with a new task, and the end
//! is the same.
//!
//! `make test` takes one point of every effect by `LANDFALL_SEED`; `LANDFALL_NIGHT=1` all of them; `LANDFALL_POINT=order.write` those whose
//! words hold this.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use landfall_host::{records, runtime, steps::staged, task, unsynced};
use landfall_host_protocol::{Drain, FolderFacts, Outcome, Reason, Refusal, Secrets, Step};

use crate::support::{Host, TestRelease, configuration, example, sh, start_step, tree, wait_for};

/// One task, and what is there before it.
struct Story {
    prepare: fn(&Host),
    /// As the operator plans it from what it sees.
    steps: fn(&Host) -> Vec<Step>,
    /// The folder is there at the end.
    stays: bool,
}

/// A place where a process dies.
#[derive(Clone, Debug)]
struct Point {
    command: String,
    name: String,
    count: usize,
    after: bool,
    /// What was not synced is lost.
    power: bool,
}

impl Point {
    fn kill(&self) -> String {
        let when = if self.after { "after" } else { "before" };
        format!("{}/{}:{}:{when}", self.command, self.name, self.count)
    }

    fn nowhere() -> Self {
        Self { command: String::new(), name: String::new(), count: 0, after: false, power: true }
    }

    /// The runner lives on: with the power lost it would not.
    fn leaves_the_runner(&self) -> bool {
        self.name == "secrets.handOver" || (self.name == "runner.spawn" && self.after)
    }

    /// What was started is ended by the crash itself, or who starts it is.
    fn may_start_again(&self) -> bool {
        self.power || self.command == "keep" || self.command == "launch"
    }

    /// The effect was done, and is not on record yet.
    fn may_repeat_the_hook(&self) -> bool {
        // Between its start and the record that it is done.
        let runs = self.name == "command.write" || (self.name == "hook.run" && self.after);
        runs || (self.name == "hooks.write" && (!self.after || self.power))
    }
}

fn seed() -> u64 {
    let given = std::env::var("LANDFALL_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()))
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Runs the task once and lists its effects.
fn list(story: &Story) -> (Vec<(String, String)>, Vec<String>) {
    let mut host = Host::new();
    (story.prepare)(&host);
    let log = host.root.parent().unwrap().join("log");
    host.environment = vec![("LANDFALL_HOST_GATE_LOG", log.display().to_string())];
    let task = host.task((story.steps)(&host));
    assert_eq!(host.begin(&task), Ok(false));
    assert_eq!(host.end_of(&task).outcome, Outcome::Succeeded, "{:#?}", host.events(&task));
    settled(&host);
    let effects = std::fs::read_to_string(log).unwrap();
    let effects = effects.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[2].to_owned(), words[0].to_owned())
    });
    (effects.collect(), end(&host))
}

/// No process of ours is left: the one that was to be killed may have a moment to live.
fn settled(host: &Host) {
    let is_running = || task::open(&host.folder).is_some_and(|open| open.running);
    wait_for("the end of the runner", || (host.processes().is_empty() && !is_running()).then_some(()));
}

/// Everything that counts: not inodes, times, numbers of the journal and old tasks.
fn end(host: &Host) -> Vec<String> {
    let folder = &host.folder;
    if !folder.path().exists() {
        return vec!["gone".to_owned()];
    }
    let mut end = tree(&folder.releases());
    end.push(format!("current {:?}", std::fs::read_link(folder.current()).ok()));
    end.push(format!("staged {:?}", staged::list(folder)));
    for (name, _) in staged::list(folder) {
        end.push(format!("tampered {name} {:?}", staged::tampered(folder, &name)));
    }
    end.push(format!("owner {:?}", records::owner::read(folder).unwrap()));
    end.push(format!("fence {:?}", records::fence::read(folder).unwrap()));
    end.push(format!("open {:?}", task::open(folder)));
    end.push(format!("undo {}", task::is_undo_due(folder)));
    end.push(format!("tmp {:?}", names(&folder.dot().join("tmp"))));
    let mut facts = FolderFacts::default();
    runtime::recorded(folder).observe(folder, &mut facts);
    let process = facts.process.map(|process| (process.digest, process.state, process.ready));
    end.push(format!("process {process:?}, keeper {}", facts.keeper.is_some()));
    end.push(format!("{} applications", host.applications().len()));
    end.push(format!("service {:?}", last_line(&folder.path().join("drains"))));
    end
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn last_line(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()?.lines().last().map(str::to_owned)
}

fn hooks(host: &Host) -> usize {
    std::fs::read_to_string(host.folder.path().join("hooks")).unwrap_or_default().lines().count()
}

/// How often the second version was started.
fn starts(host: &Host) -> usize {
    let text = std::fs::read_to_string(host.folder.path().join("starts")).unwrap_or_default();
    text.lines().filter(|line| *line == "v2.0").count()
}

/// Kills there, and lets the operator go on.
fn crash(story: &Story, point: &Point, expected: &[String]) {
    let mut host = Host::new();
    if point.power {
        host.environment = vec![an_earlier_boot()];
    }
    (story.prepare)(&host);
    let before = hooks(&host);
    let notes = host.root.parent().unwrap().join("notes");
    std::fs::create_dir(&notes).unwrap();
    let steps = (story.steps)(&host);
    host.environment.push(("LANDFALL_HOST_KILL", point.kill()));
    if point.power {
        host.environment.push(("LANDFALL_HOST_UNSYNCED", notes.display().to_string()));
    }
    let task = host.task(steps);
    let begun = host.try_begin(&task, &Secrets::default());
    assert_eq!(begun.is_none(), point.command == "begin-task", "{point:?}: {begun:?}");
    settled(&host);
    if point.power {
        host.kill_everything();
        unsynced::roll_back(&notes).unwrap();
    }
    host.environment.clear();

    go_on(story, &host, point);
    assert_eq!(end(&host), expected, "{point:?}");
    let done = hooks(&host) - before;
    let most = if point.may_repeat_the_hook() { 2 } else { 1 };
    assert!(!story.stays || done <= most, "{point:?}: the hook ran {done} times");
    let started = starts(&host);
    assert!(started <= 1 || point.may_start_again(), "{point:?}: it was started {started} times");
}

/// Lets the effect fail as on a full disk, beyond a quota and on a disk that became read-only; then there is room again.
fn refuse(story: &Story, point: &Point, errno: rustix::io::Errno, expected: &[String]) {
    let mut host = Host::new();
    (story.prepare)(&host);
    let steps = (story.steps)(&host);
    let kill = format!("{}/{}:{}:{}", point.command, point.name, point.count, errno.raw_os_error());
    host.environment = vec![("LANDFALL_HOST_KILL", kill)];
    let task = host.task(steps);
    match host.try_begin(&task, &Secrets::default()).unwrap() {
        Ok(_) => {
            match host.end_of(&task).outcome {
                Outcome::Failed(failure) => assert_reason(&failure, errno, point),
                Outcome::Succeeded => {}
                Outcome::Cancelled => panic!("{point:?}: nobody cancelled it"),
                Outcome::Unknown(_) => panic!("{point:?}: no program says that"),
            }
            settled(&host);
        }
        Err(Refusal::Full(full)) => assert_eq!(full.quota, errno == rustix::io::Errno::DQUOT, "{point:?}"),
        Err(Refusal::Unsupported { .. }) => assert_eq!(errno, rustix::io::Errno::ROFS, "{point:?}"),
        // The process that was to run it could not be started.
        Err(Refusal::Failed { .. }) if point.name == "runner.spawn" => {}
        Err(refusal) => panic!("{point:?}: {refusal:?}"),
    }
    host.environment.clear();
    go_on(story, &host, point);
    assert_eq!(end(&host), expected, "{point:?} {errno:?}");
}

fn assert_reason(failure: &landfall_host_protocol::Failure, errno: rustix::io::Errno, point: &Point) {
    if point.name == "secrets.handOver" {
        return;
    }
    let (reason, full) = match errno {
        rustix::io::Errno::ROFS => (Reason::HostUnsupported, false),
        _ => (Reason::DiskFull, true),
    };
    assert_eq!((failure.reason, failure.full.is_some()), (reason, full), "{point:?}: {failure:?}");
}

/// Whoever looks after the loss of power is in another boot.
fn an_earlier_boot() -> (&'static str, String) {
    ("LANDFALL_HOST_BOOT_ID", "of-the-boot-before".to_owned())
}

/// What a task that has ended did is on the disk: a loss of power takes nothing of it.
fn lose_power_after_the_end(story: &Story, expected: &[String]) {
    let mut host = Host::new();
    host.environment = vec![an_earlier_boot()];
    (story.prepare)(&host);
    let notes = host.root.parent().unwrap().join("notes");
    std::fs::create_dir(&notes).unwrap();
    host.environment.push(("LANDFALL_HOST_UNSYNCED", notes.display().to_string()));
    let (task, outcome) = host.run((story.steps)(&host));
    assert_eq!(outcome, Outcome::Succeeded);
    settled(&host);
    let starts = starts(&host);
    host.kill_everything();
    unsynced::roll_back(&notes).unwrap();
    host.environment.clear();
    if starts > 0 {
        // Nobody starts it but the operator.
        go_on(story, &host, &Point::nowhere());
    }
    assert_eq!(end(&host), expected, "power lost after the end");
    assert_eq!(task::result(&host.folder, &task.id).map(|result| result.outcome), Some(outcome));
}

/// As the operator does: it looks, and asks for what is missing.
fn go_on(story: &Story, host: &Host, point: &Point) {
    for _ in 0..5 {
        let task = host.task((story.steps)(host));
        match host.begin(&task) {
            Ok(_) => {
                let outcome = host.end_of(&task).outcome;
                assert_eq!(outcome, Outcome::Succeeded, "{point:?}: {:#?}", host.events(&task));
                return settled(host);
            }
            Err(Refusal::Busy { .. } | Refusal::JournalMoved { .. }) => {}
            Err(refusal) => panic!("{point:?}: {refusal:?}"),
        }
    }
    panic!("{point:?}: the operator does not come to an end");
}

fn run(story: &Story) {
    let (effects, expected) = list(story);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut all = Vec::new();
    for (command, name) in effects {
        let count = counts.entry((command.clone(), name.clone())).or_default();
        *count += 1;
        for (after, power) in [(false, false), (true, false), (false, true), (true, true)] {
            let point = Point { command: command.clone(), name: name.clone(), count: *count, after, power };
            if !(power && point.leaves_the_runner()) {
                all.push(point);
            }
        }
    }
    let mut state = seed();
    println!("LANDFALL_SEED={state}, {} points", all.len());
    if let Ok(wanted) = std::env::var("LANDFALL_POINT") {
        all.retain(|point| format!("{point:?}").contains(&wanted));
    } else if std::env::var_os("LANDFALL_NIGHT").is_none() {
        all.sort_by_cached_key(|_| next(&mut state));
        let mut taken = BTreeSet::new();
        all.retain(|point| taken.insert((point.command.clone(), point.name.clone())));
    }
    lose_power_after_the_end(story, &expected);
    for point in all {
        crash(story, &point, &expected);
        if !point.after && !point.power {
            let errors = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT, rustix::io::Errno::ROFS];
            let chosen = usize::try_from(next(&mut state) % 3).unwrap();
            refuse(story, &point, errors[chosen], &expected);
        }
    }
}

fn one() -> TestRelease {
    example("v1.0")
}

fn two() -> TestRelease {
    example("v2.0")
}

fn hook(release: &TestRelease) -> Step {
    Step::Hook {
        name: "migrate".to_owned(),
        release: release.name.clone(),
        config: Box::new(configuration(&["bin/run"])),
        command: sh("echo ran >>../../hooks"),
        timeout_seconds: 60,
    }
}

fn drain() -> Step {
    Step::Drain(Drain::Exec {
        command: sh("echo drained >>../../drains"),
        undo: sh("echo undone >>../../drains"),
        timeout_seconds: 60,
    })
}

fn switch(release: &TestRelease) -> Step {
    Step::Switch { release: release.name.clone() }
}

fn first_is_there(host: &Host) {
    host.succeed(vec![host.stage_step(&one(), None), switch(&one())]);
}

#[test]
fn a_first_release_comes_to_the_same_end() {
    run(&Story { prepare: |_| {}, steps: |host| vec![host.stage_step(&one(), None), switch(&one())], stays: true });
}

#[test]
fn an_update_comes_to_the_same_end() {
    run(&Story {
        prepare: first_is_there,
        steps: |host| {
            vec![
                host.stage_step(&two(), Some(&one())),
                hook(&two()),
                drain(),
                Step::Settle { seconds: 0 },
                Step::Stop,
                switch(&two()),
                Step::Prune { keep: vec![], at_most: 1 },
            ]
        },
        stays: true,
    });
}

#[test]
fn mending_a_tampered_release_comes_to_the_same_end() {
    run(&Story {
        prepare: |host| {
            first_is_there(host);
            std::fs::write(host.folder.release(&one().name).join("lib/version"), "v9.9").unwrap();
        },
        steps: |host| vec![host.stage_step(&one(), None), switch(&one())],
        stays: true,
    });
}

#[test]
fn giving_up_comes_to_the_same_end() {
    run(&Story { prepare: first_is_there, steps: |_| vec![Step::GiveUp], stays: true });
}

#[test]
fn removing_comes_to_the_same_end() {
    run(&Story { prepare: first_is_there, steps: |_| vec![Step::Stop, Step::Remove], stays: false });
}

#[test]
fn taking_over_a_folder_comes_to_the_same_end() {
    run(&Story {
        prepare: |host| {
            first_is_there(host);
            // Of another control plane, in the shell helper's time.
            std::fs::write(host.folder.fence(), "other 99 9\n").unwrap();
            std::fs::write(host.folder.owner(), "plane shop web uid-1 h1\n").unwrap();
        },
        steps: |_| vec![Step::Adopt],
        stays: true,
    });
}

fn first_runs(host: &Host) {
    let start = Step::Start(Box::new(start_step(&one())));
    host.succeed(vec![host.stage_step(&one(), None), switch(&one()), start, Step::WaitReady { timeout_seconds: 60 }]);
}

#[test]
fn an_update_of_what_runs_comes_to_the_same_end() {
    run(&Story {
        prepare: first_runs,
        steps: |host| {
            vec![
                host.stage_step(&two(), Some(&one())),
                hook(&two()),
                drain(),
                Step::Stop,
                switch(&two()),
                Step::Start(Box::new(start_step(&two()))),
                Step::WaitReady { timeout_seconds: 60 },
                Step::MinReady { seconds: 0 },
                Step::Prune { keep: vec![], at_most: 1 },
            ]
        },
        stays: true,
    });
}

#[test]
fn removing_what_runs_comes_to_the_same_end() {
    run(&Story { prepare: first_runs, steps: |_| vec![Step::Remove], stays: false });
}
