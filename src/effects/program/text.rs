//! Messages of a host, read as a stranger's: control characters have no power in what comes out, texts are bounded, and folders of other
//! namespaces are dropped. Names, digests and numbers are checked by the protocol's types.

use landfall_host_protocol::{HostFacts, Push};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ProgramError;
use crate::model::text::{clean, is_harmless};

/// The longest text, in bytes; it ends there.
const TEXT_MAX: usize = 64 << 10;
/// Elements of a list or object that are read.
const ITEMS_MAX: usize = 20_000;

/// A message, all of its texts cleaned.
pub(super) fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ProgramError> {
    let unreadable = |error: serde_json::Error| {
        let why: String = error.to_string().chars().filter(|c| is_harmless(*c)).take(200).collect();
        ProgramError::protocol(format!("a message can't be read: {why}"))
    };
    let mut value: Value = serde_json::from_slice(payload).map_err(unreadable)?;
    if !made_harmless(&mut value) {
        return Err(ProgramError::protocol(format!("a message has a list of more than {ITEMS_MAX}")));
    }
    serde_json::from_value(value).map_err(unreadable)
}

/// False: a list is too long. serde_json bounds the depth.
fn made_harmless(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            if text.len() > TEXT_MAX {
                let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
                text.truncate(end);
            }
            if !text.chars().all(is_harmless) {
                *text = clean(text.as_bytes());
            }
            true
        }
        Value::Array(items) => items.len() <= ITEMS_MAX && items.iter_mut().all(made_harmless),
        Value::Object(fields) => {
            fields.retain(|name, _| name.chars().all(is_harmless) && name.len() <= TEXT_MAX);
            fields.len() <= ITEMS_MAX && fields.values_mut().all(made_harmless)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Facts without what lies in other namespaces.
pub(super) fn keep_namespace(facts: &mut HostFacts, namespace: &str) {
    facts.folders.retain(|folder, _| folder.namespace() == namespace);
}

/// The same of a push. One of the host itself tells of no folder.
pub(super) fn keep_namespace_of_push(push: &mut Push, namespace: &str) {
    match push {
        Push::Folders { folders, .. } => folders.retain(|folder, _| folder.namespace() == namespace),
        Push::Host { facts, .. } => facts.folders.clear(),
        Push::Unknown(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{Answer, Refusal};

    use super::*;

    #[test]
    fn texts_of_a_host_lose_their_power_whichever_field_they_stand_in() {
        let json = br#"{"refused":{"failed":{"why":"\u001b]0;owned\u0007 bad \u202e file\nnext"}}}"#;
        let Answer::Refused(Refusal::Failed { why }) = read(json).unwrap() else { panic!() };
        assert_eq!(why, "]0;owned bad \\u{202e} file\nnext");
        let long = format!(r#"{{"refused":{{"failed":{{"why":"{}"}}}}}}"#, "x".repeat(200_000));
        let Answer::Refused(Refusal::Failed { why }) = read(long.as_bytes()).unwrap() else { panic!() };
        assert_eq!(why.len(), TEXT_MAX);
    }

    #[test]
    fn forged_names_and_numbers_are_refused() {
        for json in [
            r#"{"events":{"offset":-1,"events":[]}}"#,
            r#"{"have":{"bytes":1e300}}"#,
            r#"{"refused":{"missing":{"digests":["../../etc/passwd"]}}}"#,
            r#"{"unheardOf":{}}"#,
            "[[[[",
            "",
        ] {
            let read: Result<Answer, _> = read(json.as_bytes());
            assert!(matches!(read, Err(ProgramError::Protocol(_))), "{json}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read::<Answer>(deep.as_bytes()).is_err());
    }
}
