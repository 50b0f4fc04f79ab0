//! Tasks: who may begin one, one at a time, and how it ends.

use landfall_host::{records::Journal, task};
use landfall_host_protocol::{Author, Drain, EventKind, FenceToken, Outcome, Reason, Refusal, Secrets, Step, StepName};

use crate::support::{Host, configuration, example, sh, wait_for};

const LONG: Step = Step::Settle { seconds: 600 };
const SHORT: Step = Step::Settle { seconds: 0 };

fn hook(host: &Host, name: &str, command: Vec<String>, timeout_seconds: u32) -> Vec<Step> {
    let one = example("v1.0");
    let stage = host.stage_step(&one, None);
    let config = Box::new(configuration(&["bin/run"]));
    vec![stage, Step::Hook { name: name.to_owned(), release: one.name, config, command, timeout_seconds }]
}

fn cancelled(host: &Host, task: &landfall_host_protocol::Task) {
    task::cancel(&host.folder, &task.id).unwrap();
    assert_eq!(host.end_of(task).outcome, Outcome::Cancelled);
}

#[test]
fn a_second_task_is_refused_while_the_first_runs() {
    let host = Host::new();
    let first = host.task(vec![LONG]);
    assert_eq!(host.begin(&first), Ok(false));
    let open = task::open(&host.folder).unwrap();
    assert!(open.running);
    let second = host.task(vec![SHORT]);
    let Err(Refusal::Busy { task, .. }) = host.begin(&second) else { panic!("it is not busy") };
    assert_eq!(task, first.id);
    cancelled(&host, &first);
    assert_eq!(task::open(&host.folder), None);
    host.succeed(vec![SHORT]);
}

#[test]
fn the_same_task_is_attached_to_and_done_once() {
    let host = Host::new();
    let task = host.task(hook(&host, "migrate", sh("echo once >>../../shared-count"), 10));
    assert_eq!(host.begin(&task), Ok(false));
    assert_eq!(host.begin(&task), Ok(true));
    assert_eq!(host.end_of(&task).outcome, Outcome::Succeeded);
    assert_eq!(host.begin(&task), Ok(true));
    assert_eq!(host.end_of(&task).outcome, Outcome::Succeeded);
    assert_eq!(std::fs::read_to_string(host.folder.path().join("shared-count")).unwrap(), "once\n");
}

#[test]
fn an_old_view_is_refused() {
    let host = Host::new();
    let old = host.task(vec![SHORT]);
    let mut later = old.clone();
    later.id.attempt = 2;
    assert_eq!(host.begin(&later), Ok(false));
    host.end_of(&later);
    assert_eq!(host.begin(&old), Err(Refusal::JournalMoved { now: 2 }));
}

#[test]
fn of_two_operators_the_later_one_acts() {
    let mut host = Host::new();
    host.succeed(vec![SHORT]);
    host.fence.transitions += 1;
    host.succeed(vec![SHORT]);
    host.fence.transitions -= 1;
    assert_eq!(host.begin(&host.task(vec![SHORT])), Err(Refusal::Fenced));
}

#[test]
fn another_control_plane_must_adopt_first() {
    let mut host = Host::new();
    host.succeed(vec![SHORT]);
    let before = host.owner.clone();
    host.fence = FenceToken { epoch: "other".to_owned(), created: 1, transitions: 0 };
    host.owner.control_plane_id = "other".to_owned();
    let refused = Refusal::OtherControlPlane { epoch: "plane".to_owned() };
    assert_eq!(host.begin(&host.task(vec![SHORT])), Err(refused));
    assert_eq!(host.begin(&host.task(vec![Step::Adopt])), Err(Refusal::Claimed { owner: before.clone() }));
    let mut task = host.task(vec![Step::Adopt]);
    task.replaces = Some(before);
    assert_eq!(host.begin(&task), Ok(false));
    host.end_of(&task);
    host.succeed(vec![SHORT]);
}

#[test]
fn a_claim_of_another_deployment_is_refused_until_given_up() {
    let mut host = Host::new();
    host.succeed(vec![SHORT]);
    let ours = host.owner.clone();
    host.owner.deployment = "other".to_owned();
    assert_eq!(host.begin(&host.task(vec![SHORT])), Err(Refusal::Claimed { owner: ours.clone() }));
    let theirs = std::mem::replace(&mut host.owner, ours);
    host.succeed(vec![Step::GiveUp]);
    host.owner = theirs;
    host.succeed(vec![SHORT]);
}

#[test]
fn an_act_by_hand_is_the_last_one_until_something_is_done_to_the_application() {
    let host = Host::new();
    host.succeed(vec![SHORT]);
    let by_hand = || Journal::read(&host.folder).unwrap().by_hand().map(|act| act.reason);
    let mut task = host.task(vec![Step::Stop]);
    task.author = Author::Hand { reason: "heat".to_owned(), user: None };
    assert_eq!(host.begin(&task), Ok(false));
    host.end_of(&task);
    for step in [SHORT, Step::GiveUp, Step::Adopt] {
        host.succeed(vec![step]);
        assert_eq!(by_hand().as_deref(), Some("heat"));
    }
    host.succeed(vec![Step::Stop]);
    assert_eq!(by_hand(), None);
}

