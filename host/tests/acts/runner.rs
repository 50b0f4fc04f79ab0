//! The runner: it outlives whoever began it, and what is left where it dies itself.

use std::process::Command;

use landfall_host::{keeper, process, records, records::Journal, runtime, task};
use landfall_host_protocol::{Drain, EventKind, Outcome, Reason, Secrets, Step, StepName, Task};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Host, example, sh, start_step, wait_for};

fn drain() -> Step {
    Step::Drain(Drain::Exec {
        command: sh("echo drained >>drains"),
        undo: sh("echo undone >>drains"),
        timeout_seconds: 60,
    })
}

fn drains(host: &Host) -> String {
    std::fs::read_to_string(host.folder.path().join("drains")).unwrap_or_default()
}

/// A task that has drained and waits.
fn draining(host: &Host) -> Task {
    let task = host.task(vec![drain(), Step::Settle { seconds: 600 }]);
    assert_eq!(host.begin(&task), Ok(false));
    wait_for("the drain", || (task::open(&host.folder)?.step == "settle").then_some(()));
    task
}

fn runner(host: &Host) -> i32 {
    let found = host.processes();
    assert_eq!(found.len(), 1, "one process runs the task");
    found[0]
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn kill_runner(host: &Host) {
    kill(runner(host));
    let is_running = || task::open(&host.folder).is_some_and(|open| open.running);
    wait_for("the end of the runner", || (!is_running()).then_some(()));
}

#[test]
fn the_runner_is_in_a_session_of_its_own() {
    let host = Host::new();
    let task = draining(&host);
    let pid = runner(&host);
    let stat = process::Stat::read(pid).unwrap();
    assert_eq!(stat.session, pid);
    for descriptor in ["0", "1"] {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
        assert_eq!(target, std::path::Path::new("/dev/null"), "no pipe of who began it is held");
    }
    task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
}

#[test]
fn a_runner_begun_from_within_an_application_is_none_of_its_processes() {
    let mut host = Host::new();
    host.environment = vec![(process::MARK, "0123".to_owned())];
    let task = draining(&host);
    let environ = std::fs::read(format!("/proc/{}/environ", runner(&host))).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains(process::MARK));
    task::cancel(&host.folder, &task.id).unwrap();
    host.end_of(&task);
}

#[test]
fn a_dead_runner_is_seen_and_a_new_task_goes_on() {
    let host = Host::new();
    let dead = draining(&host);
    kill_runner(&host);
    let open = task::open(&host.folder).unwrap();
    assert_eq!((open.id.clone(), open.step.as_str(), open.running), (dead.id.clone(), "settle", false));
    let Outcome::Failed(failure) = host.end_of(&dead).outcome else { panic!("it did not fail") };
    assert_eq!((failure.step, failure.reason), (StepName::Settle, Reason::Lost));
    // The same task is not done again; the next one is.
    assert_eq!(host.begin(&dead), Ok(true));
    host.succeed(vec![drain(), Step::Stop]);
    assert_eq!(drains(&host), "drained\ndrained\n", "what the next task drains again is not undone in between");
    assert!(!task::is_undo_due(&host.folder));
}

#[test]
fn a_drain_of_a_dead_runner_is_undone_by_the_next_task() {
    let host = Host::new();
    draining(&host);
    kill_runner(&host);
    host.succeed(vec![Step::Settle { seconds: 0 }]);
    assert_eq!(drains(&host), "drained\nundone\n");
}

#[test]
fn a_drain_of_a_dead_runner_is_undone_without_a_next_task() {
    let host = Host::new();
    let dead = draining(&host);
    assert!(!task::is_undo_due(&host.folder), "its runner lives");
    let undo = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-host"));
        assert!(
            command
                .args(["undo-task".as_ref(), host.root.as_os_str(), "shop.web".as_ref()])
                .status()
                .unwrap()
                .success()
        );
    };
    undo();
    assert_eq!(drains(&host), "drained\n", "it is left alone");
    kill_runner(&host);
    assert!(task::is_undo_due(&host.folder));
    undo();
    undo();
    assert_eq!(drains(&host), "drained\nundone\n");
    assert!(!task::is_undo_due(&host.folder));
    assert_eq!(task::open(&host.folder), None, "its end is journaled");
    let Outcome::Failed(failure) = host.end_of(&dead).outcome else { panic!("it did not fail") };
    assert_eq!(failure.reason, Reason::Lost);
    assert_eq!(Journal::read(&host.folder).unwrap().number(), 3);
}

