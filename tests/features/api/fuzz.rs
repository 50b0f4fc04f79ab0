//! Generated objects (F78), hostile texts (F79) and nonsense of size and number (F82) against a real API server: it takes an object, and
//! then this operator can read it and says something of it; or it refuses it, and the refusal names the field and is a sentence.
//!
//! Samples by a printed seed (`LANDFALL_SEED` repeats one); `LANDFALL_NIGHT=1` tries all.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
    core::Status,
};
use rand::{
    Rng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::{Value, json};

use super::specs::{FieldPath, KINDS, Step, fields, full, readable, valid, with};
use crate::support::{
    chance,
    kstatus::violations,
    plane::{Operator, client, namespace},
    wait::PATIENCE,
};

const AT_ONCE: usize = 8;
/// A list of 10,000 keeps an API server busy for 5 s when it is alone, and it seldom is.
const ANSWER: Duration = Duration::from_secs(400);

fn night() -> bool {
    std::env::var_os("LANDFALL_NIGHT").is_some()
}

/// Texts that break what was not written with care.
fn corpus() -> Vec<String> {
    let long = ["a".repeat(253), "a".repeat(254), "é".repeat(300), "9".repeat(40), "x".repeat(70_000)];
    [
        "",
        " ",
        "\0",
        "a\0b",
        "\n",
        "a\nb",
        "a\r\nX: y",
        "\t",
        "\u{1b}[31mred",
        "'",
        "\"",
        "`id`",
        "$(id)",
        "a; id",
        "a|b",
        "a&b",
        "\\",
        "a\\",
        "-",
        "-rf",
        "--help",
        ".",
        "..",
        "../..",
        "/",
        "//",
        "~",
        "*",
        "[",
        "]",
        "[]",
        "[!]",
        "{",
        "}",
        "{a",
        "[z-a]",
        "{number}",
        "%00",
        "%s",
        "{{}}",
        "null",
        "true",
        "0",
        "-1",
        "1e9",
        "NaN",
        "Infinity",
        "0x10",
        "1_000",
        "раypal",
        "ａｄｍｉｎ",
        "\u{202e}gpj.exe",
        "\u{200b}",
        "\u{feff}a",
        "e\u{301}",
        "🚢",
        "Ⅷ",
        "İ",
        "ß",
        "\u{fffd}",
        "\u{10ffff}",
        "a@b:c",
        "::1",
        "127.0.0.1",
        "a b",
        "A",
        "a.b",
        "a_b",
        "a/b",
        "latest",
        "landfall.dev/x",
        "LANDFALL_VERSION",
        "landfall_line",
        "UID",
        "run.json",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(long)
    .collect()
}

async fn dry_run(client: &Client, kind: &str, object: &Value) -> Result<DynamicObject, Box<Status>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let object = serde_json::from_value(object.clone()).unwrap();
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await {
        Ok(taken) => Ok(taken),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic!("the API server gave no answer: {error}: {object:?}"),
    }
}

/// `spec.hosts[3].labels` → `spec.hosts.labels`.
fn bare(field: &str) -> String {
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '[') - i32::from(*c == ']');
        depth == 0 && *c != ']'
    };
    field.chars().filter(outside).collect()
}

/// Bytes of one generated list: an API server refuses a request of more than 3 MiB before it looks at any field.
const MOST_BYTES: usize = 512 << 10;

/// What is wrong with a refusal of an object whose oddness is at one of these places.
fn unclear(status: &Status, places: &[String]) -> Option<String> {
    let message = &status.message;
    for raw in [
        "should match '",
        "failed rule",
        "evaluation error",
        "no such key",
        "panick",
        "cost limit",
        "<nil>: Invalid value: \"object\"",
    ] {
        if message.contains(raw) {
            return Some(format!("a refusal says {raw:?}: {message}"));
        }
    }
    if !matches!(status.code, 400 | 413 | 422) {
        return Some(format!("code {}: {message}", status.code));
    }
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let message_names = |text: &str| {
        let inside = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
        message.match_indices(text).any(|(at, _)| {
            !inside(message[..at].chars().next_back()) && !inside(message[at + text.len()..].chars().next())
        })
    };
    // A cause is at the place itself, at what holds it, or within it. A rule between two fields may be told at the other one, beside it, or at
    // what holds both; then its text has the name of this one.
    let told = |place: &String| {
        let place = bare(place);
        let (parent, name) = place.rsplit_once('.').unwrap_or(("", &place));
        let within = |field: &str, folder: &str| field.strip_prefix(folder).is_some_and(|rest| rest.starts_with('.'));
        causes.iter().map(|cause| bare(&cause.field)).any(|field| {
            field == place
                || field == parent
                || within(&field, &place)
                || (within(&field, parent) || within(parent, &field)) && message_names(name)
        }) || message_names(&place)
    };
    (!places.iter().any(told)).then(|| format!("a refusal names none of {places:?}: {message}"))
}

