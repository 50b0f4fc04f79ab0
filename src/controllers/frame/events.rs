//! Events for people's eyes: each occurrence is an object of its own with its own words, never merged with another of the same reason, as a
//! recorder would. They live an hour; the record is elsewhere. It must not decide what is published.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::{kind::Kind, recent_events::RepeatPolicy, shared::Shared};
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
/// Names of events are names of objects: a prefix of the object's name, and a unique suffix.
const NAME_BYTES: usize = 200;

/// Publishes an event about what is on record, unless it was published lately and nothing changed since.
pub(super) async fn publish(regarding: ObjectReference, draft: &EventDraft, repeat: RepeatPolicy, shared: &Shared) {
    let mut hasher = DefaultHasher::new();
    (&regarding.uid, draft.reason, &draft.note).hash(&mut hasher);
    if shared.recent_events.admit(hasher.finish(), repeat, clock::monotonic()) {
        create(regarding, draft, shared).await;
    }
}

/// Publishes an event, and writes it into the log.
pub async fn publish_event<K: Kind>(object: &K, draft: &EventDraft, shared: &Shared) {
    create(object.object_ref(&()), draft, shared).await;
}

async fn create(regarding: ObjectReference, draft: &EventDraft, shared: &Shared) {
    let reason = draft.reason;
    match draft.warning {
        true => tracing::warn!(%reason, "{}", draft.note),
        false => tracing::info!(%reason, "{}", draft.note),
    }
    let api = shared.api::<Event>(regarding.namespace.as_deref().unwrap_or_default());
    let (event, params) = (event(regarding, draft), post_params());
    let lost = match tokio::time::timeout(EVENT_TIMEOUT, api.create(&params, &event)).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => api_message(&error),
        Err(_) => format!("no answer within {} s", EVENT_TIMEOUT.as_secs()),
    };
    tracing::warn!(%reason, error = lost, "an event is lost; the record is elsewhere");
}

fn event(regarding: ObjectReference, draft: &EventDraft) -> Event {
    let name: String = regarding.name.iter().flat_map(|name| name.chars()).take(NAME_BYTES).collect();
    let name = name.trim_end_matches(['-', '.']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", rand::random::<u64>())),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(draft.action.to_owned()),
        event_time: Some(MicroTime(clock::now())),
        note: Some(clip(&draft.note, NOTE_BYTES)),
        reason: Some(draft.reason.to_string()),
        related: draft.host.as_ref().map(|host| related(&regarding, host)),
        regarding: Some(regarding),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        type_: Some(if draft.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// The host that an event is about, as a part of its object: a host has no object of its own.
fn related(regarding: &ObjectReference, host: &str) -> ObjectReference {
    ObjectReference { field_path: Some(format!("host={host}")), ..regarding.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn an_event_about_a_host_names_it_in_related_and_another_has_none() {
        let hello =
            ObjectReference { kind: Some("Deployment".into()), name: Some("hello".into()), ..Default::default() };
        let draft = EventDraft::warning(Reason::HostFailed, "Deploy", "web-02: it failed");
        assert_eq!(event(hello.clone(), &draft).related, None);
        let of_host = event(hello, &EventDraft { host: Some("web-02".into()), ..draft });
        let related = of_host.related.unwrap();
        assert_eq!((related.name.as_deref(), related.field_path.as_deref()), (Some("hello"), Some("host=web-02")));
    }
}
