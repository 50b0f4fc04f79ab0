//! Tasks over a session: begun, followed, left alone by the end of their session, attached to, cancelled.

use std::{fs, process::Command, time::Duration};

use landfall_host::clock;
use landfall_host_protocol::{
    Answer, Author, Drain, Event, EventKind, FenceToken, FolderFacts, Kind, Outcome, Owner, Push, Reason, Refusal,
    Request, Secrets, Step, StepName, Task, TaskId, TaskResult, encode, supports,
};

use crate::{
    application,
    client::{Client, NAMESPACE, Root, hello, message, name, noise, program, put, until},
};

fn task_id(n: u64) -> TaskId {
    TaskId { uid: "uid-1".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n }
}

pub fn task(n: u64, steps: Vec<Step>) -> Task {
    Task {
        id: task_id(n),
        folder: name("web"),
        owner: Owner {
            control_plane_id: "cp".to_owned(),
            namespace: NAMESPACE.to_owned(),
            deployment: "web".to_owned(),
            uid: "uid-1".to_owned(),
            host: "web-01".to_owned(),
        },
        replaces: None,
        fence: FenceToken { epoch: "cp".to_owned(), created: 1, transitions: 0 },
        author: Author::Operator,
        steps,
    }
}

fn begin(task: Task) -> Request {
    Request::Begin { task: Box::new(task), secrets: Secrets::default() }
}

fn settle(seconds: u32) -> Step {
    Step::Settle { seconds }
}

fn attach(n: u64, offset: u64) -> Request {
    Request::Attach { folder: name("web"), task: task_id(n), offset }
}

/// Everything until the end.
pub fn end(client: &mut Client, id: u32) -> (Vec<Event>, TaskResult, Option<FolderFacts>) {
    let mut all: Vec<Event> = Vec::new();
    let mut first = None;
    loop {
        match client.answer(id) {
            Answer::Events { offset, events } => {
                let begin = *first.get_or_insert(offset);
                assert_eq!(offset, begin + all.len() as u64);
                all.extend(events);
            }
            Answer::Ended { result, folder, .. } => return (all, result, folder.map(|folder| *folder)),
            other => panic!("{other:?}"),
        }
    }
}

/// A session in which a task waits for long, and the id that follows it.
fn waiting(root: &Root) -> (Client, u32) {
    let (mut client, _) = Client::greeted(root.path());
    let id = client.send(&begin(task(0, vec![settle(600)])));
    let Answer::Events { offset: 0, .. } = client.answer(id) else { panic!() };
    (client, id)
}

/// Ends what a test began.
fn cancel(client: &mut Client) {
    let cancel = Request::Cancel { folder: name("web"), task: task_id(0) };
    assert_eq!(client.ask(&cancel), Answer::Done);
    let id = client.send(&attach(0, 0));
    assert_eq!(end(client, id).1.outcome, Outcome::Cancelled);
}

#[test]
fn a_task_tells_its_events_and_its_end_with_the_folder() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let id = client.send(&begin(task(0, vec![settle(0), settle(0)])));
    let (events, result, folder) = end(&mut client, id);
    let begun = events.iter().filter(|event| event.kind == EventKind::Begun && event.step == StepName::Settle);
    assert_eq!(begun.count(), 2, "{events:?}");
    assert_eq!(result.outcome, Outcome::Succeeded);
    let folder = folder.unwrap();
    assert_eq!((folder.journal, folder.task), (result.journal, None));
    assert_eq!(folder.owner.unwrap().uid, "uid-1");
    let pid = client.child.id();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    until("the runner is reaped", || children().is_empty());
}

#[test]
fn a_look_right_after_a_task_in_a_new_folder_sees_its_end() {
    for _ in 0..10 {
        let root = Root::new();
        let (mut client, _) = Client::greeted(root.path());
        let id = client.send(&begin(task(0, vec![settle(0)])));
        let (_, result, _) = end(&mut client, id);
        let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: 0 }) else { panic!() };
        let folder = &facts.folders[&name("web")];
        assert_eq!((folder.journal, &folder.task), (result.journal, &None));
    }
}

#[test]
fn a_task_that_was_begun_already_is_attached_to() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let id = client.send(&begin(task(0, vec![settle(0)])));
    let first = end(&mut client, id);
    let id = client.send(&begin(task(0, vec![settle(0)])));
    let second = end(&mut client, id);
    assert_eq!((&first.0, &first.1), (&second.0, &second.1));
    assert_eq!(first.2.unwrap().journal, second.2.unwrap().journal);
    let id = client.send(&attach(0, 1));
    assert_eq!(end(&mut client, id).0, first.0[1..]);
}