/// What undoes is a child of the keeper's, and so is in the end what that starts.
#[test]
fn who_undoes_is_none_of_the_application_above_which_its_keeper_stands() {
    let host = Host::new();
    let one = example("v1.0");
    let start = Step::Start(Box::new(start_step(&one)));
    host.succeed(vec![host.stage_step(&one, None), Step::Switch { release: one.name.clone() }, start]);
    let undo = sh("(setsid sleep 1000 & echo $! >>../../undoing); echo $$ >>../../undoing; exec sleep 1001");
    let drain = Step::Drain(Drain::Exec { command: sh("true"), undo, timeout_seconds: 600 });
    let dead = host.task(vec![drain, Step::Settle { seconds: 600 }]);
    assert_eq!(host.begin(&dead), Ok(false));
    wait_for("the drain", || (task::open(&host.folder)?.step == "settle").then_some(()));
    kill_runner(&host);
    let undoes: Vec<process::Identity> = wait_for("its undo by the keeper", || {
        let text = std::fs::read_to_string(host.folder.path().join("undoing")).unwrap_or_default();
        let pids: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
        (pids.len() == 2).then(|| pids.into_iter().map(|pid| process::Identity::of(pid).unwrap()).collect())
    });
    let keeper = keeper::State::read(&host.folder).unwrap().unwrap().keeper.unwrap();
    let below = process::descendants(keeper.identity.pid);
    assert!(undoes.iter().all(|process| below.contains(process)));
    let live = || undoes.iter().all(|process| matches!(process::find(process), process::Found::Alive(_)));

    let runs = || {
        let state = keeper::State::read(&host.folder).ok()??;
        (state.phase == keeper::Phase::Running).then_some((state.application?.pid, state.restarts))
    };
    kill(runs().unwrap().0);
    wait_for("its next start, which waits for no undo", || runs().filter(|(_, restarts)| *restarts == 1));
    assert!(live());
    runtime::recorded(&host.folder).stop(&host.folder).unwrap();
    assert!(live());
    // The commands of a drain run in the release as well.
    let mut pids: Vec<i32> = undoes.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    assert_eq!(host.applications(), pids);
}

fn undo_command(host: &Host) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-host"));
    command.arg("undo-task").arg(&host.root).arg("shop.web");
    command
}

#[test]
fn an_undo_that_comes_late_leaves_the_drain_of_the_next_task() {
    let host = Host::new();
    draining(&host);
    kill_runner(&host);
    let record = host.folder.dot().join("undo");
    let old = std::fs::read(&record).unwrap();
    let next = draining(&host);
    assert_eq!(drains(&host), "drained\ndrained\n");
    // As one sees it that read the record before the next task began.
    std::fs::write(&record, &old).unwrap();
    assert!(undo_command(&host).status().unwrap().success());
    assert_eq!(drains(&host), "drained\ndrained\n");
    assert_eq!(std::fs::read(&record).unwrap(), old);
    task::cancel(&host.folder, &next.id).unwrap();
    host.end_of(&next);
}