#[test]
fn a_task_ends_between_its_steps_when_cancelled() {
    let host = Host::new();
    let mut steps = hook(&host, "slow", sh("touch ../../begun; while [ ! -e ../../go ]; do sleep 0.01; done"), 60);
    steps.push(Step::GiveUp);
    let task = host.task(steps);
    assert_eq!(host.begin(&task), Ok(false));
    wait_for("the hook", || host.folder.path().join("begun").exists().then_some(()));
    task::cancel(&host.folder, &task.id).unwrap();
    std::fs::write(host.folder.path().join("go"), "").unwrap();
    assert_eq!(host.end_of(&task).outcome, Outcome::Cancelled);
    assert!(host.folder.owner().exists(), "the step after it was not done");
    let unknown = host.task(vec![SHORT]);
    assert!(matches!(task::cancel(&host.folder, &unknown.id), Err(Refusal::NotFound { .. })));
}

#[test]
fn a_failed_hook_shows_its_last_lines() {
    let host = Host::new();
    let command = sh("echo one; printf '\\033[31mtwo\\n' >&2; exit 3");
    let task = host.task(hook(&host, "migrate", command, 10));
    assert_eq!(host.begin(&task), Ok(false));
    let Outcome::Failed(failure) = host.end_of(&task).outcome else { panic!("it succeeded") };
    assert_eq!((failure.step, failure.reason), (StepName::Hook, Reason::HookFailed));
    assert!(failure.why.contains("exit status 3"), "{}", failure.why);
    let mut lines = failure.lines;
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    let events = host.events(&task);
    assert!(events.contains(&(StepName::Hook, EventKind::Line { stream: 2, text: "two".to_owned() })));
}

#[test]
fn a_hook_that_takes_too_long_is_ended_with_its_group() {
    let host = Host::new();
    let command = sh("trap '' TERM; sleep 1000 & echo $! >../../pid; wait; sleep 1000");
    let failure = host.fail(hook(&host, "hangs", command, 1), StepName::Hook, Reason::HookFailed);
    assert!(failure.why.contains("within 1 s"), "{}", failure.why);
    let pid = std::fs::read_to_string(host.folder.path().join("pid")).unwrap();
    wait_for("the end of its child", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

#[test]
fn a_hook_with_a_child_left_behind_ends_all_the_same() {
    let host = Host::new();
    let task = host.succeed(hook(&host, "leaves", sh("sleep 20 & echo done"), 10));
    assert_eq!(host.lines(&task), ["done"]);
}

#[test]
fn secret_values_reach_the_hook_and_no_file() {
    use landfall_host_protocol::{EnvValue, EnvVar};
    let host = Host::new();
    let mut steps = hook(&host, "migrate", sh("case $PASSWORD in hunter2-can?ry) echo works ;; esac"), 10);
    if let Some(Step::Hook { config, .. }) = steps.last_mut() {
        config.env.push(EnvVar { name: "PASSWORD".to_owned(), value: EnvValue::Secret("password".to_owned()) });
    }
    let task = host.task(steps);
    let secrets = Secrets([("password".to_owned(), "hunter2-canary".into())].into());
    assert_eq!(host.try_begin(&task, &secrets), Some(Ok(false)));
    assert_eq!(host.end_of(&task).outcome, Outcome::Succeeded);
    assert_eq!(host.lines(&task), ["works"]);
    let found = std::process::Command::new("grep").args(["-r", "canary"]).arg(&host.root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_drain_is_undone_when_its_task_ends_early() {
    let host = Host::new();
    let drain =
        Drain::Exec { command: sh("echo drained >>drains"), undo: sh("echo undone >>drains"), timeout_seconds: 10 };
    let drains = || std::fs::read_to_string(host.folder.path().join("drains")).unwrap();
    let task = host.task(vec![Step::Drain(drain.clone()), LONG]);
    assert_eq!(host.begin(&task), Ok(false));
    wait_for("the drain", || (task::open(&host.folder)?.step == "settle").then_some(()));
    cancelled(&host, &task);
    assert_eq!(drains(), "drained\nundone\n");
    let journal = Journal::read(&host.folder).unwrap();
    assert_eq!(journal.number(), 3, "begin, undo and end have a line each");
    assert!(!task::is_undo_due(&host.folder));

    host.succeed(vec![Step::Drain(drain)]);
    assert_eq!(drains(), "drained\nundone\ndrained\n");
}

#[test]
fn what_a_person_did_on_the_host_is_told() {
    let host = Host::new();
    let mut task = host.task(vec![Step::Stop]);
    task.author = Author::Hand { reason: "all else is down".to_owned(), user: Some("ada".to_owned()) };
    assert_eq!(host.begin(&task), Ok(false));
    host.end_of(&task);
    let by_hand = Journal::read(&host.folder).unwrap().by_hand().unwrap();
    assert_eq!((by_hand.act.as_str(), by_hand.reason.as_str()), ("stop", "all else is down"));
}

#[test]
fn a_removed_folder_is_gone_and_the_end_is_told() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None), Step::Switch { release: one.name.clone() }]);
    let outside = host.root.parent().unwrap().join("outside");
    std::fs::write(&outside, "kept").unwrap();
    std::fs::create_dir_all(host.folder.shared().join("data")).unwrap();
    std::os::unix::fs::symlink(&outside, host.folder.shared().join("data/link")).unwrap();
    let task = host.task(vec![Step::Stop, Step::Remove]);
    assert_eq!(host.begin(&task), Ok(false));
    let result = host.end_of(&task);
    assert_eq!((result.outcome, result.journal), (Outcome::Succeeded, 0));
    wait_for("the end of its files", || {
        let trash = std::fs::read_dir(host.root.join(".landfall/trash")).unwrap().count();
        (!host.folder.path().exists() && trash == 0).then_some(())
    });
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "kept");

    let again = host.task(vec![Step::Remove]);
    assert_eq!(host.begin(&again), Ok(false));
    assert_eq!(host.end_of(&again).journal, 0);
    assert!(!host.folder.path().exists());
}

