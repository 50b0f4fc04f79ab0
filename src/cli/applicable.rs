//! Whether a verb would do anything to an object as it is now. It looks at plain JSON, so that an object of a later version is judged as well;
//! in doubt a verb is let through, for the operator decides.

use serde_json::Value;

use super::{
    object::Kind,
    state::{State, verdict},
};
use crate::{
    api::{Reason, conditions::STALLED, verbs},
    plan::deployment::EXCEPTIONS,
};

/// What is asked of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Retry,
    Redeploy,
    SkipDrain,
    /// The control plane whose hosts are taken over.
    Adopt(&'a str),
    Refresh,
    Pause,
    /// The end of a pause.
    Unpause,
    /// Of a canary.
    Promote,
    Abort,
    Suspend(&'a [String]),
    Resume(&'a [String]),
}

impl Asked<'_> {
    /// The annotation.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Retry => verbs::RETRY,
            Self::Redeploy => verbs::REDEPLOY,
            Self::SkipDrain => verbs::SKIP_DRAIN,
            Self::Adopt(_) => verbs::ADOPT,
            Self::Refresh => verbs::REFRESH,
            Self::Pause | Self::Unpause => verbs::PAUSE,
            Self::Promote => verbs::PROMOTE,
            Self::Abort => verbs::ABORT,
            Self::Suspend(_) => verbs::SUSPEND_HOST,
            Self::Resume(_) => verbs::RESUME_HOST,
        }
    }

    /// Why it would do nothing, and what would help; `None` where it does something. `object` is how messages name the object.
    pub fn refusal(self, kind: Kind, object: &str, value: &Value) -> Option<String> {
        match self {
            // In force while it is there, whoever has seen it.
            Self::Pause => return None,
            Self::Unpause => return unpause(object, value),
            _ => {}
        }
        if value["status"]["observedGeneration"].as_i64().is_none_or(|observed| observed < 0) {
            return Some(format!(
                "the operator has not observed {object} yet, and takes no verb that a new object has; check that the operator runs, and ask again"
            ));
        }
        let deleting = value["metadata"]["deletionTimestamp"].is_string();
        if deleting && matches!(self, Self::Retry | Self::Redeploy | Self::Adopt(_)) {
            return Some(format!("{object} is being deleted; create it again to deploy or build again"));
        }
        match self {
            Self::Retry if kind == Kind::Build => retry_build(object, value),
            Self::Retry => retry_deployment(object, value),
            Self::Redeploy => redeploy(object, value),
            Self::SkipDrain => skip_drain(object, value),
            Self::Adopt(control_plane_id) => adopt(object, value, control_plane_id),
            Self::Promote => promote(object, value),
            Self::Abort => abort(object, value),
            Self::Refresh | Self::Pause | Self::Unpause => None,
            Self::Suspend(hosts) => unknown_host(object, value, hosts),
            Self::Resume(hosts) => unknown_host(object, value, hosts).or_else(|| in_service(object, value, hosts)),
        }
    }
}

fn retry_build(object: &str, build: &Value) -> Option<String> {
    let verdict = verdict(build);
    match verdict.state {
        State::Failed => None,
        // It waits before its next try, which a retry makes now.
        State::InProgress if build["status"]["backoff"].is_object() => None,
        State::InProgress => Some(format!(
            "{object} has not failed; it is in progress ({}). To follow it: landfall wait {object}",
            verdict.reason
        )),
        State::Ready => {
            Some(format!("{object} has not failed; it is ready. To build its commit once more, create another Build"))
        }
    }
}

fn retry_deployment(object: &str, deployment: &Value) -> Option<String> {
    let status = &deployment["status"];
    let count = |field: &str| status["hosts"][field].as_i64().unwrap_or_default();
    let failed =
        has_condition(deployment, STALLED) || count("failed") > 0 || status["rollout"]["intent"]["failed"] == true;
    let waits =
        [Reason::UploadTooSlow, Reason::StatusUnreadable].iter().any(|reason| names_reason(deployment, *reason));
    if failed || waits {
        return None;
    }
    let verdict = verdict(deployment);
    Some(match verdict.state {
        State::Ready => format!(
            "no host of {object} has failed; it is ready. To deploy the same version again on all hosts: landfall redeploy {object}"
        ),
        _ => format!(
            "no host of {object} has failed; it is in progress ({}). To follow it: landfall wait {object}",
            verdict.reason
        ),
    })
}

fn redeploy(object: &str, deployment: &Value) -> Option<String> {
    if deployment["status"]["rollout"].is_object() {
        return None;
    }
    let verdict = verdict(deployment);
    Some(format!(
        "{object} has not been rolled out yet, so nothing can be done again: {}: {}",
        verdict.reason, verdict.message
    ))
}

fn unpause(object: &str, deployment: &Value) -> Option<String> {
    let by_spec = deployment["spec"]["paused"] == true;
    let by_verb = deployment["metadata"]["annotations"][verbs::PAUSE].is_string();
    match (by_verb, by_spec) {
        (true, _) => None,
        (false, true) => Some(format!("{object} is paused by spec.paused; set it to false where the object is kept")),
        (false, false) => Some(format!("{object} is not paused")),
    }
}