#[test]
fn an_undo_waits_for_whoever_begins_or_looks() {
    let host = Host::new();
    let dead = draining(&host);
    kill_runner(&host);
    let begins = records::Lock::take(&host.folder, "begins a task").unwrap();
    let mut undo = undo_command(&host).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(drains(&host), "drained\n", "nothing is undone while a task may begin");
    let looks = std::fs::File::open(host.folder.task(&dead.id).join("lock")).unwrap();
    rustix::fs::flock(&looks, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
    drop(begins);
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop(looks);
    assert!(undo.wait().unwrap().success());
    assert_eq!(drains(&host), "drained\nundone\n");
}

/// A task whose hook says that it begins and ends, and ends once it is told to.
fn migrating(host: &Host, steps: Vec<Step>, timeout_seconds: u32) -> Task {
    let one = crate::support::example("v1.0");
    let command = sh("echo begin >>../../hooks; while [ ! -e ../../go ]; do sleep 0.01; done; echo end >>../../hooks");
    let config = Box::new(crate::support::configuration(&["bin/run"]));
    let hook = Step::Hook { name: "migrate".to_owned(), release: one.name.clone(), config, command, timeout_seconds };
    let mut all = vec![host.stage_step(&one, None), hook];
    all.extend(steps);
    let task = host.task(all);
    assert_eq!(host.begin(&task), Ok(false));
    task
}

fn hooks(host: &Host) -> String {
    std::fs::read_to_string(host.folder.path().join("hooks")).unwrap_or_default()
}

#[test]
fn no_hook_runs_beside_one_that_a_dead_runner_left() {
    let host = Host::new();
    migrating(&host, vec![], 60);
    wait_for("the hook", || (hooks(&host) == "begin\n").then_some(()));
    kill_runner(&host);
    let next = migrating(&host, vec![], 60);
    wait_for("the next runner", || {
        let waits = |kind: &EventKind| matches!(kind, EventKind::Progress { text } if text.contains("runner died"));
        let is_waiting = host.events(&next).iter().any(|(_, kind)| waits(kind));
        (is_waiting || hooks(&host) != "begin\n").then_some(())
    });
    assert_eq!(hooks(&host), "begin\n");
    std::fs::write(host.folder.path().join("go"), "").unwrap();
    assert_eq!(host.end_of(&next).outcome, Outcome::Succeeded);
    assert_eq!(hooks(&host), "begin\nend\nbegin\nend\n");
    assert!(!host.folder.dot().join("command").exists());
}

#[test]
fn a_hook_that_a_dead_runner_left_is_ended_when_its_time_is_over() {
    let host = Host::new();
    migrating(&host, vec![], 1);
    wait_for("the hook", || (hooks(&host) == "begin\n").then_some(()));
    kill_runner(&host);
    assert!(!host.applications().is_empty(), "the hook lives on");
    host.succeed(vec![Step::Settle { seconds: 0 }]);
    wait_for("the end of the hook", || host.applications().is_empty().then_some(()));
    assert_eq!(hooks(&host), "begin\n");
}

#[test]
fn a_runner_without_its_secrets_does_nothing() {
    let mut host = Host::new();
    host.environment = vec![("LANDFALL_HOST_KILL", "begin-task/secrets.handOver:1:before".to_owned())];
    let task = host.task(vec![drain()]);
    assert_eq!(host.try_begin(&task, &Secrets::default()), None);
    let Outcome::Failed(failure) = host.end_of(&task).outcome else { panic!("it did not fail") };
    assert_eq!(failure.reason, Reason::Lost);
    assert_eq!(drains(&host), "");
}

#[test]
fn a_holder_of_the_lock_that_is_stuck_is_ended_by_a_later_operator() {
    let mut host = Host::new();
    host.succeed(vec![Step::Settle { seconds: 0 }]);
    // Stopped while it holds the lock, as on a machine that was suspended.
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-host"));
    let holder = command
        .arg("begin-task")
        .arg(&host.root)
        .env("LANDFALL_HOST_KILL", "begin-task/journal.append:1:stop")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut holder = holder.unwrap();
    let input = (host.task(vec![Step::Settle { seconds: 0 }]), Secrets::default());
    serde_json::to_writer(holder.stdin.take().unwrap(), &input).unwrap();
    let pid = i32::try_from(holder.id()).unwrap();
    wait_for("the stopped holder", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ").then_some(())
    });

    host.fence.transitions += 1;
    host.succeed(vec![Step::Settle { seconds: 0 }]);
    assert!(!holder.wait().unwrap().success());
    assert_eq!(records::fence::read(&host.folder).unwrap(), Some(host.fence.clone()));
}
