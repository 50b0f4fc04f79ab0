//! What was seen a moment ago of the Secrets and ConfigMaps that applications take values from, so that a burst of reconciles reads each once.
//! Keyed hashes and sizes alone, never a value. It must not read.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::model::{Failure, keyed::KeyedHash};

/// How long what was seen counts, and how long that an object can't be used: that may be mended any moment.
const SEEN_FOR: Duration = Duration::from_secs(10);
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// Where values are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Object {
    Secret(String),
    ConfigMap(String),
}

/// These keys of an object, for applications of a Project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub namespace: String,
    pub project: String,
    pub object: Object,
    pub keys: Vec<String>,
}

/// One value, without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub hash: KeyedHash,
    pub bytes: usize,
    /// As a message has it.
    pub bytes_in_task: usize,
    /// It can be an environment variable.
    pub fits_variable: bool,
}

/// What an object has of its named keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Keys(BTreeMap<String, Known>),
    Refused(Failure),
}

/// By parts, and by Deployment what it was looked at for.
#[derive(Default)]
pub struct SeenObjects(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    parts: HashMap<Part, (Instant, Seen)>,
    looks: HashMap<String, (Instant, u64)>,
}

impl SeenObjects {
    /// What is known of it and counts still.
    pub(super) fn get(&self, part: &Part, now: Instant) -> Option<Seen> {
        self.0.lock().parts.get(part).filter(|(at, seen)| counts(*at, seen, now)).map(|(_, seen)| seen.clone())
    }

    pub(super) fn keep(&self, part: Part, seen: Seen, now: Instant) {
        let parts = &mut self.0.lock().parts;
        parts.retain(|_, (at, seen)| counts(*at, seen, now));
        parts.insert(part, (now, seen));
    }

    /// Whether the Deployment is looked at for something else than a moment ago: a changed spec or annotation, which a person waits for.
    pub(super) fn is_new_look(&self, uid: &str, look: u64, now: Instant) -> bool {
        let looks = &mut self.0.lock().looks;
        looks.retain(|_, (at, _)| now.saturating_duration_since(*at) < SEEN_FOR);
        looks.insert(uid.to_owned(), (now, look)).is_none_or(|(_, before)| before != look)
    }
}

fn counts(at: Instant, seen: &Seen, now: Instant) -> bool {
    let counts_for = if matches!(seen, Seen::Keys(_)) { SEEN_FOR } else { REFUSED_FOR };
    now.saturating_duration_since(at) < counts_for
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Reason, effects::clock};

    #[test]
    fn what_was_seen_counts_a_moment_and_what_can_not_be_used_a_shorter_one() {
        let (memory, now) = (SeenObjects::default(), clock::monotonic());
        let part = |name: &str| Part {
            namespace: "team".into(),
            project: "shop".into(),
            object: Object::Secret(name.into()),
            keys: vec!["password".into()],
        };
        let later = |seconds| now + Duration::from_secs(seconds);
        memory.keep(part("db"), Seen::Keys(BTreeMap::new()), now);
        memory.keep(part("tls"), Seen::Refused(Failure::waiting(Reason::SecretNotFound, "create it")), now);
        assert!(memory.get(&part("db"), later(9)).is_some() && memory.get(&part("db"), later(10)).is_none());
        assert!(memory.get(&part("tls"), later(1)).is_some() && memory.get(&part("tls"), later(2)).is_none());
        let of_another = Part { project: "other".into(), ..part("db") };
        assert_eq!(memory.get(&of_another, now), None, "its label may not be for that one");
        memory.keep(part("new"), Seen::Keys(BTreeMap::new()), later(11));
        assert_eq!(memory.0.lock().parts.len(), 1);
    }

    #[test]
    fn a_changed_deployment_is_a_new_look() {
        let (memory, now) = (SeenObjects::default(), clock::monotonic());
        let look = |look, seconds| memory.is_new_look("uid-1", look, now + Duration::from_secs(seconds));
        assert!(look(1, 0) && !look(1, 1) && look(2, 2) && !look(2, 3) && look(1, 4));
    }
}
