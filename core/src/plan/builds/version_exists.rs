//! A version that exists already. It is never built twice.

use super::Observed;

/// The message for a version that belongs to another Build; `None`: it is free, or this Build's own.
pub(super) fn version_exists(observed: &Observed, version: &str) -> Option<String> {
    let owner = observed.version_owner.as_ref().filter(|owner| owner.uid != observed.object.uid)?;
    let (namespace, build, uid) = (&observed.object.namespace, &owner.build, &owner.uid);
    let of = match owner.commit.get(..12) {
        Some(short) => format!(" of commit {short}"),
        None => String::new(),
    };
    Some(format!(
        "version {version} exists and belongs to the Build {namespace}/{build}{of} (uid {uid}); a version is never built twice: create a Build with another spec.tag"
    ))
}