/// Whether every text that was sent stands there as it was; what the schema does not know is left out by an API server.
fn same_texts(sent: &Value, taken: &Value) -> bool {
    match (sent, taken) {
        (Value::String(sent), Value::String(taken)) => sent == taken,
        (Value::Object(sent), Value::Object(taken)) => {
            sent.iter().all(|(key, sent)| taken.get(key).is_none_or(|taken| same_texts(sent, taken)))
        }
        (Value::Array(sent), Value::Array(taken)) => {
            sent.iter().zip(taken).all(|(sent, taken)| same_texts(sent, taken))
        }
        _ => true,
    }
}

/// Tries every object; answers what was taken, as the API server would store it.
async fn judge(at_once: usize, objects: Vec<(&'static str, Value, Vec<String>)>) -> Vec<(&'static str, Value)> {
    let client = client().await;
    let tried = stream::iter(objects).map(|(kind, object, places)| {
        let client = client.clone();
        async move {
            let answer = tokio::time::timeout(ANSWER, dry_run(&client, kind, &object)).await;
            match answer.unwrap_or_else(|_| panic!("no answer within {ANSWER:?}: {places:?}")) {
                Ok(taken) => {
                    let taken = serde_json::to_value(taken).unwrap();
                    match readable(kind, &taken) {
                        Ok(()) if !same_texts(&object["spec"], &taken["spec"]) => {
                            Err(format!("taken, but not exactly: {places:?} {}", taken["spec"]))
                        }
                        Ok(()) => Ok(Some((kind, object))),
                        Err(error) => Err(format!(
                            "taken, and this operator can't read it: {error}: {places:?} {}",
                            taken["spec"]
                        )),
                    }
                }
                Err(status) => unclear(&status, &places).map_or(Ok(None), Err),
            }
        }
    });
    let answers: Vec<_> = tried.buffer_unordered(at_once).collect().await;
    let total = answers.len();
    let (mut taken, mut wrong) = (Vec::new(), BTreeMap::<String, usize>::new());
    for answer in answers {
        match answer {
            Ok(one) => taken.extend(one),
            Err(text) => *wrong.entry(text.chars().take(600).collect()).or_default() += 1,
        }
    }
    println!("{total} objects: {} taken, {} refused", taken.len(), total - taken.len() - wrong.values().sum::<usize>());
    assert!(
        wrong.is_empty(),
        "{} of {total} are wrong, the first of them: {:#?}",
        wrong.len(),
        wrong.keys().take(12).collect::<Vec<_>>()
    );
    taken
}

/// A value for a field: one that fits, one at its bounds, a hostile text, or one of another type.
fn odd(schema: &Value, chance: &mut StdRng) -> Value {
    let texts = corpus();
    let text = |chance: &mut StdRng| json!(texts.choose(chance).unwrap());
    if chance.random_bool(0.1) {
        let others = [
            json!(null),
            json!(true),
            json!(7),
            json!(-0.5),
            json!("x"),
            json!([]),
            json!([[]]),
            json!({}),
            json!({ "a": 1 }),
        ];
        return others.choose(chance).unwrap().clone();
    }
    if let Some(choices) = schema["enum"].as_array()
        && chance.random_bool(0.7)
    {
        return choices.choose(chance).unwrap().clone();
    }
    let bound = |name: &str, default: f64| schema[name].as_f64().unwrap_or(default) as i64;
    match schema["type"].as_str() {
        Some("integer") => {
            let (low, high) = (bound("minimum", 0.0), bound("maximum", 1e9));
            let edges = [low - 1, low, low + 1, high - 1, high, high.saturating_add(1), 0, -1, i64::MAX, i64::MIN];
            json!(edges.choose(chance).unwrap())
        }
        Some("boolean") => json!(chance.random_bool(0.5)),
        Some("array") => {
            let count = *[0, 1, 2, 3, 120].choose(chance).unwrap();
            let mut items: Vec<Value> = (0..count).map(|_| odd(&schema["items"], chance)).collect();
            while items.len() > 1 && json!(items).to_string().len() > MOST_BYTES {
                items.truncate(items.len() / 2);
            }
            items.into()
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            let count = chance.random_range(0..4);
            let entry = |chance: &mut StdRng| {
                (texts.choose(chance).unwrap().clone(), odd(&schema["additionalProperties"], chance))
            };
            Value::Object((0..count).map(|_| entry(chance)).collect())
        }
        Some("object") => {
            let mut fields = serde_json::Map::new();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if chance.random_bool(0.7) {
                    fields.insert(name.clone(), odd(field, chance));
                }
            }
            Value::Object(fields)
        }
        _ => {
            let plain =
                ["a", "main", "v1", "1m", "16Mi", "app", "web-01", "10%", "127.0.0.1", "/srv/x", "A", "x-{number}"];
            if chance.random_bool(0.4) { json!(plain.choose(chance).unwrap()) } else { text(chance) }
        }
    }
}