/// Begins a task in surroundings in which `source` is mounted at `place` as well, as an administrator does.
fn run_with_mount(host: &Host, steps: Vec<Step>, source: &std::path::Path, place: &std::path::Path) -> Outcome {
    let task = host.task(steps);
    let script = "mount --bind \"$1\" \"$2\" && exec \"$0\" begin-task \"$3\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", script, env!("CARGO_BIN_EXE_landfall-host")]);
    command.args([source, place, &host.root]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &(&task, Secrets::default())).unwrap();
    assert!(child.wait().unwrap().success());
    host.end_of(&task).outcome
}

#[test]
fn what_is_mounted_in_a_folder_is_never_emptied() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None)]);
    let uploads = host.root.parent().unwrap().join("uploads");
    std::fs::create_dir_all(uploads.join("below")).unwrap();
    std::fs::write(uploads.join("below/kept"), "").unwrap();
    let data = host.folder.shared().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let Outcome::Failed(failure) = run_with_mount(&host, vec![Step::Remove], &uploads, &data) else { panic!() };
    assert!(failure.why.contains("shared/data is a mount"), "{failure:?}");
    assert!(uploads.join("below/kept").exists() && host.folder.path().exists());

    let lib = host.folder.release(&one.name).join("lib");
    let outcome = run_with_mount(&host, vec![Step::Prune { keep: vec![], at_most: 0 }], &uploads, &lib);
    assert_eq!(outcome, Outcome::Succeeded);
    assert!(uploads.join("below/kept").exists());
    host.succeed(vec![Step::Remove]);
}

#[test]
fn a_host_that_leaves_and_comes_again_in_one_attempt_is_acted_on() {
    let host = Host::new();
    // Its place is removed before anything was there, and then twice after something was: the ids are the same each time.
    let nothing = host.task(vec![Step::Remove]);
    assert_eq!(host.begin(&nothing), Ok(false));
    for _ in 0..2 {
        host.succeed(vec![SHORT]);
        let task = host.task(vec![Step::Remove]);
        assert_eq!((task.id.n, host.begin(&task)), (2, Ok(false)));
        assert_eq!(host.end_of(&task).outcome, Outcome::Succeeded);
        assert!(!host.folder.path().exists());
    }
}

#[test]
fn old_task_folders_are_collected() {
    let host = Host::new();
    for _ in 0..14 {
        host.succeed(vec![SHORT]);
    }
    wait_for("ten folders", || (std::fs::read_dir(host.folder.tasks()).unwrap().count() <= 10).then_some(()));
}

#[test]
fn a_task_that_means_nothing_is_refused() {
    let host = Host::new();
    for steps in [vec![], vec![Step::Remove, SHORT], vec![SHORT; 65]] {
        assert!(matches!(host.begin(&host.task(steps)), Err(Refusal::BadInput { .. })));
    }
    let mut task = host.task(vec![SHORT]);
    task.folder = landfall_host_protocol::FolderName::new("other", "web");
    // The folder that is named is another one, and nothing is made in ours.
    assert_eq!(host.begin(&task), Ok(false));
    assert!(!host.folder.path().exists());
}

#[test]
fn bytes_that_did_not_come_are_named() {
    let host = Host::new();
    let one = example("v1.0");
    let step = host.stage_step(&one, None);
    std::fs::remove_dir_all(host.folder.dot().join("incoming")).unwrap();
    let Err(Refusal::Missing { digests }) = host.begin(&host.task(vec![step])) else { panic!("nothing is missing") };
    assert_eq!(digests.len(), 2);
}
