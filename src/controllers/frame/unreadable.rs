//! Objects that can't be read: written by another version of landfall, or before the schema refused their values. They are left alone, and a
//! Warning event on them names the field and the way out. It must not write to them.

use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::DeserializeGuard,
    runtime::controller::Action as ReconcileAction,
};

use super::{events::publish, kind::Kind, recent_events::RepeatPolicy, shared::Shared};
use crate::{
    api::{Reason, conditions::clip},
    controllers::error::ReconcileError,
    plan::EventDraft,
};

/// Bytes of a message of the parser, which may quote a value.
const WHY_BYTES: usize = 300;

/// The field is found in a fresh copy of the object: what the watch keeps of it has no path.
pub(super) async fn report_unreadable<K: Kind>(
    cached: &DeserializeGuard<K>,
    shared: &Shared,
) -> Result<ReconcileAction, ReconcileError> {
    // The operator that leads reports it.
    shared.gate.token()?;
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let resource = ApiResource::erase::<K>(&());
    let api = Api::<DynamicObject>::namespaced_with(shared.client.clone(), &namespace, &resource);
    let Some(object) = api.get_opt(&name).await? else { return Ok(ReconcileAction::await_change()) };
    // One that was mended meanwhile comes again by its watch.
    if let Err(error) = serde_path_to_error::deserialize::<_, K>(serde_json::to_value(&object)?) {
        let note = note::<K>(&name, &error.path().to_string(), &error.inner().to_string());
        let draft = EventDraft::warning(Reason::ObjectUnreadable, "Read", note);
        publish(cached.object_ref(&()), &draft, RepeatPolicy::Hourly, shared).await;
    }
    Ok(ReconcileAction::await_change())
}

fn note<K: Kind>(name: &str, path: &str, why: &str) -> String {
    let why: String = why.chars().filter(|c| !c.is_control()).collect();
    let (kind, version, plural) = (K::kind(&()).to_lowercase(), K::api_version(&()), K::plural(&()));
    // `spec.sources[2].url` is explained as `spec.sources.url`.
    let field: Vec<&str> = path.split('.').map(|part| part.split('[').next().unwrap_or_default()).collect();
    let field = if path == "." { kind } else { format!("{kind}.{}", field.join(".")) };
    format!(
        "{} can't be read, so this object is left alone: {}; correct it by kubectl edit {plural}.{} {name} (kubectl explain --api-version={version} \
         {field} says what it takes), or run the version of landfall that wrote it",
        if path == "." { "the object" } else { path },
        clip(&why, WHY_BYTES),
        K::group(&()),
    )
}