fn abort(object: &str, deployment: &Value) -> Option<String> {
    let status = &deployment["status"];
    let Some(rollout) = status["rollout"]["id"].as_str() else {
        return Some(format!("{object} has no rollout to end"));
    };
    match status["history"][0]["outcome"].as_str() {
        None | Some("Progressing") => None,
        Some(outcome) => Some(format!("rollout {rollout} of {object} has ended already: {outcome}")),
    }
}

fn promote(object: &str, deployment: &Value) -> Option<String> {
    // Beyond the deadline the condition has that reason.
    let waits = [Reason::AwaitingPromotion, Reason::ProgressDeadlineExceeded];
    if waits.iter().any(|reason| names_reason(deployment, *reason)) {
        return None;
    }
    let verdict = verdict(deployment);
    Some(format!("no canary of {object} waits; it is {} ({})", verdict.state.words(), verdict.reason))
}

fn skip_drain(object: &str, deployment: &Value) -> Option<String> {
    if names_reason(deployment, Reason::DrainFailed) || is_cut(deployment) {
        return None;
    }
    Some(format!("no host of {object} failed in its drain, so there is none to skip"))
}

fn adopt(object: &str, deployment: &Value, control_plane_id: &str) -> Option<String> {
    let reasons = [Reason::FencedByOtherControlPlane, Reason::HostsAhead];
    let messages: Vec<&str> = explained(deployment)
        .filter(|one| reasons.iter().any(|reason| one["reason"] == reason.as_str()))
        .filter_map(|one| one["message"].as_str())
        .collect();
    if messages.iter().any(|message| message.contains(control_plane_id)) || is_cut(deployment) {
        return None;
    }
    Some(match messages.first() {
        Some(message) => format!("{control_plane_id} is not the id that {object} shows: {message}"),
        None => format!("no host of {object} was acted on by another control plane, so there is none to adopt"),
    })
}

fn unknown_host(object: &str, group: &Value, hosts: &[String]) -> Option<String> {
    let listed = group["spec"]["hosts"].as_array().map_or(&[][..], Vec::as_slice);
    let unknown = hosts.iter().find(|host| !listed.iter().any(|one| one["name"] == host.as_str()))?;
    Some(format!("{object} has no host {unknown}; landfall hosts {} lists those that it has", name_of(object)))
}

fn in_service(object: &str, group: &Value, hosts: &[String]) -> Option<String> {
    let suspended = group["status"]["suspended"].as_array().map_or(&[][..], Vec::as_slice);
    let serves = |host: &&String| !suspended.iter().any(|one| one["host"] == host.as_str());
    let host = hosts.iter().find(serves)?;
    let listed = group["spec"]["hosts"].as_array()?.iter().find(|one| one["name"] == host.as_str())?;
    Some(match listed["suspend"].is_object() {
        true => format!("{host} is suspended by spec.hosts[].suspend of {object}; remove it there"),
        false => format!("{host} of {object} is in service already"),
    })
}

fn name_of(object: &str) -> &str {
    object.rsplit('/').next().unwrap_or(object)
}

fn exceptions(deployment: &Value) -> &[Value] {
    deployment["status"]["exceptions"].as_array().map_or(&[], Vec::as_slice)
}

/// What is not among the exceptions may be there all the same.
fn is_cut(deployment: &Value) -> bool {
    exceptions(deployment).len() >= EXCEPTIONS
}

