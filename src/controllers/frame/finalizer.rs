//! The finalizer, as the plan says. It must not decide which object needs one.

use kube::{ResourceExt, api::Patch};

use super::{
    commit::{asks_the_same, of_object},
    kind::Kind,
    shared::Shared,
};
use crate::{
    api::FINALIZER,
    controllers::error::ReconcileError,
    effects::{api_server::patch_params, gate::Effect},
};

/// Tries in a row where only foreign marks came between a read and a write.
const WRITES_AT_ONCE: u32 = 10;

/// Makes the finalizer what the plan says, on a version about which the plan says the same. True if that was a change, after which everything
/// is to be observed again.
pub(super) async fn sync_finalizer<K: Kind>(object: &K, wanted: bool, shared: &Shared) -> Result<bool, ReconcileError> {
    let held = object.finalizers().iter().any(|name| name == FINALIZER);
    if held == wanted || (wanted && object.meta().deletion_timestamp.is_some()) {
        return Ok(false);
    }
    let subject = format!("{}/{}", K::KIND, object.name_any());
    // Two literals: the crash harness reads the effects' names from the source.
    let effect = if wanted { Effect::new("finalizer.set", subject) } else { Effect::new("finalizer.remove", subject) };
    shared.gate.pass(effect, write(object, wanted, shared)).await?;
    Ok(true)
}

/// A foreign writer who is faster than the observing must not keep the finalizer away: where what was decided on is unchanged, the newest
/// version is written.
async fn write<K: Kind>(object: &K, wanted: bool, shared: &Shared) -> Result<(), ReconcileError> {
    let (name, api) = (object.name_any(), shared.api::<K>(&object.namespace().unwrap_or_default()));
    let others = object.finalizers().iter().filter(|name| *name != FINALIZER).cloned();
    let finalizers: Vec<String> = others.chain(wanted.then(|| FINALIZER.to_owned())).collect();
    let params = patch_params();
    let mut version = object.resource_version();
    for _ in 0..WRITES_AT_ONCE {
        let merge = serde_json::json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } });
        match api.patch(&name, &params, &Patch::Merge(merge)).await.map_err(of_object) {
            Err(ReconcileError::Outdated) => {}
            done => return done.map(|_| ()),
        }
        let Some(latest) = api.get_opt(&name).await?.filter(|latest| asks_the_same(object, latest)) else { break };
        version = latest.resource_version();
    }
    Err(ReconcileError::Outdated)
}