/// Of every kind a share, each with one to three odd fields.
fn generated(count: usize, chance: &mut StdRng) -> Vec<(&'static str, Value, Vec<String>)> {
    let schemas: Vec<_> = KINDS.iter().map(|kind| (*kind, fields(kind))).collect();
    let one = |chance: &mut StdRng| {
        let (kind, fields) = schemas.choose(chance).unwrap();
        let mut object = valid(kind);
        let mut places = Vec::new();
        for _ in 0..chance.random_range(1..=3) {
            let (path, schema) = fields.choose(chance).unwrap();
            let value = odd(schema, chance);
            if places.is_empty() {
                object = with(kind, path, value);
            } else if let Some(place) = object.pointer_mut(&pointer(path)) {
                *place = value;
            } else {
                continue;
            }
            places.push(path.to_string());
        }
        (*kind, object, places)
    };
    (0..count).map(|_| one(chance)).collect()
}

fn pointer(path: &FieldPath) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!("/{name}"),
        Step::Item => "/0".to_owned(),
        Step::Entry => "/key".to_owned(),
    };
    path.0.iter().map(step).collect()
}

#[tokio::test]
async fn f78_a_generated_object_is_readable_or_refused_with_its_field_named() {
    let mut chance = chance("f78");
    let count = if night() { 10_000 } else { 500 };
    let taken = judge(AT_ONCE, generated(count, &mut chance)).await;
    assert!(taken.len() > count / 20, "hardly anything was taken: the generator is of no use");
}

/// Waits until every object has a condition, as long as within each `PATIENCE` one more of them gets its first.
async fn all_are_told_of(api: &Api<DynamicObject>) {
    let untold = || async {
        let all = api.list(&Default::default()).await.unwrap().items;
        let silent = |one: &DynamicObject| one.data["status"]["conditions"].as_array().is_none_or(Vec::is_empty);
        all.into_iter().filter(silent).collect::<Vec<_>>()
    };
    let mut left = untold().await;
    while !left.is_empty() {
        let before = left.len();
        let end = Instant::now() + PATIENCE;
        while left.len() == before {
            assert!(Instant::now() < end, "of these nothing was told for {PATIENCE:?}: {left:#?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
            left = untold().await;
        }
    }
}

#[tokio::test]
async fn f78_every_accepted_object_is_told_of_by_a_condition() {
    let mut chance = chance("f78 reconciled");
    let count = if night() { 300 } else { 60 };
    let mut taken = judge(AT_ONCE, generated(count * 8, &mut chance)).await;
    taken.truncate(count);
    let space = namespace("fuzz").await;
    let api = |kind: &str| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", kind));
        Api::<DynamicObject>::namespaced_with(space.client.clone(), &space.name, &resource)
    };
    let mut created = 0;
    for (n, (kind, mut object)) in taken.into_iter().enumerate() {
        // Nothing leaves this machine.
        if let Some(url) = object.pointer_mut("/spec/source/url") {
            *url = json!("https://127.0.0.1:1/shop.git");
        }
        for list in ["/spec/hosts", "/spec/ssh/jump"] {
            for host in object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                host["address"] = json!(format!("127.0.0.{}", n % 200 + 1));
            }
        }
        object["metadata"]["name"] = json!(format!("x{n}"));
        let object = serde_json::from_value(object).unwrap();
        // The changes above may clash with a rule; what is refused now was judged before.
        created += usize::from(api(kind).create(&PostParams::default(), &object).await.is_ok());
    }
    assert!(created > count / 2, "only {created} of {count} objects could be created");
    let _operator = Operator::start(&[&space.name]).await;
    println!("{created} objects");
    for kind in KINDS {
        all_are_told_of(&api(kind)).await;
        for one in api(kind).list(&Default::default()).await.unwrap() {
            let one = serde_json::to_value(one).unwrap();
            assert_eq!(violations(&one), Vec::<String>::new(), "{one}");
            let text = one["status"]["conditions"].to_string();
            assert!(!text.contains("InternalError") && !text.contains("panick"), "{one}");
            for condition in one["status"]["conditions"].as_array().unwrap() {
                assert!(condition["type"] != "Ready" || condition["message"] != "", "nothing is said: {one}");
            }
        }
    }
    space.delete().await;
}