#[test]
fn a_task_goes_on_when_its_session_is_killed() {
    let root = Root::new();
    let (mut client, _) = waiting(&root);
    client.child.kill().unwrap();
    client.wait();
    let (mut next, welcome) = Client::greeted(root.path());
    let open = welcome.facts.folders[&name("web")].task.clone().unwrap();
    assert!(open.running);
    assert_eq!((open.id, open.step.as_str()), (task_id(0), "settle"));
    let id = next.send(&attach(0, 1));
    assert_eq!(next.ask(&Request::Cancel { folder: name("web"), task: task_id(0) }), Answer::Done);
    assert_eq!(end(&mut next, id).1.outcome, Outcome::Cancelled);
}

#[test]
fn the_end_of_input_ends_the_session_and_not_the_task() {
    let root = Root::new();
    let (mut client, _) = waiting(&root);
    client.close();
    while client.frame().is_some() {}
    assert!(client.wait().success());
    let (mut next, welcome) = Client::greeted(root.path());
    assert!(welcome.facts.folders[&name("web")].task.as_ref().unwrap().running);
    cancel(&mut next);
}

#[test]
fn another_session_is_told_of_a_task() {
    let root = Root::new();
    root.folder("web");
    let (mut other, _) = Client::greeted(root.path());
    let (client, _) = waiting(&root);
    loop {
        let Push::Folders { folders, .. } = other.push() else { panic!() };
        if folders[&name("web")].as_ref().is_some_and(|folder| folder.task.is_some()) {
            break;
        }
    }
    let busy = other.ask(&begin(task(1, vec![settle(0)])));
    assert!(matches!(&busy, Answer::Refused(Refusal::Busy { .. })), "{busy:?}");
    drop(client);
    cancel(&mut other);
}

#[test]
fn a_task_that_is_no_longer_followed_goes_on() {
    let root = Root::new();
    let (mut client, id) = waiting(&root);
    let close = client.send(&Request::Close { id });
    assert_eq!(client.answer(id), Answer::Done);
    assert_eq!(client.answer(close), Answer::Done);
    cancel(&mut client);
}

#[test]
fn an_old_view_and_an_unknown_task_are_refused() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    assert!(matches!(client.ask(&attach(0, 0)), Answer::Refused(Refusal::NotFound { .. })));
    let id = client.send(&begin(task(0, vec![settle(0)])));
    let now = end(&mut client, id).1.journal;
    let answer = client.ask(&begin(task(now + 7, vec![settle(0)])));
    assert_eq!(answer, Answer::Refused(Refusal::JournalMoved { now }));
}

/// So many places in a stream, the same for a seed.
fn anywhere(seed: u64, number: usize, length: usize) -> Vec<usize> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % length
    };
    (0..number).map(|_| next()).collect()
}

#[test]
fn wherever_a_session_is_cut_the_next_one_comes_to_the_same_end() {
    let bytes = noise(30_000);
    let mut stream = message(1, &hello());
    stream.extend(message(2, &put("web", &bytes, Some(0))));
    for piece in bytes.chunks(7_000) {
        stream.extend(encode(Kind::Bytes, 2, piece).unwrap());
    }
    stream.extend(encode(Kind::LastBytes, 2, &[]).unwrap());
    let before_begin = stream.len();
    stream.extend(message(3, &begin(task(0, vec![settle(0)]))));
    stream.extend(message(4, &attach(0, 0)));
    let cuts = [1, 8, 9, 100, 400, 8_000, before_begin - 3, before_begin, before_begin + 9, before_begin + 300];
    let seed = std::env::var("LANDFALL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let number = if std::env::var_os("LANDFALL_NIGHT").is_some() { 300 } else { 5 };
    println!("LANDFALL_SEED={seed}");
    let anywhere = anywhere(seed, number, stream.len());
    for cut in cuts.into_iter().chain([stream.len() - 1, stream.len()]).chain(anywhere) {
        let root = Root::new();
        let mut client = Client::start(root.path());
        client.write(&stream[..cut]);
        if cut > before_begin {
            // Killed in the middle of a begin it would leave a task that is lost, which the next one would be told.
            client.close();
            client.wait();
        }
        drop(client);
        let (mut next, _) = Client::greeted(root.path());
        let Answer::Have { bytes: have } = next.ask(&put("web", &bytes, None)) else { panic!() };
        let id = next.send(&put("web", &bytes, Some(have)));
        next.send_bytes(id, Kind::LastBytes, &bytes[usize::try_from(have).unwrap()..]);
        assert_eq!(next.answer(id), Answer::Stored);
        let id = next.send(&begin(task(0, vec![settle(0)])));
        let (_, result, folder) = end(&mut next, id);
        assert_eq!((result.outcome, result.journal), (Outcome::Succeeded, 2), "cut at {cut}");
        assert_eq!(folder.unwrap().journal, 2);
    }
}

#[test]
fn a_task_for_another_namespace_is_refused() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let mut foreign = task(0, vec![settle(0)]);
    foreign.owner.namespace = "other".to_owned();
    let answer = client.ask(&begin(foreign));
    assert!(matches!(&answer, Answer::Refused(Refusal::BadInput { field, .. }) if field == "owner"), "{answer:?}");
    assert!(!root.folder("web").tasks().exists());
}

