//! A recorded session of each version that is spoken, replayed against the program: what an operator of that version sends is understood,
//! and answered in words that it knows. A version's record is never changed; `LANDFALL_WRITE_RECORDED=1` writes a missing one.

use std::{collections::BTreeSet, fs, path::PathBuf};

use landfall_host_protocol::{Answer, Kind, Push, Request};
use serde_json::{Value, json};

use crate::client::{Client, Root, digest, hello, name};

/// What is different on each host and in each run: of these only the kind of the value is compared.
const VARIABLE: [&str; 16] = [
    "bootId",
    "uptimeSeconds",
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
    if let Some(text) = line.get("bytes") {
        client.send_bytes(id(line), Kind::Bytes, text.as_str().unwrap().as_bytes());
        client.send_bytes(id(line), Kind::LastBytes, &[]);
    }
}

/// The next answer. Events come in as many answers as it happens; all that were recorded are waited for.
fn answer(client: &mut Client, id: u32, recorded: &Value) -> Value {
    let count = |answer: &Value| answer["events"]["events"].as_array().map_or(0, Vec::len);
    let mut now = serde_json::to_value(client.answer(id)).unwrap();
    while (1..count(recorded)).contains(&count(&now)) {
        let mut more = serde_json::to_value(client.answer(id)).unwrap();
        let more = more["events"]["events"].as_array_mut().unwrap();
        now["events"]["events"].as_array_mut().unwrap().append(more);
    }
    now
}

fn replay(version: u16) {
    let root = Root::new();
    let mut client = Client::start(root.path());
    for (number, line) in lines(version).iter().enumerate() {
        send(&mut client, line);
        if let Some(recorded) = line.get("answer") {
            let now = answer(&mut client, id(line), recorded);
            let difference = differ(recorded, &now, "answer", false);
            assert_eq!(difference, None, "line {} of the session of version {version}", number + 1);
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
        if let Some(answer) = line.get("answer") {
            serde_json::from_value::<Answer>(answer.clone()).unwrap();
            let name = answer.as_str().map(str::to_owned);
            let key = || answer.as_object().unwrap().keys().next().unwrap().clone();
            seen.insert(name.unwrap_or_else(key));
        }
        if let Some(push) = line.get("push") {
            serde_json::from_value::<Push>(push.clone()).unwrap();
        }
    }
    for answer in ["welcome", "unchanged", "facts", "have", "stored", "events", "ended", "done", "refused"] {
        assert!(seen.contains(answer), "no {answer} is in the record");
    }
}

/// One session with every request and every answer.
fn record(version: u16) {
    let root = Root::new();
    let mut client = Client::start(root.path());
    let mut text = String::new();
    let mut ask = |id: u32, request: Value, bytes: Option<&str>, answers: usize| {
        let mut line = json!({"id": id, "request": request});
        if let Some(bytes) = bytes {
            line["bytes"] = json!(bytes);
        }
        send(&mut client, &line);
        for number in 0..answers {
            let answer = serde_json::to_value(client.answer(id)).unwrap();
            if number == 0 {
                line["answer"] = answer;
            } else {
                line = json!({"id": id, "answer": answer});
            }
            text += &format!("{line}\n");
        }
    };
    let bytes = "what a release consists of";
    let sha256 = digest(bytes.as_bytes());
    let put = |from: Value| json!({"put": {"folder": "shop.web", "sha256": sha256, "size": bytes.len(), "from": from}});
    let id = json!({"uid": "uid-1", "rollout": "1.0", "attempt": 1, "n": 0});
    let owner =
        json!({"controlPlaneId": "cp", "namespace": "shop", "deployment": "web", "uid": "uid-1", "host": "web-01"});
    let task = json!({
        "id": id, "folder": "shop.web", "owner": owner, "replaces": null,
        "fence": {"epoch": "cp", "created": 1, "transitions": 0}, "author": "operator",
        "steps": [{"settle": {"seconds": 0}}],
    });
    ask(1, serde_json::to_value(hello()).unwrap(), None, 1);
    ask(2, json!({"look": {"seen": 1}}), None, 1);
    ask(3, put(Value::Null), None, 1);
    ask(4, put(json!(0)), Some(bytes), 1);
    ask(5, put(Value::Null), None, 1);
    ask(6, json!({"log": {"folder": "shop.web", "file": 0, "lastLines": 10, "follow": false}}), None, 1);
    ask(7, json!({"begin": {"task": task, "secrets": {"KEY": "value"}}}), None, 2);
    ask(8, json!({"attach": {"folder": name("web"), "task": id, "offset": 0}}), None, 2);
    ask(9, json!({"cancel": {"folder": name("web"), "task": id}}), None, 1);
    ask(10, json!({"close": {"id": 7}}), None, 1);
    ask(11, json!({"look": {"seen": 0}}), None, 1);
    fs::create_dir_all(path(version).parent().unwrap()).unwrap();
    fs::write(path(version), text).unwrap();
}
