//! Before the grant: everything that can be refused is refused here, before anything is queued.

use std::time::Duration;

use super::{Action, Observed, StatusBuilder, parameters, resources, template};
use crate::{
    api::{Reason, Verdict, build::BuildStatus},
    plan::{Plan, project::Denied},
};

/// The project wakes it when it goes on; this is for the case that it can't.
const STUCK: Duration = Duration::from_secs(30);

pub(super) fn plan(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    let observed = draft.observed;
    if observed.spec.cancelled {
        return draft.fail(Reason::Cancelled, "was cancelled before it began; nothing was built");
    }
    let project = &observed.spec.project_ref.name;
    if observed.project.is_none() {
        let message =
            format!("there is no Project {project:?} in this namespace; it goes on by itself when there is one");
        return draft.say(false, &Verdict::waiting(Reason::ProjectNotFound, message), None);
    }
    if let Some((reason, message)) = refusal(observed) {
        return draft.fail(reason, message);
    }
    if draft.status.commit.is_none() {
        draft.status.commit.clone_from(&observed.resolved);
    }
    if draft.status.commit.is_none() {
        return resolve(draft);
    }
    queued(draft)
}

/// What is wrong with the spec, as things stand.
fn refusal(observed: &Observed) -> Option<(Reason, String)> {
    let project = observed.project.as_ref()?;
    if let Err(bad) = parameters::resolve(&project.parameters, &observed.spec.parameters) {
        return Some((bad.reason, bad.message));
    }
    if let Err(bad) = resources::read(project.resources.as_ref()) {
        return Some((Reason::InvalidSpec, bad));
    }
    match &observed.spec.tag {
        None => {
            let bad = template::check(&project.tag.template).err()?;
            Some((Reason::TagTemplateInvalid, bad.to_string()))
        }
        Some(tag) => taken(observed, tag).map(|message| (Reason::VersionExists, message)),
    }
}

/// Says so where the version belongs to another Build.
pub(super) fn taken(observed: &Observed, version: &str) -> Option<String> {
    let other = observed.version_of.as_ref().filter(|owner| **owner != observed.uid)?;
    let message = format!(
        "version {version} exists already and belongs to another Build (uid {other}); a version is never built twice: create a Build with another tag"
    );
    Some(message)
}

fn resolve(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    if let Some(held_up) = draft.held_up(false) {
        return held_up;
    }
    if !draft.observed.working {
        draft.add(Action::Resolve);
    }
    let message = format!("finds out which commit {:?} is", draft.observed.spec.revision);
    draft.trying(false, Verdict::working(Reason::Resolving, message))
}

/// Waits for its grant. From here on the finalizer holds it.
pub(super) fn queued(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    if draft.superseded() {
        return replaced(draft, "nothing was built");
    }
    if let Some(Denied::ForbiddenBy(other)) = draft.denied() {
        let message = format!(
            "build {other} is under way, and build.concurrencyPolicy of the project is Forbid; annotate this Build with landfall.dev/retry when that one is over"
        );
        return draft.fail(Reason::ConcurrencyForbidden, message);
    }
    draft.status.queue.clone_from(&draft.observed.place);
    if let Some(fault) = draft.fault().filter(|fault| !fault.terminal && draft.observed.place.is_none()) {
        // It has its turn, but what the grant freezes could not be written yet. The project goes on trying.
        let verdict = Verdict::waiting(fault.reason, fault.message.clone());
        return draft.held(verdict, vec![], Some(STUCK));
    }
    let message = match &draft.observed.place {
        None => "waits for its turn".to_owned(),
        Some(place) => match &place.waiting_for {
            Some(other) => format!("is number {} in line; {other} runs now", place.position),
            None => format!("is number {} in line", place.position),
        },
    };
    draft.held(Verdict::working(Reason::Queued, message), vec![], None)
}

/// Ends because a newer build has its place.
pub(super) fn replaced(draft: StatusBuilder<'_>, what: &str) -> Plan<BuildStatus, Action> {
    let newer = draft.status.superseded_by.clone().unwrap_or_else(|| "a newer one".to_owned());
    let message = format!(
        "build {newer} is newer and replaces this one, as build.concurrencyPolicy of the project says; {what}. Annotate this Build with landfall.dev/retry to have it all the same, when that one is over"
    );
    draft.fail(Reason::Superseded, message)
}
