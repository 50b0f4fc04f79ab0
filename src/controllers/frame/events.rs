//! Events for people's eyes: each occurrence is an object of its own with its own words, never merged with another of the same reason, as a
//! recorder would. They live an hour; the record is elsewhere. It must not decide what is told.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::ResourceExt;
use parking_lot::Mutex;

use super::{Kind, Shared};
use crate::{
    api::{FIELD_MANAGER, conditions::clip},
    controllers::error::api_message,
    effects::{api_server::post_params, clock},
    plan::EventDraft,
};

/// An event is for people's eyes: a reconcile does not wait longer for it.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The API server cuts nothing, it refuses.
const NOTE_BYTES: usize = 1024;
/// The same words about the same object, where nothing changed, come once in that time.
const REPEAT_AFTER: Duration = Duration::from_secs(3600);
const RECENT_MAX: usize = 4096;
/// Names of events are names of objects: a prefix of the object's name, and who is unique.
const NAME_BYTES: usize = 200;

/// How often the same words about one object are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Once {
    /// Each time: the status changed, so it happened again.
    AChange,
    /// Once an hour: the plan says it at every reconcile.
    AnHour,
}

/// Events of the last hour, by object, reason and note. What is forgotten too early is told once more, no worse.
#[derive(Default)]
pub(super) struct RecentEvents(Mutex<HashMap<u64, Instant>>);

impl RecentEvents {
    /// Notes an event; answers whether it is one to publish.
    fn admit(&self, event: u64, once: Once, now: Instant) -> bool {
        let mut recent = self.0.lock();
        if recent.len() >= RECENT_MAX {
            recent.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        }
        if recent.len() >= RECENT_MAX {
            recent.clear();
        }
        let before = recent.insert(event, now).filter(|at| now.duration_since(*at) < REPEAT_AFTER);
        if let (Some(at), Once::AnHour) = (before, once) {
            recent.insert(event, at);
            return false;
        }
        true
    }
}

/// Publishes an event about what is on record, unless it was published lately and nothing changed since.
pub(super) async fn publish<K: Kind>(object: &K, draft: &EventDraft, once: Once, shared: &Shared) {
    let mut hasher = DefaultHasher::new();
    (object.uid(), draft.reason, &draft.note).hash(&mut hasher);
    if shared.recent_events.admit(hasher.finish(), once, clock::monotonic()) {
        publish_event(object, draft, shared).await;
    }
}

/// Publishes an event, and writes it into the log.
pub async fn publish_event<K: Kind>(object: &K, draft: &EventDraft, shared: &Shared) {
    let reason = draft.reason;
    match draft.warning {
        true => tracing::warn!(%reason, "{}", draft.note),
        false => tracing::info!(%reason, "{}", draft.note),
    }
    let api = shared.api::<Event>(&object.namespace().unwrap_or_default());
    let (event, params) = (event(object, draft), post_params());
    let lost = match tokio::time::timeout(EVENT_TIMEOUT, api.create(&params, &event)).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => api_message(&error),
        Err(_) => format!("no answer within {} s", EVENT_TIMEOUT.as_secs()),
    };
    tracing::warn!(%reason, error = lost, "an event is lost; the record is elsewhere");
}

fn event<K: Kind>(object: &K, draft: &EventDraft) -> Event {
    let regarding: ObjectReference = object.object_ref(&());
    let name: String = object.name_any().chars().take(NAME_BYTES).collect();
    let name = name.trim_end_matches(['-', '.']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", rand::random::<u64>())),
            namespace: object.namespace(),
            ..ObjectMeta::default()
        },
        action: Some(draft.action.to_owned()),
        event_time: Some(MicroTime(clock::now())),
        note: Some(clip(&draft.note, NOTE_BYTES)),
        reason: Some(draft.reason.to_string()),
        regarding: Some(regarding),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        type_: Some(if draft.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_repeats_is_told_once_an_hour_and_what_happens_again_each_time() {
        let (recent, now) = (RecentEvents::default(), crate::effects::clock::monotonic());
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        assert!(recent.admit(1, Once::AnHour, now));
        assert!(!recent.admit(1, Once::AnHour, later(1)));
        assert!(recent.admit(2, Once::AnHour, later(1)), "other words");
        assert!(!recent.admit(1, Once::AnHour, later(3599)), "however often it was repeated");
        assert!(recent.admit(1, Once::AnHour, later(3600)));
        assert!(recent.admit(1, Once::AChange, later(3601)));
        assert!(!recent.admit(1, Once::AnHour, later(3602)));
    }

    #[test]
    fn what_is_remembered_of_events_is_bounded() {
        let (recent, now) = (RecentEvents::default(), crate::effects::clock::monotonic());
        for event in 0..3 * RECENT_MAX as u64 {
            assert!(recent.admit(event, Once::AnHour, now));
        }
        assert!(recent.0.lock().len() <= RECENT_MAX);
    }
}
