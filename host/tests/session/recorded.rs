//! A recorded session of each version that is spoken, replayed against the program: what an operator of that version sends is understood,
//! and answered in words that it knows. A version's record is never changed; `LANDFALL_WRITE_RECORDED=1` writes a missing one.

use std::{collections::BTreeSet, fs, path::PathBuf};

use landfall_host_protocol::{
    Answer, Bundle, Drain, EventKind, Kind, LogFile, LogRequest, Outcome, Reason, Request, Secrets, Start, Step,
};
use serde_json::{Value, json};

use crate::{
    application::{self, Deployed},
    client::{Client, Root, digest, hello, name, put},
    tasks::task,
};

/// What is different on each host and in each run: of these only the kind of the value is compared.
const VARIABLE: [&str; 23] = [
    "bootId",
    "uptimeSeconds",
    "uptimeMillis",
    "clockMillis",
    "machine",
    "kernel",
    "uid",
    "pidfd",
    "sessionScoped",
    "systemd",
    "freeBytes",
    "freeInodes",
    "program",
    "seen",
    "afterMillis",
    "why",
    "what",
    "lines",
    "pid",
    "start",
    "readySince",
    "bytes",
    "at",
];

fn path(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/v{version}/session.jsonl"))
}

/// Every recorded value is there and the same, or of the same kind where it varies. More may be there.
fn differ(recorded: &Value, now: &Value, at: &str, varies: bool) -> Option<String> {
    match (recorded, now) {
        (Value::Object(recorded), Value::Object(now)) => recorded.iter().find_map(|(key, value)| {
            let path = format!("{at}.{key}");
            // `machine` names a part of the facts as well as a machine's kind.
            let varies = VARIABLE.contains(&key.as_str()) && !value.is_object();
            match now.get(key) {
                Some(now) => differ(value, now, &path, varies),
                None => Some(format!("{path} is missing")),
            }
        }),
        // A program of today may do more.
        (Value::Array(recorded), Value::Array(now)) if at.ends_with(".supports") => {
            let missing = recorded.iter().find(|name| !now.contains(name));
            missing.map(|name| format!("{at}: {name} is missing"))
        }
        (Value::Array(recorded), Value::Array(now)) if recorded.len() == now.len() => {
            recorded.iter().zip(now).find_map(|(recorded, now)| differ(recorded, now, &format!("{at}[]"), varies))
        }
        (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_))
            if varies =>
        {
            None
        }
        _ if recorded == now => None,
        _ => Some(format!("{at}: {recorded} was {now}")),
    }
}

