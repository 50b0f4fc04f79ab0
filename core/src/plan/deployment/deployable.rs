//! Whether a version can be deployed to the hosts of a group. It looks at no host.

use super::observed::Observed;
use crate::{
    api::{
        Reason,
        hostgroup::{Become, BecomeMethod},
    },
    model::{Failure, version::VersionRecord},
};

/// A version that a pin names, or why its hosts wait.
pub(crate) fn deployable<'a>(observed: &'a Observed, name: &str) -> Result<&'a VersionRecord, Failure> {
    let seen = observed.pinned.get(name);
    judge(observed, name, seen.and_then(|seen| seen.record.as_ref()), seen.is_some_and(|seen| seen.removed))
}

/// Whether a version can be deployed, apart from its values.
pub(super) fn judge<'a>(
    observed: &Observed,
    name: &str,
    record: Option<&'a VersionRecord>,
    removed: bool,
) -> Result<&'a VersionRecord, Failure> {
    let project = &observed.spec.project_ref.name;
    if let Some(record) = record.filter(|_| removed) {
        let text = format!(
            "version {} was deleted by spec.retention of Project {project}; deploy another version, or build commit {} again under a new \
             version",
            record.version, record.commit
        );
        return Err(Failure::terminal(Reason::VersionRemoved, text));
    }
    let version = record.ok_or_else(|| {
        let text = format!(
            "Project {project} has no version {name} (yet); a Build that succeeds publishes it. The versions of the Project: kubectl -n {} get \
             projects.landfall.dev {project} -o jsonpath='{{.status.versions[*].version}}'",
            observed.namespace
        );
        Failure::waiting(Reason::VersionNotFound, text)
    })?;
    let refused = runtime_unknown(version).or_else(|| user_refused(observed, version));
    refused.map_or(Ok(version), Err)
}

/// A version with a runtime that this operator does not know, built by a newer one, is started on no host.
fn runtime_unknown(version: &VersionRecord) -> Option<Failure> {
    let text = format!(
        "version {} has a runtime that this version of landfall does not know; deploy it with the version of landfall that built it",
        version.version
    );
    (!version.run.is_known()).then(|| Failure::terminal(Reason::HostUnsupported, text))
}

/// A version that runs as a user that the group does not allow touches no host.
fn user_refused(observed: &Observed, version: &VersionRecord) -> Option<Failure> {
    let (user, group) = (version.run.user.as_ref()?, observed.group.as_ref()?);
    let text = not_allowed(user, &group.r#become)?;
    let name = &observed.spec.host_group_ref.name;
    Some(Failure::terminal(Reason::UserNotAllowed, format!("version {} on {name}: {text}", version.version)))
}

/// Why the group does not allow `user`; `None` where it does.
pub fn not_allowed(user: &str, by: &Become) -> Option<String> {
    if by.method != BecomeMethod::None && by.users.iter().any(|one| one == user) {
        return None;
    }
    let users = if by.users.is_empty() { "no user".to_owned() } else { by.users.join(", ") };
    Some(format!(
        "run.user is {user:?}, and spec.become.users of the HostGroup has {users}; add the user there, with a method, or build a version \
         with another run.user"
    ))
}
