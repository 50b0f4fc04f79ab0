//! The one verdict about a Deployment whose hosts are known: a chain, first hit wins.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{host_state::HostState, observed::Observed, view::View};
use crate::{
    api::{
        Reason, Verdict,
        conditions::{READY, RECONCILING, STALLED, status_of},
        deployment::DeploymentStatus,
    },
    model::Failure,
};

/// The verdict, and when time alone would change it.
pub fn verdict(
    view: &View<'_>,
    status: &DeploymentStatus,
    leaving: &[String],
    now: Timestamp,
) -> (Verdict, Option<Duration>) {
    if let Some(failure) = &view.unmet {
        return waiting(view.observed, failure, now);
    }
    Chain { view, status, leaving, now }.verdict()
}

/// Everything that the chain looks at.
struct Chain<'a> {
    view: &'a View<'a>,
    /// The next status so far: all but its conditions.
    status: &'a DeploymentStatus,
    leaving: &'a [String],
    now: Timestamp,
}

impl Chain<'_> {
    fn verdict(&self) -> (Verdict, Option<Duration>) {
        let view = self.view;
        let version = self.status.rollout.as_ref().map_or("", |rollout| rollout.version.as_str());
        let total = view.hosts.len();
        let ready = view.number(|state| *state == HostState::Ready);
        if view.number(|state| matches!(state, HostState::Failed(_))) > 0 {
            return (self.failed(version, ready), None);
        }
        if ready == total && self.leaving.is_empty() {
            return (Verdict::done(Reason::Deployed, format!("all {total} hosts run {version} and are ready")), None);
        }
        if view.observed.spec.paused {
            let last = status_of(&view.before.conditions, READY);
            let message = format!(
                "paused: {ready} of {total} hosts run {version}; no new host is started until spec.paused is false"
            );
            return (Verdict::Paused { ready: last, reason: Reason::Paused, message }, None);
        }
        if ready == total {
            let names = self.leaving.join(", ");
            return (Verdict::working(Reason::Removing, format!("{names} left the selection and is let go")), None);
        }
        if ready + view.number(is_away) == total {
            return self.unreachable(version, ready);
        }
        self.under_way(version, ready, total)
    }

    fn failed(&self, version: &str, ready: usize) -> Verdict {
        let view = self.view;
        let reasons = view.hosts.iter().filter_map(|host| match &host.state {
            HostState::Failed(failure) => Some(format!("{}: {} ({})", host.name, failure.reason, failure.message)),
            _ => None,
        });
        let first: Vec<String> = reasons.take(3).collect();
        let failed = view.names(|state| matches!(state, HostState::Failed(_)));
        let message = format!(
            "{version} failed on {failed}, {ready} of {} hosts run it. {}. When the cause is mended: kubectl annotate --overwrite \
             deployments.landfall.dev/{} landfall.dev/retry=$(date +%s)",
            view.hosts.len(),
            first.join("; "),
            view.observed.name
        );
        Verdict::failed(Reason::HostsFailed, message)
    }

    fn unreachable(&self, version: &str, ready: usize) -> (Verdict, Option<Duration>) {
        let named = self.view.names(is_away);
        let message = format!(
            "{ready} of {} hosts run {version}; no answer from {named}, brought along when back (why: status.exceptions)",
            self.view.hosts.len()
        );
        self.until_deadline(Reason::HostsUnreachable, true, message)
    }

    fn under_way(&self, version: &str, ready: usize, total: usize) -> (Verdict, Option<Duration>) {
        let view = self.view;
        let is_down = |state: &HostState| matches!(state, HostState::Healing { .. } | HostState::Down);
        let is_updating = |state: &HostState| matches!(state, HostState::Updating { .. });
        let updating = view.number(is_updating);
        let rest = view.number(|state| {
            matches!(state, HostState::Pending | HostState::Unstaged | HostState::Staging | HostState::Unknown)
        });
        if updating == 0 && rest == 0 && view.number(is_down) > 0 {
            let message = format!(
                "what ran on {} ended and is started again; {ready} of {total} hosts are ready",
                view.names(is_down)
            );
            return self.until_deadline(Reason::Healing, true, message);
        }
        let staging = view.number(|state| matches!(state, HostState::Staging | HostState::Unstaged));
        let doing = match (updating, staging) {
            (0, 0) => "waiting for a turn".to_owned(),
            (0, n) => format!("{n} get the release"),
            (n, _) => format!("{n} under way: {}", view.names(is_updating)),
        };
        self.until_deadline(Reason::RollingOut, false, format!("{ready} of {total} hosts run {version}; {doing}"))
    }

    /// In progress, until nothing has moved for `progressDeadlineSeconds`; then a person should look. It goes on all the same.
    fn until_deadline(&self, reason: Reason, known_bad: bool, message: String) -> (Verdict, Option<Duration>) {
        let limit = self.view.observed.spec.progress_deadline_seconds;
        let since = self.status.rollout.as_ref().map_or(self.now, |rollout| rollout.progressed_at.0);
        let gone = self.now.duration_since(since).as_secs();
        if gone >= limit {
            let reason = if reason == Reason::RollingOut { Reason::ProgressDeadlineExceeded } else { reason };
            return (Verdict::failed(reason, format!("{message}. No progress for {limit} s")), None);
        }
        let next = Duration::from_secs(u64::try_from(limit - gone).unwrap_or(1));
        (Verdict::InProgress { known_bad, reason, message }, Some(next))
    }
}

/// No answer, in its update or not.
fn is_away(state: &HostState) -> bool {
    matches!(state, HostState::Unreachable(_) | HostState::Updating { lost: Some(_), .. })
}

/// Something that the spec names does not exist yet. It is no failure before the deadline, and heals whenever it appears.
pub fn waiting(observed: &Observed, failure: &Failure, now: Timestamp) -> (Verdict, Option<Duration>) {
    let before = observed.before();
    let of = |kind: &str| before.conditions.iter().find(|condition| condition.type_ == kind);
    let same = of(READY).filter(|ready| ready.reason == failure.reason.as_str());
    let look_again = Some(patience(failure.reason, same, now));
    if failure.is_terminal() {
        return (Verdict::failed(failure.reason, &failure.message), look_again);
    }
    let stalled = of(STALLED).is_some_and(|condition| condition.reason == failure.reason.as_str());
    let began = of(RECONCILING).map(|condition| condition.last_transition_time.0);
    let since = began.max(before.rollout.as_ref().map(|rollout| rollout.progressed_at.0)).unwrap_or(now);
    let limit = observed.spec.progress_deadline_seconds;
    let over = now.duration_since(since).as_secs() >= limit;
    // Another spec begins another wait.
    let same_spec = before.observed_generation == observed.generation;
    if same_spec && (stalled || over && began.is_some()) {
        let message = format!("{}; waited {limit} s for it, and still goes on as soon as it is there", failure.message);
        return (Verdict::failed(failure.reason, message), look_again);
    }
    (Verdict::waiting(failure.reason, &failure.message), look_again)
}

/// When to look again: the longer it was so, the later. Most of what is waited for tells of itself when it comes.
fn patience(reason: Reason, since: Option<&Condition>, now: Timestamp) -> Duration {
    let longest = if matches!(reason, Reason::HostClaimed | Reason::ProjectNotFound) { 60 } else { 600 };
    let waited = since.map_or(0, |condition| now.duration_since(condition.last_transition_time.0).as_secs());
    Duration::from_secs(u64::try_from(waited / 4).unwrap_or(0).clamp(3, longest))
}
