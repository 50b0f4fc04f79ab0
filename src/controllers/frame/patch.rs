//! A change of a status as operations of a JSON patch: only what differs is written. What this version does not know stays as it stands, and
//! a write of what is for display carries nothing that a decision rests on. Pure; it must not decide what is written.
//!
//! Status has no server-side apply. An apply takes away what its manager wrote and no longer names: fields of a later version of landfall,
//! which is the same manager. And of display alone it would have to carry the intent along.

use serde_json::{Map, Value, json};

/// What turns a status into the next. `raw` is the status as it stands, `before` what this version read of it, `after` the next one.
pub(super) fn all(raw: &Value, before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    match (raw, after) {
        (Value::Object(raw), Value::Object(after)) => object(raw, before, after, "/status", &mut operations),
        _ => operations.push(json!({ "op": "add", "path": "/status", "value": after })),
    }
    operations
}

/// The part of it that is for display; `display` as in `Kind::DISPLAY`. `None` where what stands can't be matched with what was read, as a
/// list of which this version can't read every entry.
pub(super) fn display(raw: &Value, before: &Value, after: &Value, display: &[&str]) -> Option<Vec<Value>> {
    let mut operations = Vec::new();
    for pointer in display {
        let path: Vec<&str> = pointer.split('/').skip(1).collect();
        shown([raw, before, after], &path, "/status", &mut operations)?;
    }
    Some(operations)
}

/// That the object is still what was read, but for marks that no decision rests on.
pub(super) fn unchanged(raw: &Value) -> Vec<Value> {
    let paths =
        ["/metadata/generation", "/metadata/deletionTimestamp", "/metadata/annotations", "/metadata/finalizers"];
    paths.into_iter().chain(["/status"]).map(|path| test(path, raw.pointer(path).unwrap_or(&Value::Null))).collect()
}

pub(super) fn test(path: &str, value: &Value) -> Value {
    json!({ "op": "test", "path": path, "value": value })
}

/// JSON as the API server compares its texts: as Go writes them, which escapes these. Outside of texts JSON has none of them.
pub(super) fn as_go_writes(body: Vec<u8>) -> Vec<u8> {
    let Ok(mut text) = String::from_utf8(body.clone()) else { return body };
    for (plain, escaped) in
        [("<", r"\u003c"), (">", r"\u003e"), ("&", r"\u0026"), ("\u{2028}", r"\u2028"), ("\u{2029}", r"\u2029")]
    {
        text = text.replace(plain, escaped);
    }
    text.into_bytes()
}

fn object(raw: &Map<String, Value>, before: &Value, after: &Map<String, Value>, at: &str, operations: &mut Vec<Value>) {
    let known = before.as_object().into_iter().flat_map(Map::keys).filter(|key| !after.contains_key(*key));
    for key in after.keys().chain(known) {
        field(raw, before.get(key), after.get(key), key, at, operations);
    }
}

fn field(
    raw: &Map<String, Value>,
    before: Option<&Value>,
    after: Option<&Value>,
    key: &str,
    at: &str,
    operations: &mut Vec<Value>,
) {
    let path = below(at, key);
    match (raw.get(key), after) {
        (Some(_), _) if before == after => {}
        (Some(Value::Object(raw)), Some(Value::Object(after))) if is_same_thing(raw, after) => {
            object(raw, before.unwrap_or(&Value::Null), after, &path, operations);
        }
        (_, Some(after)) => operations.push(json!({ "op": "add", "path": path, "value": after })),
        (Some(_), None) => operations.push(json!({ "op": "remove", "path": path })),
        (None, None) => {}
    }
}

/// The pointer to a field, with its name as RFC 6901 escapes it.
fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// One with another id is another one: what a later version noted of the old one says nothing about the new.
fn is_same_thing(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.get("id") == other.get("id")
}

fn shown([raw, before, after]: [&Value; 3], path: &[&str], at: &str, operations: &mut Vec<Value>) -> Option<()> {
    let (first, rest) = path.split_first()?;
    if *first == "*" {
        return each([raw, before, after], rest, at, operations);
    }
    let (was, is) = (before.get(first), after.get(first));
    if was == is {
        return Some(());
    }
    let there = raw.as_object()?;
    if rest.is_empty() {
        field(there, was, is, first, at, operations);
        return Some(());
    }
    shown([there.get(*first)?, was?, is?], rest, &format!("{at}/{first}"), operations)
}