/// Everything that has a reason and a message.
fn explained(deployment: &Value) -> impl Iterator<Item = &Value> {
    let conditions = deployment["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().chain(exceptions(deployment))
}

fn names_reason(deployment: &Value, reason: Reason) -> bool {
    explained(deployment).any(|one| one["reason"] == reason.as_str())
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(conditions: &[(&str, &str)], more: Value) -> Value {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, reason)| json!({ "type": kind, "status": "True", "reason": reason, "message": format!("{reason} it is") }))
            .collect();
        let mut object = json!({
            "metadata": { "generation": 1 },
            "spec": { "hosts": [{ "name": "web-01" }, { "name": "web-02", "suspend": { "reason": "disk" } }] },
            "status": { "observedGeneration": 1, "conditions": conditions },
        });
        for (field, value) in more.as_object().unwrap() {
            object["status"][field] = value.clone();
        }
        object
    }

    fn refused(asked: Asked<'_>, kind: Kind, object: &Value) -> String {
        asked.refusal(kind, "deployment/web", object).unwrap_or_default()
    }

    #[test]
    fn a_verb_on_an_object_that_nobody_observed_would_be_lost_and_is_refused() {
        let fresh = json!({ "metadata": { "generation": 1 } });
        assert!(refused(Asked::Refresh, Kind::Project, &fresh).contains("has not observed deployment/web yet"));
    }

    #[test]
    fn only_what_failed_is_tried_again() {
        let ready = object(&[("Ready", "Deployed")], json!({}));
        let said = refused(Asked::Retry, Kind::Deployment, &ready);
        assert_eq!(
            said,
            "no host of deployment/web has failed; it is ready. To deploy the same version again on all hosts: landfall redeploy deployment/web"
        );
        assert!(refused(Asked::Retry, Kind::Build, &ready).contains("create another Build"));
        let rolling = object(&[("Reconciling", "RollingOut")], json!({}));
        assert!(refused(Asked::Retry, Kind::Deployment, &rolling).contains("landfall wait deployment/web"));
        assert!(refused(Asked::Retry, Kind::Build, &rolling).contains("in progress"));
        for failed in [
            object(&[("Stalled", "HostsFailed")], json!({})),
            object(&[("Reconciling", "RollingOut")], json!({ "hosts": { "failed": 1 }, "backoff": {} })),
            object(
                &[("Reconciling", "RollingOut")],
                json!({ "exceptions": [{ "reason": "UploadTooSlow" }], "backoff": {} }),
            ),
        ] {
            assert_eq!(refused(Asked::Retry, Kind::Deployment, &failed), "");
            assert_eq!(refused(Asked::Retry, Kind::Build, &failed), "");
        }
    }

    #[test]
    fn what_was_never_rolled_out_is_not_deployed_again() {
        let waiting = object(&[("Ready", "VersionNotFound")], json!({}));
        assert!(refused(Asked::Redeploy, Kind::Deployment, &waiting).contains("VersionNotFound it is"));
        assert_eq!(refused(Asked::Redeploy, Kind::Deployment, &object(&[], json!({ "rollout": {} }))), "");
    }

    #[test]
    fn only_a_rollout_under_way_is_aborted_and_only_a_pause_by_the_verb_is_ended() {
        let of =
            |outcome: &str| object(&[], json!({ "rollout": { "id": "2.0" }, "history": [{ "outcome": outcome }] }));
        assert_eq!(refused(Asked::Abort, Kind::Deployment, &of("Progressing")), "");
        let ended = refused(Asked::Abort, Kind::Deployment, &of("Succeeded"));
        assert_eq!(ended, "rollout 2.0 of deployment/web has ended already: Succeeded");
        assert!(refused(Asked::Abort, Kind::Deployment, &object(&[], json!({}))).contains("no rollout to end"));
        let mut deployment = object(&[], json!({}));
        assert_eq!(refused(Asked::Unpause, Kind::Deployment, &deployment), "deployment/web is not paused");
        deployment["spec"]["paused"] = json!(true);
        assert!(refused(Asked::Unpause, Kind::Deployment, &deployment).contains("spec.paused"));
        deployment["metadata"]["annotations"] = json!({ verbs::PAUSE: "" });
        assert_eq!(refused(Asked::Unpause, Kind::Deployment, &deployment), "");
        assert_eq!(refused(Asked::Pause, Kind::Deployment, &json!({})), "");
    }

    #[test]
    fn only_a_canary_that_waits_is_promoted() {
        let waiting = object(&[("Ready", "AwaitingPromotion")], json!({}));
        assert_eq!(refused(Asked::Promote, Kind::Deployment, &waiting), "");
        let ready = refused(Asked::Promote, Kind::Deployment, &object(&[("Ready", "Deployed")], json!({})));
        assert_eq!(ready, "no canary of deployment/web waits; it is ready (Deployed)");
    }

    #[test]
    fn a_drain_is_skipped_only_where_one_failed() {
        let failed = object(&[], json!({ "exceptions": [{ "reason": "DrainFailed" }] }));
        assert_eq!(refused(Asked::SkipDrain, Kind::Deployment, &failed), "");
        assert!(refused(Asked::SkipDrain, Kind::Deployment, &object(&[], json!({}))).contains("none to skip"));
    }

    #[test]
    fn only_the_control_plane_that_the_message_shows_is_adopted_from() {
        let fenced = json!({ "exceptions": [{ "reason": "HostsAhead", "message": "to take it back: …/adopt=abc" }] });
        let fenced = object(&[], fenced);
        assert_eq!(refused(Asked::Adopt("abc"), Kind::Deployment, &fenced), "");
        assert!(refused(Asked::Adopt("xyz"), Kind::Deployment, &fenced).contains("adopt=abc"));
        assert!(refused(Asked::Adopt("abc"), Kind::Deployment, &object(&[], json!({}))).contains("none to adopt"));
    }

    #[test]
    fn hosts_are_of_the_group_and_only_suspended_ones_are_resumed() {
        let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let group = object(&[], json!({ "suspended": [{ "host": "web-01" }] }));
        let both = hosts(&["web-01", "web-03"]);
        assert!(refused(Asked::Suspend(&both), Kind::HostGroup, &group).contains("has no host web-03"));
        assert_eq!(refused(Asked::Resume(&hosts(&["web-01"])), Kind::HostGroup, &group), "");
        let by_spec = refused(Asked::Resume(&hosts(&["web-02"])), Kind::HostGroup, &group);
        assert!(by_spec.contains("spec.hosts[].suspend"), "{by_spec}");
        let serving = object(&[], json!({}));
        assert!(refused(Asked::Resume(&hosts(&["web-01"])), Kind::HostGroup, &serving).contains("in service already"));
    }
}
