//! Before the grant: everything that can be refused is refused here, before anything is queued.

use std::time::Duration;

use super::{
    Action, FormerVersion, Observed, parameters, publish, resources, status::StatusBuilder, template,
    version_exists::version_exists,
};
use crate::{
    api::{Reason, Verdict, build::BuildStatus},
    plan::{Plan, project::Denied},
};

/// The project requeues the Build when its state changes; this covers the case that it can't.
const REQUEUE_AFTER: Duration = Duration::from_secs(30);

pub(super) fn plan(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    let observed = draft.observed;
    if observed.object.spec.cancelled {
        return draft.fail(Reason::Cancelled, "cancelled before it started; nothing was built");
    }
    let project = &observed.object.spec.project_ref.name;
    if observed.project.is_none() {
        let message = format!(
            "there is no Project {project:?} in this namespace; the Build continues by itself once there is one"
        );
        return draft.with_verdict(false, &Verdict::waiting(Reason::ProjectNotFound, message), None);
    }
    if draft.status.commit.is_none() {
        draft.status.commit.clone_from(&observed.resolved);
    }
    if let Some(former) = former_version(&draft) {
        return publish::published_before(draft, former);
    }
    if let Some((reason, message)) = refusal(&draft) {
        return draft.fail(reason, message);
    }
    if draft.status.commit.is_none() {
        return resolve(draft);
    }
    queued(draft)
}

/// The newest version that a Build of this name published from this commit, with these parameters and under this tag: what a git tool
/// applies again after retention (or a person) deleted the Build.
fn former_version<'a>(draft: &StatusBuilder<'a>) -> Option<&'a FormerVersion> {
    let observed = draft.observed;
    let commit = &draft.status.commit.as_ref()?.sha;
    let same_tag = |former: &&FormerVersion| observed.object.spec.tag.as_ref().is_none_or(|tag| *tag == former.version);
    let same_parameters = |former: &&FormerVersion| {
        former.parameters.as_ref().is_none_or(|given| *given == observed.object.spec.parameters)
    };
    let versions = observed.former_versions.iter().filter(|former| former.commit == *commit);
    versions.filter(same_tag).filter(same_parameters).max_by_key(|former| former.built_at)
}

/// What is wrong with the spec, as things stand.
fn refusal(draft: &StatusBuilder<'_>) -> Option<(Reason, String)> {
    let observed = draft.observed;
    let project = observed.project.as_ref()?;
    if let Err(bad) = parameters::resolve(&project.parameters, &observed.object.spec.parameters) {
        return Some((bad.reason, bad.message));
    }
    if let Err(bad) = resources::read(project.resources.as_ref()) {
        return Some((Reason::InvalidSpec, bad));
    }
    match &observed.object.spec.tag {
        None => {
            let bad = template::check(&project.tag.template).err()?;
            Some((Reason::TagTemplateInvalid, bad.to_string()))
        }
        Some(_) if draft.status.commit.is_none() && may_be_published_before(observed) => None,
        Some(tag) => version_exists(observed, tag).map(|message| (Reason::VersionExists, message)),
    }
}

/// Whether the owner of the tag had the name of this Build: then the commit decides whether this is the same Build come back.
fn may_be_published_before(observed: &Observed) -> bool {
    observed.version_owner.as_ref().is_some_and(|owner| owner.build == observed.object.name)
}

fn resolve(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    if let Some(held_up) = draft.held_up(false) {
        return held_up;
    }
    if !draft.observed.working {
        draft.add(Action::Resolve);
    }
    let message = format!("resolving revision {:?}", draft.observed.object.spec.revision);
    draft.trying(false, Verdict::working(Reason::Resolving, message))
}

/// Waits for its grant. From here on the finalizer holds it.
pub(super) fn queued(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    if draft.superseded() {
        return replaced(draft, "nothing was built");
    }
    if let Some(Denied::ForbiddenBy(other)) = draft.denied() {
        let message = format!(
            "build {other} is running, and build.concurrencyPolicy of the project is Forbid; once that one has ended: {}",
            draft.retry_command()
        );
        return draft.fail(Reason::ConcurrencyForbidden, message);
    }
    draft.status.queue.clone_from(&draft.observed.place);
    if let Some(retry_state) =
        draft.retry_state().filter(|retry_state| !retry_state.terminal && draft.observed.place.is_none())
    {
        // Granted, but what the grant freezes could not be written yet. The project retries.
        let verdict = Verdict::waiting(retry_state.reason, retry_state.message.clone());
        return draft.held(verdict, vec![], Some(REQUEUE_AFTER));
    }
    let message = match &draft.observed.place {
        None => "waiting for its turn".to_owned(),
        Some(place) => match &place.waiting_for {
            Some(other) => format!("position {} in the queue; build {other} is running", place.position),
            None => format!("position {} in the queue", place.position),
        },
    };
    draft.held(Verdict::working(Reason::Queued, message), vec![], None)
}

/// Ends because a newer build has its place.
pub(super) fn replaced(draft: StatusBuilder<'_>, what: &str) -> Plan<BuildStatus, Action> {
    let newer = draft.status.superseded_by.clone().unwrap_or_else(|| "a newer one".to_owned());
    let message = format!(
        "build {newer} is newer and replaces this one, as build.concurrencyPolicy of the project says; {what}. To run it anyway, once that one has ended: {}",
        draft.retry_command()
    );
    draft.fail(Reason::Superseded, message)
}