/// Entries by their place, each with a test that it is the one that was read.
fn each([raw, before, after]: [&Value; 3], rest: &[&str], at: &str, operations: &mut Vec<Value>) -> Option<()> {
    if before == after {
        return Some(());
    }
    let (raw, before, after) = (raw.as_array()?, before.as_array()?, after.as_array()?);
    if raw.len() != before.len() || before.len() != after.len() {
        return None;
    }
    for (nth, ((raw, before), after)) in raw.iter().zip(before).zip(after).enumerate() {
        if before == after {
            continue;
        }
        let at = format!("{at}/{nth}");
        let stays = |key: &str| before.get(key) == after.get(key);
        let tests = raw.as_object()?.iter().filter(|(key, _)| stays(key));
        operations.extend(tests.map(|(key, value)| test(&below(&at, key), value)));
        shown([raw, before, after], rest, &at, operations)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it stands: of a later version, with an entry that can't be read here.
    fn raw() -> Value {
        json!({
            "observedGeneration": 3,
            "conditions": [{ "type": "Ready", "status": "False", "message": "1 of 4 hosts" }],
            "hosts": { "total": 4, "drained": 1 },
            "rollout": { "id": "2.0", "batch": 1, "promoted": true, "intent": { "updating": ["a"], "canaryHosts": ["a"] } },
            "history": [{ "revision": "seven" }],
            "lastHandled": { "landfall.dev/retry": "1" },
        })
    }

    /// As this version reads it.
    fn before() -> Value {
        let mut before = raw();
        before["hosts"] = json!({ "total": 4, "updated": 0 });
        before["rollout"] = json!({ "id": "2.0", "batch": 1, "intent": { "updating": ["a"] } });
        before["history"] = json!([]);
        before
    }

    fn changed(change: impl Fn(&mut Value)) -> Vec<Value> {
        let mut after = before();
        change(&mut after);
        all(&raw(), &before(), &after)
    }

    #[test]
    fn only_what_differs_is_written() {
        assert!(changed(|_| {}).is_empty());
        let operations = changed(|status| {
            status["observedGeneration"] = json!(4);
            status["rollout"]["intent"]["updating"] = json!(["b"]);
            status["hosts"]["updated"] = json!(1);
            status["lastHandled"] = json!({ "landfall.dev/redeploy": "2" });
        });
        let mut paths: Vec<_> = operations.iter().map(|one| format!("{} {}", one["op"], one["path"])).collect();
        paths.sort();
        let wanted = [
            "\"add\" \"/status/hosts/updated\"",
            "\"add\" \"/status/lastHandled/landfall.dev~1redeploy\"",
            "\"add\" \"/status/observedGeneration\"",
            "\"add\" \"/status/rollout/intent/updating\"",
            "\"remove\" \"/status/lastHandled/landfall.dev~1retry\"",
        ];
        assert_eq!(paths, wanted);
    }

    #[test]
    fn what_a_later_version_noted_of_another_rollout_goes_with_it() {
        let next = json!({ "id": "3.0", "batch": 1, "intent": { "updating": [] } });
        let operations = changed(|status| status["rollout"] = next.clone());
        assert_eq!(operations, [json!({ "op": "add", "path": "/status/rollout", "value": next })]);
    }

    #[test]
    fn a_status_that_is_not_there_is_written_whole() {
        let whole = json!({ "op": "add", "path": "/status", "value": before() });
        assert_eq!(all(&Value::Null, &Value::Null, &before()), [whole]);
    }

    #[test]
    fn a_display_write_carries_no_intent_and_finds_its_condition() {
        let pointers = ["/conditions/*/message", "/hosts", "/rollout/batch", "/exceptions"];
        let mut after = before();
        after["conditions"][0]["message"] = json!("2 of 4 hosts");
        after["rollout"]["batch"] = json!(2);
        after["rollout"]["intent"] = json!({ "updating": [] });
        after["exceptions"] = json!([]);
        let operations = display(&raw(), &before(), &after, &pointers).unwrap();
        let wanted = [
            test("/status/conditions/0/status", &json!("False")),
            test("/status/conditions/0/type", &json!("Ready")),
            json!({ "op": "add", "path": "/status/conditions/0/message", "value": "2 of 4 hosts" }),
            json!({ "op": "add", "path": "/status/rollout/batch", "value": 2 }),
            json!({ "op": "add", "path": "/status/exceptions", "value": [] }),
        ];
        assert_eq!(operations, wanted);
        let mut later = raw();
        later["conditions"] = json!([{ "of": "a later version" }, raw()["conditions"][0]]);
        assert!(display(&later, &before(), &after, &pointers).is_none());
    }

    #[test]
    fn a_field_of_a_later_version_with_a_slash_in_its_name_is_found() {
        let entry = |message: &str| json!([{ "a/b~c": "later", "message": message }]);
        let [raw, after] = ["old", "new"].map(|message| json!({ "conditions": entry(message) }));
        let operations = display(&raw, &raw, &after, &["/conditions/*/message"]).unwrap();
        assert_eq!(operations.first(), Some(&test("/status/conditions/0/a~1b~0c", &json!("later"))));
    }

    #[test]
    fn texts_are_compared_as_go_writes_them() {
        let body = as_go_writes(br#"[{"a":"<b> & c"}]"#.to_vec());
        assert_eq!(String::from_utf8(body).unwrap(), r#"[{"a":"\u003cb\u003e \u0026 c"}]"#);
    }
}