fn lines(version: u16) -> Vec<Value> {
    let text = fs::read_to_string(path(version)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(line: &Value) -> u32 {
    u32::try_from(line["id"].as_u64().unwrap()).unwrap()
}

/// Sends what the line says, word for word.
fn send(client: &mut Client, line: &Value) {
    if let Some(request) = line.get("request") {
        client.send_bytes(id(line), Kind::Message, request.to_string().as_bytes());
    }
    if let Some(hex) = line.get("bytes") {
        client.send_bytes(id(line), Kind::Bytes, &unhex(hex.as_str().unwrap()));
        client.send_bytes(id(line), Kind::LastBytes, &[]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What comes under this id up to its last answer: the steps that were told, without what they said, and that answer; of a log its text.
fn answer(client: &mut Client, id: u32) -> (Vec<Value>, Value) {
    let mut steps = Vec::new();
    let mut text = Vec::new();
    loop {
        let frame = client.frame().expect("the session ended");
        match frame.kind {
            _ if frame.id != id => assert_eq!(frame.id, 0),
            Kind::Bytes => text.extend(frame.payload),
            Kind::LastBytes => return (steps, json!({"log": String::from_utf8(text).unwrap()})),
            Kind::Message => match serde_json::from_slice::<Answer>(&frame.payload).unwrap() {
                Answer::Events { events, .. } => {
                    let told = events
                        .into_iter()
                        .filter(|event| matches!(event.kind, EventKind::Begun | EventKind::Skipped | EventKind::Ended));
                    steps.extend(told.map(|event| json!([event.step, event.kind])));
                }
                answer => return (steps, serde_json::to_value(answer).unwrap()),
            },
        }
    }
}

fn replay(version: u16) {
    let root = Root::new();
    let mut client = Client::start(root.path());
    let _deployed = Deployed { root: &root };
    for (number, line) in lines(version).iter().enumerate() {
        send(&mut client, line);
        let (steps, now) = answer(&mut client, id(line));
        let at = format!("line {} of the session of version {version}", number + 1);
        assert_eq!(differ(&line["answer"], &now, "answer", false), None, "{at}");
        if let Some(recorded) = line.get("steps") {
            assert_eq!(recorded, &json!(steps), "{at}");
        }
    }
}

#[test]
fn the_recorded_session_of_version_1_is_answered_as_it_was() {
    if std::env::var_os("LANDFALL_WRITE_RECORDED").is_some() && !path(1).exists() {
        record(1);
    }
    replay(1);
}

#[test]
fn what_was_recorded_is_read_by_the_operator_of_today() {
    let mut seen = BTreeSet::new();
    for line in lines(1) {
        if let Some(request) = line.get("request") {
            serde_json::from_value::<Request>(request.clone()).unwrap();
        }
        assert_eq!(names(&line).find(|name| name.contains('_')), None, "one way to write names");
        let answer = &line["answer"];
        let name = answer.as_str().map(str::to_owned);
        let name = name.unwrap_or_else(|| answer.as_object().unwrap().keys().next().unwrap().clone());
        if name != "log" {
            serde_json::from_value::<Answer>(answer.clone()).unwrap();
        }
        seen.insert(name);
    }
    for answer in ["welcome", "unchanged", "facts", "have", "stored", "ended", "done", "refused", "log"] {
        assert!(seen.contains(answer), "no {answer} is in the record");
    }
    let ended = |line: &Value| serde_json::from_value::<Answer>(line["answer"].clone()).ok();
    let outcomes: Vec<_> = lines(1)
        .iter()
        .filter_map(ended)
        .filter_map(|answer| match answer {
            Answer::Ended { result, folder, .. } => {
                let told = folder.and_then(|folder| folder.last_task);
                // An operator that starts again reads in the facts what it missed.
                assert!(told.is_none_or(|told| told.journal == result.journal && told.outcome.is_some()));
                Some(result.outcome)
            }
            _ => None,
        })
        .collect();
    assert!(outcomes.contains(&Outcome::Succeeded));
    let is_failure = |outcome: &Outcome| matches!(outcome, Outcome::Failed(why) if why.reason == Reason::HookFailed);
    assert!(outcomes.iter().any(is_failure));
}

/// Names of fields; those of folders, users and variables among them have no `_` in this record.
fn names(value: &Value) -> Box<dyn Iterator<Item = &String> + '_> {
    match value {
        Value::Object(fields) => Box::new(fields.keys().chain(fields.values().flat_map(names))),
        Value::Array(values) => Box::new(values.iter().flat_map(names)),
        _ => Box::new(std::iter::empty()),
    }
}

/// One session with every request, every step that needs no other user and nearly every answer.
fn record(version: u16) {
    let root = Root::new();
    let mut client = Client::start(root.path());
    let _deployed = Deployed { root: &root };
    let mut text = String::new();
    let mut next = 0;
    let mut ask = |request: Request, bytes: Option<&[u8]>| {
        next += 1;
        let mut line = json!({"id": next, "request": request});
        if let Some(bytes) = bytes {
            line["bytes"] = json!(hex(bytes));
        }
        send(&mut client, &line);
        let (steps, answer) = answer(&mut client, next);
        line["answer"] = answer;
        // What a removal told is gone with the folder, sooner or later.
        if !steps.is_empty() && !line["answer"]["ended"]["folder"].is_null() {
            line["steps"] = json!(steps);
        }
        text += &format!("{line}\n");
    };
    let version_1 = application::version("v1");
    let mut bundle = Vec::new();
    landfall_host_bundle::write(version_1.release(), None, &mut bundle).unwrap();
    let manifest = landfall_host_bundle::encode(version_1.release().manifest());
    let config = application::configuration(true);
    let stage = Step::Stage {
        release: version_1.name.clone(),
        digest: version_1.digest.clone(),
        manifest: digest(&manifest),
        bundle: Some(Bundle { sha256: digest(&bundle), size: bundle.len() as u64, base: None }),
    };
    let hook = Step::Hook {
        name: "migrate".to_owned(),
        release: version_1.name.clone(),
        config: Box::new(config.clone()),
        command: ["/bin/sh", "-c", "echo migrated"].map(str::to_owned).to_vec(),
        timeout_seconds: 60,
    };
    let failing = Step::Hook {
        name: "check".to_owned(),
        release: version_1.name.clone(),
        config: Box::new(config.clone()),
        command: ["/bin/sh", "-c", "echo not today; exit 3"].map(str::to_owned).to_vec(),
        timeout_seconds: 60,
    };
    let drain = Step::Drain(Drain::Exec {
        command: vec!["true".to_owned()],
        undo: vec!["true".to_owned()],
        timeout_seconds: 60,
    });
    let start = Start {
        release: version_1.name.clone(),
        digest: version_1.digest.clone(),
        config,
        revision: 1,
        redeploys: 0,
        attempt: 1,
    };
    let update = vec![
        stage,
        hook,
        drain,
        Step::Settle { seconds: 0 },
        Step::Stop,
        Step::Switch { release: version_1.name.clone() },
        Step::Start(Box::new(start)),
        Step::WaitReady { timeout_seconds: 60 },
        Step::MinReady { seconds: 0 },
        Step::Prune { keep: Vec::new(), at_most: 3 },
    ];
    let secrets = Secrets([("KEY".to_owned(), "value".into())].into());
    let begin = |n, steps| Request::Begin { task: Box::new(task(n, steps)), secrets: secrets.clone() };
    let (folder, file) = (name("web"), LogFile(0));
    ask(hello(), None);
    ask(Request::Look { seen: 1 }, None);
    ask(put("web", &manifest, None), None);
    ask(put("web", &manifest, Some(0)), Some(&manifest));
    ask(put("web", &manifest, None), None);
    ask(put("web", &bundle, Some(0)), Some(b"not these bytes"));
    ask(put("web", &bundle, Some(0)), Some(&bundle));
    ask(begin(0, update.clone()), None);
    ask(Request::Attach { folder: folder.clone(), task: task(0, update.clone()).id, offset: 0 }, None);
    ask(begin(7, vec![Step::Stop]), None);
    ask(Request::Log(LogRequest { last_lines: Some(1), ..LogRequest::of(folder.clone(), file) }), None);
    ask(Request::Cancel { folder: folder.clone(), task: task(0, update).id }, None);
    ask(Request::Close { id: 1 }, None);
    ask(Request::Look { seen: 0 }, None);
    ask(begin(2, vec![failing]), None);
    ask(begin(4, vec![Step::Stop, Step::GiveUp]), None);
    ask(begin(6, vec![Step::Remove]), None);
    fs::create_dir_all(path(version).parent().unwrap()).unwrap();
    fs::write(path(version), text).unwrap();
}
