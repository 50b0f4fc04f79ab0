//! What a later version says in a place where this one knows a few words: it is read and named, and nothing is made of it.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// Characters of a name that are kept.
const MAX_NAME: usize = 64;
/// Variants that this version knows, wherever `Later` stands: one that could not be read is malformed, and not of a later version.
const KNOWN: [&str; 27] = [
    // EventKind
    "begun",
    "skipped",
    "line",
    "cut",
    "progress",
    "ended",
    "failed",
    // ProcessState
    "running",
    "waiting",
    "completed",
    "stopped",
    // Outcome
    "succeeded",
    "cancelled",
    // Refusal
    "badInput",
    "fenced",
    "otherControlPlane",
    "claimed",
    "journalMoved",
    "busy",
    "notFound",
    "missing",
    "digestMismatch",
    "full",
    "unsupported",
    // Push
    "folders",
    "host",
    // What no variant is called: it is shown for this one.
    "unknown",
];

/// The name of a variant that this version does not know, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later(String);

impl Later {
    fn read<E: serde::de::Error>(name: &str) -> Result<Self, E> {
        if KNOWN.contains(&name) {
            return Err(E::custom(format!("a malformed {name}")));
        }
        Ok(Self(name.chars().take(MAX_NAME).collect()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Later {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Name)
    }
}

/// A variant is its name alone, or one field of that name.
struct Name;

impl<'de> Visitor<'de> for Name {
    type Value = Later;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a variant")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Later, E> {
        Later::read(name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Later, A::Error> {
        let name: String = fields.next_key()?.ok_or_else(|| serde::de::Error::custom("a variant has a name"))?;
        fields.next_value::<IgnoredAny>()?;
        match fields.next_key::<IgnoredAny>()? {
            None => Later::read(&name),
            Some(_) => Err(serde::de::Error::custom("a variant has one name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Event, EventKind, Failure, Outcome, ProcessState, Push, Reason, Refusal, StepName};

    #[test]
    fn a_word_of_a_later_version_is_read() {
        let read = |text: &str| serde_json::from_str::<Refusal>(text).unwrap();
        for text in ["\"tooWarm\"", r#"{"tooWarm":{"degrees":[80]}}"#] {
            let Refusal::Unknown(later) = read(text) else { panic!() };
            assert_eq!(later.as_str(), "tooWarm");
        }
        assert_eq!(read("\"fenced\""), Refusal::Fenced);
        assert_eq!(read(r#"{"journalMoved":{"now":3,"then":2}}"#), Refusal::JournalMoved { now: 3 });
        let event = r#"{"afterMillis":1,"step":"verify","kind":{"picture":{"png":""}}}"#;
        let event: Event = serde_json::from_str(event).unwrap();
        assert_eq!((event.step, matches!(event.kind, EventKind::Unknown(_))), (StepName::Unknown, true));
        let failure: Failure = serde_json::from_str(r#"{"step":"stop","reason":"TooWarm","why":""}"#).unwrap();
        assert_eq!(failure.reason, Reason::Unknown);
        assert!(matches!(serde_json::from_str(r#"{"frozen":{}}"#).unwrap(), ProcessState::Unknown(_)));
        assert!(matches!(serde_json::from_str(r#"{"frozen":{}}"#).unwrap(), Outcome::Unknown(_)));
        assert!(matches!(serde_json::from_str(r#"{"news":{"seen":1}}"#).unwrap(), Push::Unknown(_)));
    }

    #[test]
    fn a_known_word_that_is_malformed_is_refused() {
        for text in [r#"{"missing":{"digests":["../../etc/passwd"]}}"#, r#"{"journalMoved":{"now":-1}}"#, "\"full\""] {
            assert!(serde_json::from_str::<Refusal>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<EventKind>(r#"{"line":{"stream":1}}"#).is_err());
        assert!(serde_json::from_str::<ProcessState>(r#"{"waiting":{}}"#).is_err());
        assert!(serde_json::from_str::<Outcome>(r#"{"failed":{}}"#).is_err());
        assert!(serde_json::from_str::<Push>(r#"{"folders":{}}"#).is_err());
    }

    #[test]
    fn what_is_no_variant_is_not_read() {
        for text in ["1", "null", "[]", "{}", r#"{"tooWarm":1,"tooCold":2}"#] {
            assert!(serde_json::from_str::<Refusal>(text).is_err(), "{text}");
        }
    }
}
