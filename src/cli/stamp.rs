//! A verb as it is written: an annotation whose value the operator has not acted on yet.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::api::verbs::is_handled;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub verb: &'static str,
    pub value: String,
}

impl Stamp {
    /// A verb acts on a new value only, so `filler`, which means nothing to the verb, is added until the value is one that the object neither
    /// has nor was handled with last. `None` where that takes a filler and there is none.
    pub fn new(verb: &'static str, mut value: String, filler: Option<char>, object: &Value) -> Option<Self> {
        let (annotations, handled) = (annotations(object), handled(object));
        while annotations.get(verb) == Some(&value) || is_handled(verb, &value, &handled) {
            value.push(filler?);
        }
        Some(Self { verb, value })
    }

    /// What writes it.
    pub fn patch(&self) -> Value {
        json!({ "metadata": { "annotations": { self.verb: self.value } } })
    }

    /// Whether the operator has acted on it.
    pub fn is_handled(&self, object: &Value) -> bool {
        is_handled(self.verb, &self.value, &handled(object))
    }
}

fn annotations(object: &Value) -> BTreeMap<String, String> {
    BTreeMap::deserialize(&object["metadata"]["annotations"]).unwrap_or_default()
}

fn handled(object: &Value) -> BTreeMap<String, String> {
    BTreeMap::deserialize(&object["status"]["lastHandled"]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::verbs::{RETRY, SUSPEND_HOST};

    #[test]
    fn what_was_asked_for_before_is_asked_for_again_by_another_value() {
        let object = json!({
            "metadata": { "annotations": { RETRY: "1" } },
            "status": { "lastHandled": { RETRY: "1+", SUSPEND_HOST: "web-01" } },
        });
        let value = |verb, value: &str, filler| Some(Stamp::new(verb, value.into(), filler, &object)?.value);
        assert_eq!(value(RETRY, "1", Some('+')).as_deref(), Some("1++"));
        assert_eq!(value(RETRY, "2", Some('+')).as_deref(), Some("2"));
        assert_eq!(value(RETRY, "1", None), None);
        // Taken away by a GitOps tool once it was handled.
        assert_eq!(value(SUSPEND_HOST, "web-01", Some(',')).as_deref(), Some("web-01,"));
    }

    #[test]
    fn a_long_value_is_handled_when_its_mark_is_on_record() {
        let stamp = Stamp { verb: SUSPEND_HOST, value: "x".repeat(300) };
        let annotations = BTreeMap::from([(SUSPEND_HOST.to_owned(), stamp.value.clone())]);
        let marks = crate::api::verbs::handled(&[SUSPEND_HOST], &annotations, &BTreeMap::new());
        assert!(stamp.is_handled(&json!({ "status": { "lastHandled": marks } })));
        assert!(!stamp.is_handled(&json!({ "status": { "lastHandled": { SUSPEND_HOST: "y" } } })));
    }
}
