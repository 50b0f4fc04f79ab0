//! An object as planners are given it. It decides nothing.

use kube::ResourceExt;

use crate::plan::ObservedObject;

/// `status`: `None` where nothing was decided about the object yet.
pub(super) fn observed_object<Spec, Status>(
    object: &impl ResourceExt,
    spec: Spec,
    status: Option<Status>,
) -> ObservedObject<Spec, Status> {
    ObservedObject {
        uid: object.uid().unwrap_or_default(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        generation: object.meta().generation.unwrap_or_default(),
        annotations: object.annotations().clone(),
        deleting: object.meta().deletion_timestamp.is_some(),
        spec,
        status,
    }
}
