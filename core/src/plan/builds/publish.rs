//! After the script: the release, the tag, the version's record; in this order.

use super::{Action, FormerVersion, status::StatusBuilder, version_exists::version_exists};
use crate::{
    api::{
        Reason, Verdict,
        build::{Attempt, BuildStatus, Outcome, SUCCEEDED},
        conditions::Extra,
    },
    model::{
        build::{BuildPlan, ReleaseRecord},
        format::FORMAT,
        version::VersionRecord,
    },
    plan::Plan,
};

/// The script succeeded: pack what it made. Artifacts that can't be packed fail the attempt.
pub(super) fn collect(mut draft: StatusBuilder<'_>, last: &Attempt) -> Plan<BuildStatus, Action> {
    if let Some(retry_state) = draft.retry_state().filter(|retry_state| retry_state.terminal) {
        if let Some(attempt) = draft.status.attempts.last_mut() {
            attempt.outcome = Some(Outcome::Failed);
            attempt.reason = Some(retry_state.reason.to_string());
        }
        return draft.fail(retry_state.reason, retry_state.message.clone());
    }
    if let Some(held_up) = draft.held_up(true) {
        return held_up;
    }
    if !draft.observed.working {
        draft.add(Action::Pack { attempt: last.number });
    }
    draft.trying(true, Verdict::working(Reason::Collecting, "packing the release"))
}

/// The release is stored: nothing is built again, whatever happens.
pub(super) fn plan(
    mut draft: StatusBuilder<'_>,
    plan: &BuildPlan,
    release: &ReleaseRecord,
) -> Plan<BuildStatus, Action> {
    show(&mut draft, release);
    if let Some(message) = version_exists(draft.observed, &plan.version) {
        return draft.fail(Reason::VersionExists, message);
    }
    if plan.push && !draft.observed.tagged {
        return tag(draft, plan, release);
    }
    let record = VersionRecord {
        format: FORMAT,
        version: plan.version.clone(),
        commit: plan.commit.sha.clone(),
        build: plan.build.clone(),
        build_uid: plan.uid.clone(),
        digest: release.digest.clone(),
        size: release.size,
        built_at: built_at(&draft, plan, release),
        run: plan.run.clone(),
        parameters: Some(draft.observed.object.spec.parameters.clone()),
    };
    show_tag(&mut draft, plan);
    if let Some(held_up) = draft.held_up(true) {
        return held_up;
    }
    draft.add(Action::Publish(Box::new(record)));
    draft.trying(true, Verdict::working(Reason::Publishing, format!("publishing version {}", plan.version)))
}

fn tag(mut draft: StatusBuilder<'_>, plan: &BuildPlan, release: &ReleaseRecord) -> Plan<BuildStatus, Action> {
    if let Some(retry_state) = draft.retry_state() {
        draft.tagged(false, retry_state.reason, retry_state.message.clone());
    }
    if let Some(held_up) = draft.held_up(true) {
        return held_up;
    }
    if !draft.observed.working {
        let tagged_at = built_at(&draft, plan, release);
        draft.add(Action::Tag { tagged_at });
    }
    draft.trying(true, Verdict::working(Reason::Tagging, format!("pushing tag {}", plan.version)))
}

/// The recorded end of the attempt that made the release: the same for every try, so that it is always the same tag.
fn built_at(draft: &StatusBuilder<'_>, plan: &BuildPlan, release: &ReleaseRecord) -> jiff::Timestamp {
    let made_by = |attempt: &&Attempt| attempt.number == release.attempt;
    let end = draft.observed.ends.iter().find(made_by).and_then(|attempt| attempt.completed_at.as_ref());
    end.map_or(plan.granted_at.0, |end| end.0)
}

/// The version is published and ours.
pub(super) fn done(mut draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    let (plan, release) = (&draft.observed.plan, &draft.observed.release);
    if let Some(release) = release {
        show(&mut draft, release);
    } else {
        draft.succeeded("the version is published");
    }
    if let Some(plan) = plan {
        draft.status.number = Some(plan.number);
        draft.status.tag = Some(plan.version.clone());
        draft.status.version = Some(plan.version.clone());
        draft.status.commit = Some(plan.commit.clone());
        show_tag(&mut draft, plan);
    }
    let version = draft.status.version.clone().unwrap_or_default();
    draft.with_verdict(false, &Verdict::done(Reason::Succeeded, format!("version {version} is published")), None)
}

/// A Build that comes back under the name and commit of one that published a version is not run again: the version is this one's, too.
/// The message says whether that can still be deployed.
pub(super) fn published_before(mut draft: StatusBuilder<'_>, former: &FormerVersion) -> Plan<BuildStatus, Action> {
    let FormerVersion { version, commit, uid, digest, expired, .. } = former;
    let (namespace, name) = (&draft.observed.object.namespace, &draft.observed.object.name);
    let short = commit.get(..12).unwrap_or(commit);
    let whose =
        format!("version {version} of commit {short} is published by an earlier Build {namespace}/{name} (uid {uid})");
    let rest = match expired {
        false => "; this Build runs nothing. For a version of its own, create a Build under another name".to_owned(),
        true => format!(
            ", and its release is deleted, as spec.retention of the Project says; this Build runs nothing, and no Deployment can take {version}. To build the commit again, create a Build under another name"
        ),
    };
    draft.status.tag = Some(version.clone());
    draft.status.version = (!expired).then(|| version.clone());
    draft.status.digest = Some(format!("sha256:{digest}"));
    draft.extras.push(Extra {
        kind: SUCCEEDED,
        status: Some(true),
        reason: Reason::AlreadyPublished,
        message: whose.clone(),
    });
    // The commit was pinned when it was resolved, and is no longer needed.
    draft.add(Action::DeleteCheckouts { upto: 0, published: true });
    draft.with_verdict(false, &Verdict::done(Reason::AlreadyPublished, format!("{whose}{rest}")), None)
}

fn show(draft: &mut StatusBuilder<'_>, release: &ReleaseRecord) {
    draft.status.digest = Some(format!("sha256:{}", release.digest));
    let (count, artifacts) = release.shown();
    draft.status.artifact_count = Some(i64::try_from(count).unwrap_or(i64::MAX));
    draft.status.artifacts = artifacts;
    draft.succeeded(format!("attempt {} made the release", release.attempt));
}

fn show_tag(draft: &mut StatusBuilder<'_>, plan: &BuildPlan) {
    match plan.push {
        true => draft.tagged(true, Reason::Tagged, format!("tag {} is at the repository", plan.version)),
        false => draft.tagged(false, Reason::NotTagged, "the project's build.tag.push is false, so no tag was pushed"),
    }
}
