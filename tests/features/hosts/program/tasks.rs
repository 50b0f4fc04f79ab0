//! Tasks over SSH: the work on the host goes on whatever becomes of the connection.

use landfall::effects::program::{LogPart, PutOptions, TaskNews, TaskStream};
use landfall_host_protocol::{
    Event, EventKind, FolderFacts, Outcome, ProcessState, Refusal, Secrets, Step, StepName, TaskResult,
};

use super::{
    application::{Version, task},
    *,
};
use crate::support::wait::until;

async fn bring(program: &Program, version: &Version) {
    for (sha256, size, payload) in [&version.manifest, &version.bundle] {
        program.put(&gate(), &folder(), sha256, *size, payload, &PutOptions::default()).await.unwrap();
    }
}

/// Listens to the end; events must be contiguous.
async fn end(stream: &mut TaskStream) -> (Vec<Event>, TaskResult, Option<FolderFacts>) {
    let mut all = Vec::new();
    let mut next = stream.offset();
    loop {
        match stream.next().await.unwrap().expect("an end") {
            TaskNews::Events { offset, events } => {
                assert_eq!(offset, next);
                next += events.len() as u64;
                all.extend(events);
            }
            TaskNews::Ended { result, folder } => return (all, result, folder.map(|folder| *folder)),
        }
    }
}

async fn run(program: &Program, n: u64, steps: Vec<Step>) -> (Vec<Event>, TaskResult, Option<FolderFacts>) {
    let task = task(&folder(), "web-01", n, steps);
    let mut stream = program.begin(&gate(), &task, &Secrets::default()).await.unwrap();
    end(&mut stream).await
}

fn deploy(version: &Version) -> Vec<Step> {
    std::iter::once(version.stage()).chain(version.update()).collect()
}

async fn page(host: &Host) -> String {
    host.sh("busybox wget -q -O - http://127.0.0.1:8080/").await
}

#[tokio::test]
async fn a_release_comes_up_and_the_next_one_replaces_it() {
    let rack = Hosts::up_with(1, &["--user", "deploy"]).await;
    rack.host(0).sh("mkdir /srv/landfall; chown deploy /srv/landfall").await;
    let (program, ..) = connect(&rack).await;
    let local = tempfile::tempdir().unwrap();
    let first = Version::pack(local.path(), "v1", 300_000, None);
    bring(&program, &first).await;
    let (events, result, facts) = run(&program, 0, deploy(&first)).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{events:?}");
    let ended: Vec<StepName> = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Ended | EventKind::Skipped))
        .map(|event| event.step)
        .collect();
    assert_eq!(ended, [StepName::Stage, StepName::Stop, StepName::Switch, StepName::Start, StepName::WaitReady]);
    assert_eq!(page(rack.host(0)).await, "v1\n");
    let facts = facts.unwrap();
    let process = facts.process.unwrap();
    assert!(process.ready && process.state == ProcessState::Running && process.release == first.name, "{process:?}");
    assert!(facts.keeper.is_some_and(|keeper| keeper.parent));

    let second = Version::pack(local.path(), "v2", 300_000, Some(&first));
    bring(&program, &second).await;
    let mut steps = deploy(&second);
    steps.push(Step::Prune { keep: vec![], at_most: 1 });
    let (events, result, facts) = run(&program, result.journal, steps).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{events:?}");
    assert_eq!(page(rack.host(0)).await, "v2\n");
    let releases: Vec<_> = facts.unwrap().releases.into_iter().map(|release| release.name).collect();
    assert_eq!(releases, [second.name]);
    let mut log = program.log(&folder(), LogPart { last_lines: Some(1), ..LogPart::default() }).await.unwrap();
    let mut text = Vec::new();
    while let Some(bytes) = log.next().await.unwrap() {
        text.extend_from_slice(&bytes);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("it's \"me\" $HOME from v2"), "{text:?}");

    let (_, result, facts) = run(&program, result.journal, vec![Step::Remove]).await;
    assert_eq!((result.outcome, facts), (Outcome::Succeeded, None));
    assert_eq!(rack.host(0).sh("ls /srv/landfall").await, "");
}