#[test]
fn a_secret_value_that_no_variable_can_hold_is_refused_before_anything_is_done() {
    let root = Root::new();
    let (mut client, welcome) = Client::greeted(root.path());
    assert!(welcome.supports.contains(supports::SECRETS_BINARY));
    let hook = Step::Hook {
        name: "migrate".to_owned(),
        release: application::version("v1").name,
        config: Box::new(application::configuration(true)),
        command: vec!["true".to_owned()],
        timeout_seconds: 60,
    };
    for value in [vec![0xff, 0xfe], b"a\0b".to_vec()] {
        let secrets = Secrets([("KEY".to_owned(), value.into())].into());
        let answer = client.ask(&Request::Begin { task: Box::new(task(0, vec![hook.clone()])), secrets });
        let Answer::Refused(Refusal::BadInput { field, why }) = answer else { panic!("{answer:?}") };
        assert_eq!(field, "secrets");
        assert!(why.contains("KEY") && why.contains("as a file"), "{why}");
    }
    assert!(!root.folder("web").tasks().exists());
}

#[test]
fn secret_values_reach_no_file_and_no_argument() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let secrets = Secrets([("KEY".to_owned(), "hunter2-of-the-test".into())].into());
    let id = client.send(&Request::Begin { task: Box::new(task(0, vec![settle(600)])), secrets });
    let Answer::Events { .. } = client.answer(id) else { panic!() };
    let found =
        std::process::Command::new("grep").args(["-r", "hunter2-of-the-test"]).arg(root.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let marked = root.path().to_str().unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file| fs::read(entry.path().join(file)).unwrap_or_default();
        let shown = [read("cmdline"), read("environ")].concat();
        let shown = String::from_utf8_lossy(&shown);
        assert!(!(shown.contains(marked) && shown.contains("hunter2-of-the-test")), "{shown}");
    }
    assert_eq!(client.ask(&Request::Cancel { folder: name("web"), task: task_id(0) }), Answer::Done);
    let _ = end(&mut client, id);
}

/// The process that runs the task of a session's child.
fn runner(client: &Client) -> i32 {
    let pid = client.child.id();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    until("a runner", || !children().trim().is_empty());
    children().trim().parse().unwrap()
}

/// Reads pushes until one is so.
fn pushed(client: &mut Client, is_so: impl Fn(&FolderFacts) -> bool) -> FolderFacts {
    loop {
        let Push::Folders { mut folders, .. } = client.push() else { panic!() };
        if let Some(facts) = folders.remove(&name("web")).flatten().filter(|facts| is_so(facts)) {
            return facts;
        }
    }
}

// F6
#[test]
fn the_death_of_a_runner_is_pushed_with_and_without_pidfds() {
    for without in [false, true] {
        let root = Root::new();
        root.folder("web");
        let mut command = Command::new(program());
        command.arg("session").arg(root.path());
        if without {
            command.env(landfall_host::process::WITHOUT_PIDFD, "1");
        }
        // It follows no task.
        let mut other = Client::of(command);
        assert!(matches!(other.ask(&hello()), Answer::Welcome(_)));
        let (mut client, id) = waiting(&root);
        pushed(&mut other, |folder| folder.task.as_ref().is_some_and(|task| task.running));
        // What was pushed of the begin is read.
        while other.frame_within(Duration::from_millis(1100)).is_ok() {}
        application::kill(runner(&client));
        let since = clock::monotonic();
        let facts = pushed(&mut other, |folder| folder.task.as_ref().is_some_and(|task| !task.running));
        assert_eq!(facts.task.unwrap().id, task_id(0));
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        assert!(matches!(end(&mut client, id).1.outcome, Outcome::Failed(why) if why.reason == Reason::Lost));
        let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: 0 }) else { panic!() };
        assert!(!facts.folders[&name("web")].task.as_ref().unwrap().running);
    }
}

// F6
#[test]
fn what_a_dead_runner_drained_is_undrained_while_sessions_last() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let undone = root.path().join("undone");
    let drain = Step::Drain(Drain::Exec {
        command: vec!["true".to_owned()],
        undo: vec!["touch".to_owned(), undone.display().to_string()],
        timeout_seconds: 60,
    });
    let id = client.send(&begin(task(0, vec![drain, settle(600)])));
    loop {
        let Answer::Events { events, .. } = client.answer(id) else { panic!() };
        if events.iter().any(|event| event.step == StepName::Settle) {
            break;
        }
    }
    let runner = runner(&client);
    let close = client.send(&Request::Close { id });
    assert_eq!((client.answer(id), client.answer(close)), (Answer::Done, Answer::Done));
    application::kill(runner);
    until("the drain is undone", || undone.exists());
    until("the end is on record", || {
        let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: 0 }) else { panic!() };
        facts.folders[&name("web")].task.is_none()
    });
}