#[tokio::test]
async fn f79_a_hostile_text_in_any_field_is_taken_exactly_or_refused_with_its_field_named() {
    let mut chance = chance("f79");
    let mut all = Vec::new();
    for kind in KINDS {
        let texts = fields(kind)
            .into_iter()
            .filter(|(_, schema)| schema["type"] == "string" || schema["x-kubernetes-int-or-string"] == true);
        for (path, _) in texts {
            for text in corpus() {
                all.push((kind, with(kind, &path, json!(text)), vec![path.to_string()]));
            }
        }
        let maps = fields(kind).into_iter().filter(|(_, schema)| schema["additionalProperties"].is_object());
        for (path, _) in maps {
            for text in corpus() {
                all.push((kind, with(kind, &path, json!({ text: "x" })), vec![path.to_string()]));
            }
        }
        for text in corpus() {
            let mut named = valid(kind);
            named["metadata"]["name"] = json!(text);
            all.push((kind, named, vec!["metadata.name".to_owned(), "name".to_owned()]));
        }
    }
    println!("{} texts in fields", all.len());
    if !night() {
        all.shuffle(&mut chance);
        all.truncate(500);
    }
    judge(AT_ONCE, all).await;
}

#[tokio::test]
async fn f82_nonsense_of_size_and_number_is_refused_by_its_bound() {
    let mut chance = chance("f82");
    let mut all = Vec::new();
    for kind in KINDS {
        for (path, schema) in fields(kind) {
            let values: Vec<Value> = match schema["type"].as_str() {
                Some("integer") => vec![
                    json!(-1_000_000),
                    json!(i64::MAX),
                    json!(i64::MIN),
                    json!(u64::MAX),
                    json!(1e300),
                    json!(-1e300),
                    json!(1.5),
                    json!("7"),
                ],
                Some("array") => {
                    // Of the right type: an API server compares the errors of 10,000 wrong ones in pairs, which takes it minutes.
                    let one =
                        full(kind).pointer(&pointer(&path)).and_then(|list| list.get(0)).cloned().unwrap_or(json!("x"));
                    vec![Value::Array(vec![one; 10_000])]
                }
                Some("string") if schema["enum"].is_null() => vec![json!("a".repeat(1 << 20))],
                Some("object") if schema["additionalProperties"].is_object() => {
                    vec![Value::Object((0..10_000).map(|n| (format!("k{n}"), json!("x"))).collect())]
                }
                _ => vec![],
            };
            all.extend(values.into_iter().map(|value| (kind, with(kind, &path, value), vec![path.to_string()])));
        }
    }
    println!("{} objects with nonsense", all.len());
    if !night() {
        all.shuffle(&mut chance);
        all.truncate(60);
    }
    // Each of them may keep an API server busy for seconds on a machine that others use as well.
    let taken = judge(2, all).await;
    assert!(
        taken.is_empty(),
        "taken, though beyond every bound: {:?}",
        taken.iter().map(|(kind, object)| format!("{kind}: {object:.300}")).collect::<Vec<_>>()
    );
}