#[tokio::test]
async fn a_task_goes_on_without_its_sshd_and_is_attached_to_again() {
    let rack = Hosts::up(1).await;
    let (program, ..) = connect(&rack).await;
    let local = tempfile::tempdir().unwrap();
    let version = Version::pack(local.path(), "v1", 1000, None);
    bring(&program, &version).await;
    // It becomes ready when this test lets it.
    rack.host(0).sh("touch /srv/hold").await;
    let task = task(&folder(), "web-01", 0, deploy(&version));
    let mut stream = program.begin(&gate(), &task, &Secrets::default()).await.unwrap();
    let mut heard = Vec::new();
    let cut_off = loop {
        match stream.next().await {
            Ok(Some(TaskNews::Events { events, .. })) => {
                heard.extend(events);
                if heard.iter().any(|event| event.step == StepName::WaitReady) {
                    rack.host(0).hangup().await;
                }
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(cut_off.ends_session(), "{cut_off:?}");
    let offset = stream.offset();
    assert_eq!(offset, heard.len() as u64);

    let (program, welcome, _) = connect(&rack).await;
    let open = welcome.facts.folders[&folder()].task.clone().expect("it is still under way");
    assert_eq!(open.id, task.id);
    assert!(open.running);
    // Asked for again it is not begun again.
    let again = program.begin(&gate(), &task, &Secrets::default()).await.unwrap();
    let other = task_of(1, &task);
    let refused = program.begin(&gate(), &other, &Secrets::default()).await.err().unwrap();
    let is_refused = matches!(&refused, ProgramError::Refused(Refusal::Busy { .. } | Refusal::JournalMoved { .. }));
    assert!(is_refused, "{refused:?}");
    drop(again);
    rack.host(0).sh("rm /srv/hold").await;
    let mut rest = program.attach(&folder(), &task.id, offset).await.unwrap();
    let (events, result, _) = end(&mut rest).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{events:?}");
    heard.extend(events);
    let begun = heard.iter().filter(|event| event.step == StepName::Start && event.kind == EventKind::Begun).count();
    assert_eq!(begun, 1);
    assert_eq!(page(rack.host(0)).await, "v1\n");
}

fn task_of(n: u64, like: &landfall_host_protocol::Task) -> landfall_host_protocol::Task {
    let mut other = like.clone();
    other.id.n = n;
    other
}

#[tokio::test]
async fn a_waiting_task_is_cancelled() {
    let rack = Hosts::up(1).await;
    let (program, ..) = connect(&rack).await;
    let task = task(&folder(), "web-01", 0, vec![Step::Settle { seconds: 600 }]);
    let mut stream = program.begin(&gate(), &task, &Secrets::default()).await.unwrap();
    program.cancel(&gate(), &folder(), &task.id).await.unwrap();
    let (_, result, _) = end(&mut stream).await;
    assert_eq!(result.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_killed_application_is_told_at_once_and_comes_back() {
    let rack = Hosts::up(1).await;
    let (program, _, mut pushes) = connect(&rack).await;
    let local = tempfile::tempdir().unwrap();
    let version = Version::pack(local.path(), "v1", 1000, None);
    bring(&program, &version).await;
    let (events, result, facts) = run(&program, 0, deploy(&version)).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{events:?}");
    let process = facts.unwrap().process.unwrap();
    rack.host(0).sh(&format!("kill -KILL {}", process.pid)).await;
    let told = async {
        loop {
            let folders = pushes.next().await.expect("the session goes on").folders;
            let now = folders.get(&folder()).and_then(|facts| facts.as_ref()?.process.clone());
            if let Some(now) = now.filter(|now| now.restarts == 1 && now.ready) {
                return now;
            }
        }
    };
    let now = tokio::time::timeout(Duration::from_secs(60), told).await.expect("a push");
    assert_ne!(now.pid, process.pid);
    assert_eq!(now.last_end.and_then(|end| end.signal).as_deref(), Some("KILL"));
    until("it answers again", || async { page(rack.host(0)).await == "v1\n" }).await;
    // What was told is what a look finds.
    let (_, facts) = program.look(0).await.unwrap().unwrap();
    assert_eq!(facts.folders[&folder()].process.as_ref().map(|process| process.pid), Some(now.pid));
}
