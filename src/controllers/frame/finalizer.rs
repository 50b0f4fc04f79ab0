//! The finalizer, as the plan says. It must not decide who needs one.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};

use super::{Kind, ReconcileError, Shared, commit::of_object};
use crate::{api::FINALIZER, effects::gate::Effect};

/// Makes the finalizer what the plan says, on exactly the version that was read. True if that was a change, after which everything is to be
/// observed again.
pub(super) async fn sync_finalizer<K: Kind>(object: &K, wanted: bool, shared: &Shared) -> Result<bool, ReconcileError> {
    let held = object.finalizers().iter().any(|name| name == FINALIZER);
    if held == wanted || (wanted && object.meta().deletion_timestamp.is_some()) {
        return Ok(false);
    }
    let others = object.finalizers().iter().filter(|name| *name != FINALIZER).cloned();
    let finalizers: Vec<String> = others.chain(wanted.then(|| FINALIZER.to_owned())).collect();
    let merge = serde_json::json!({
        "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers },
    });
    let api = shared.api::<K>(&object.namespace().unwrap_or_default());
    let subject = format!("{}/{}", K::KIND, object.name_any());
    // Two literals: the crash harness reads the effects' names from the source.
    let effect = if wanted { Effect::new("finalizer.set", subject) } else { Effect::new("finalizer.remove", subject) };
    let patch =
        async { api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(merge)).await.map_err(of_object) };
    shared.gate.pass(effect, patch).await?;
    Ok(true)
}
