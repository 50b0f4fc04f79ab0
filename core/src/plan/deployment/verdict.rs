//! The one verdict about a Deployment whose hosts are known: a chain, first hit wins.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    by_hand,
    canary::Stage,
    deletion::{self, Leaving},
    exceptions::PROBE_FAILS,
    holds::{self, Hold},
    host_state::HostState,
    observed::Observed,
    pause,
    records::failures,
    rollback, stable, stamp,
    strategy::{
        min_available::{self, GroupLimit, Remedy},
        rolling,
    },
    view::{HostView, View},
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::{READY, RECONCILING, STALLED},
        deployment::{DeletionPolicy, DeploymentStatus, HistoryChange, OnFailure, Phase, ReturnedFrom, RolloutOutcome},
        verbs,
    },
    model::Failure,
    plan::{NEW_VALUE, count_hosts, list_names, verb_command},
};

/// How often pinned hosts whose version can't be deployed are decided on again without being woken.
const PIN_INTERVAL: Duration = Duration::from_secs(60);

/// How often a rollout that `minAvailable` holds is decided again without being woken.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The verdict, and the delay after which time alone would change it.
pub fn verdict(
    view: &View<'_>,
    status: &DeploymentStatus,
    leaving: &Leaving,
    hold: Option<Hold>,
    now: Timestamp,
) -> (Verdict, Option<Duration>) {
    if let Some(failure) = &view.unmet {
        return waiting(view.observed, failure, now);
    }
    let (mut verdict, next) = Chain { view, status, leaving, hold, now }.verdict();
    if let Some(from) = view.rollout.as_ref().and_then(|active| active.record.returned_from.as_ref()) {
        verdict = taken_back(view, from, verdict);
    }
    if view.number(is_by_hand) > 0 && verdict.reason() != Reason::ChangedByHand {
        verdict.add(&format!("; changed by hand and left so: {}", view.names(is_by_hand)));
    }
    if view.number(is_slow) > 0 && verdict.reason() != Reason::UploadTooSlow {
        verdict.add(&format!("; set aside, the line is too slow: {}", view.names(is_slow)));
    }
    if view.number(is_refused) > 0 && verdict.reason() == Reason::RollingOut {
        verdict.add(&format!("; set aside: {}", view.names(is_refused)));
    }
    if view.number(is_unmet_pin) > 0 && verdict.reason() == Reason::RollingOut {
        verdict.add(&format!("; waiting for the version of their pin: {}", view.names(is_unmet_pin)));
    }
    if let Some(until) = leaving.waits_for.filter(|_| !leaving.hosts.is_empty()) {
        verdict.add(&format!("; no longer selected, and left as it is {until}: {}", list_names(&leaving.hosts)));
    }
    let retried = deletion::retried(view.observed, &leaving.hosts);
    if let Some(retried) = retried.filter(|retried| !verdict.message().contains(retried)) {
        verdict.add(&format!("; no longer selected: {retried}"));
    }
    (verdict, next)
}

/// The canary is ready, and the others wait: for what, and how to go on.
pub(crate) fn awaiting_promotion(view: &View<'_>) -> String {
    let Some(active) = &view.rollout else { return String::new() };
    let canary: Vec<&str> =
        view.hosts.iter().filter(|host| view.canary.awaits(host.name)).map(|host| host.name).collect();
    let others = view.hosts.iter().filter(|host| host.state != HostState::Ready).count();
    let follow = match (others, &view.canary.stage) {
        (1, Stage::AwaitsPromotion { until: Some(until) }) => format!("1 host follows at {until}"),
        (n, Stage::AwaitsPromotion { until: Some(until) }) => format!("{n} hosts follow at {until}"),
        (1, _) => "1 host waits until it is promoted".to_owned(),
        (n, _) => format!("{n} hosts wait until it is promoted"),
    };
    let value = stamp::wanted(&active.rollout);
    let command = |verb| view.observed.verb_command(verb, &value);
    format!(
        "the canary is ready: {} on {}; {follow}. To promote it: {}. To end the rollout here: {}",
        active.rollout.version,
        list_names(&canary),
        command(verbs::PROMOTE),
        command(verbs::ABORT)
    )
}

/// The rollout is a return: what failed is told with how far it is, and a person has to act where it is done.
fn taken_back(view: &View<'_>, from: &ReturnedFrom, verdict: Verdict) -> Verdict {
    let failed = rollback::failed(view.observed, from);
    match verdict {
        Verdict::Done { message, .. } => {
            let text = format!(
                "{failed}, and was taken back: {message}. To try {} again: {}. Or set another spec.version",
                from.version,
                view.observed.verb_command(verbs::RETRY, NEW_VALUE)
            );
            Verdict::failed(Reason::RolledBack, text)
        }
        Verdict::InProgress { reason: Reason::RollingOut, message, .. } => {
            Verdict::waiting(Reason::RolledBack, format!("{failed}, and is taken back: {message}"))
        }
        mut other => {
            other.add(&format!("; {failed}, and is taken back"));
            other
        }
    }
}

/// Input of the chain.
struct Chain<'a> {
    view: &'a View<'a>,
    /// The next status so far: all but its conditions.
    status: &'a DeploymentStatus,
    leaving: &'a Leaving,
    hold: Option<Hold>,
    now: Timestamp,
}

impl Chain<'_> {
    fn verdict(&self) -> (Verdict, Option<Duration>) {
        let view = self.view;
        let total = view.hosts.len();
        let ready = view.number(|state| *state == HostState::Ready);
        let any_failed = view.number(|state| matches!(state, HostState::Failed(_))) > 0;
        if self.is_aborted() && ready < total {
            return self.aborted(ready);
        }
        if any_failed && !self.goes_on() {
            return (Verdict::failed(Reason::HostsFailed, self.failed(ready)), None);
        }
        if any_failed && !pause::is_paused(view.observed) {
            let within = match view.observed.spec.strategy.on_failure {
                OnFailure::Continue => "onFailure is Continue",
                OnFailure::Stop | OnFailure::RollBack => "Within maxFailures",
            };
            let message = format!("{}. {within}: {}", self.failed(ready), self.what_goes_on());
            if let Some(Hold::AwaitingPromotion | Hold::BatchPause) = self.hold {
                return (Verdict::waiting(Reason::HostsFailed, message), self.due_in());
            }
            return match self.group_limit().map(|limit| limit.waits_for_person()) {
                Some(false) => {
                    let verdict = Verdict::InProgress { known_bad: true, reason: Reason::HostsFailed, message };
                    (verdict, Some(LOOK_AGAIN))
                }
                Some(true) => look_again(self.until_deadline(Reason::HostsFailed, true, message)),
                None => self.until_deadline(Reason::HostsFailed, true, message),
            };
        }
        if total == 0 {
            return (self.all_suspended(), None);
        }
        if ready == total && self.leaving.hosts.is_empty() {
            let message = match (total, view.pinned()) {
                (total, Some(pinned)) => {
                    let others = view.hosts.iter().filter(|host| !host.is_pinned).count();
                    let others = count_hosts(others);
                    format!("{} ready: {} runs on {others}; pinned: {pinned}", all_are(total), self.version())
                }
                (1, None) => format!("the host runs {} and is ready", self.version()),
                (total, None) => format!("all {total} hosts run {} and are ready", self.version()),
            };
            return (Verdict::done(Reason::Deployed, message), None);
        }
        if pause::is_paused(view.observed) {
            return (self.paused(ready), None);
        }
        if holds::is_still_failed(view) {
            return (self.halted(ready), None);
        }
        if ready == total {
            let names = list_names(&self.leaving.hosts);
            let being = match view.observed.spec.deletion_policy {
                DeletionPolicy::Retain => "released",
                DeletionPolicy::Remove => "removed",
            };
            let message = format!("{names}: no longer selected; being {being}");
            return match deletion::retried(view.observed, &self.leaving.hosts) {
                None => (Verdict::working(Reason::Removing, message), None),
                Some(retried) => self.retried(format!("{message}; {retried}")),
            };
        }
        let possibly_updating = view.possibly_updating();
        if !possibly_updating.is_empty() {
            return (self.unreadable(&possibly_updating), None);
        }
        if let Stage::Unmet(failure) = &view.canary.stage {
            let message = format!("{}; no host is updated: {}", self.progress(ready), failure.message);
            return (Verdict::failed(failure.reason, message), None);
        }
        if self.hold == Some(Hold::AwaitingPromotion) {
            let message = awaiting_promotion(view);
            return (Verdict::waiting(Reason::AwaitingPromotion, message), self.due_in());
        }
        if self.hold == Some(Hold::BatchPause) {
            let message = format!("{}; {}", self.progress(ready), self.next_batch());
            return (Verdict::working(Reason::BatchPause, message), self.due_in());
        }
        let by_hand = view.number(is_by_hand);
        if by_hand > 0 && ready + by_hand == total {
            return (self.by_hand(ready), None);
        }
        if ready + by_hand + view.number(is_away) == total {
            return self.unreachable(ready);
        }
        let slow = view.number(is_slow);
        if slow > 0 && ready + by_hand + view.number(is_away) + slow == total {
            return self.too_slow(ready);
        }
        let refused = view.number(is_refused);
        if refused > 0 && ready + by_hand + view.number(is_away) + slow + refused == total {
            return (self.set_aside(ready), None);
        }
        let unmet = view.number(is_unmet_pin);
        if unmet > 0 && ready + by_hand + view.number(is_away) + slow + refused + unmet == total {
            return self.unmet_pins(ready);
        }
        self.under_way(ready)
    }

    fn version(&self) -> &str {
        self.status.rollout.as_ref().map_or("", |rollout| rollout.version.as_str())
    }

    /// Progress of the rollout, by what it changes: after a change of the environment alone all hosts run the version already.
    fn progress(&self, ready: usize) -> String {
        let (hosts, version) = (count_hosts(self.view.hosts.len()), self.version());
        let change = self.status.history.first().and_then(|entry| entry.change);
        match change {
            Some(HistoryChange::Environment) => {
                format!("{version} runs with the new environment on {ready} of {hosts}")
            }
            Some(HistoryChange::Redeploy) => format!("{version} is redeployed on {ready} of {hosts}"),
            _ if self.view.hosts.iter().any(|host| host.is_pinned) => {
                format!("{version}, or the version of its pin, runs on {ready} of {hosts}")
            }
            _ => format!("{version} runs on {ready} of {hosts}"),
        }
    }

    /// Hosts that failed, before other text; empty where none did.
    fn failed_hosts(&self) -> String {
        match self.view.names(|state| matches!(state, HostState::Failed(_))) {
            none if none.is_empty() => none,
            failed => format!("failed on {failed}; "),
        }
    }

    fn paused(&self, ready: usize) -> Verdict {
        let observed = self.view.observed;
        let message = format!(
            "paused{}: {}{}; no further host is updated {}: {}",
            pause::reason(observed).unwrap_or_default(),
            self.failed_hosts(),
            self.progress(ready),
            pause::until(observed),
            pause::remedy(observed)
        );
        Verdict::waiting(Reason::Paused, message)
    }

    fn is_aborted(&self) -> bool {
        let intent = self.status.intent();
        intent.is_some_and(|intent| intent.aborted)
    }

    /// In progress while hosts under way finish; Stalled then.
    fn aborted(&self, ready: usize) -> (Verdict, Option<Duration>) {
        let is_under_way = |state: &HostState| matches!(state, HostState::Updating { lost: None, .. });
        let under_way = self.view.names(is_under_way);
        let finishing =
            if under_way.is_empty() { String::new() } else { format!("; under way, and being finished: {under_way}") };
        let message = format!(
            "aborted: {}{}{finishing}; no further host is updated. To go on: {}. A new version starts over",
            self.failed_hosts(),
            self.progress(ready),
            self.view.observed.verb_command(verbs::RETRY, NEW_VALUE)
        );
        match under_way.is_empty() {
            true => (Verdict::failed(Reason::Aborted, message), None),
            false => self.until_deadline(Reason::Aborted, true, message),
        }
    }

    /// Hosts failed within `maxFailures`, and there is work left.
    fn goes_on(&self) -> bool {
        let progressing = self.status.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Progressing);
        progressing && !holds::too_many_failed(self.view) && !holds::is_still_failed(self.view)
    }

    /// What the rollout does beside the hosts that failed.
    fn what_goes_on(&self) -> String {
        let possibly_updating = self.view.possibly_updating();
        if !possibly_updating.is_empty() {
            return format!("no update begins until {} answer", list_names(&possibly_updating));
        }
        if self.hold == Some(Hold::AwaitingPromotion) {
            return awaiting_promotion(self.view);
        }
        if self.hold == Some(Hold::BatchPause) {
            return self.next_batch();
        }
        if let Some(limit) = self.group_limit() {
            return self.too_few_available(&limit);
        }
        if rolling::is_held_back(self.view) && self.view.number(is_blocking) > 0 {
            return format!("no further host is updated while {} are away", self.view.names(is_blocking));
        }
        "the rollout goes on".to_owned()
    }

    fn next_batch(&self) -> String {
        let at = self.view.batch_end.until.unwrap_or(self.now);
        format!("the next batch begins at {at} (spec.strategy.rollingUpdate.pauseSeconds)")
    }

    /// How long until time alone ends the hold.
    fn due_in(&self) -> Option<Duration> {
        match self.hold {
            Some(Hold::AwaitingPromotion) => self.view.canary.due_in(self.now),
            Some(Hold::BatchPause) => self.view.batch_end.due_in(self.now),
            _ => None,
        }
    }

    /// Hosts failed that are out of service or not selected any more.
    fn halted(&self, ready: usize) -> Verdict {
        let observed = self.view.observed;
        let failures = failures(observed, self.view.target.as_deref());
        let mut failed: Vec<&str> = failures.into_keys().collect();
        failed.sort_unstable();
        let is_suspended = |name: &&&str| self.view.targets.suspended.iter().any(|(host, _)| host.name == **name);
        let names = list_names(&failed);
        let why = match failed.iter().filter(is_suspended).count() {
            _ if failed.is_empty() => "hosts that failed are not checked yet".to_owned(),
            n if n == failed.len() => format!("{names} failed in this attempt; suspended now"),
            0 => format!("{names} failed in this attempt; no longer selected"),
            _ => format!("{names} failed in this attempt; suspended or no longer selected"),
        };
        let message = format!(
            "halted: {why}; {}. To go on: {}",
            self.progress(ready),
            observed.verb_command(verbs::RETRY, NEW_VALUE)
        );
        Verdict::failed(Reason::HostsFailed, message)
    }

    /// Hosts that left can't be given up: waiting, and Stalled once that is so for `progressDeadlineSeconds`. It goes on in either case.
    fn retried(&self, message: String) -> (Verdict, Option<Duration>) {
        let observed = self.view.observed;
        let failing = self.leaving.hosts.iter().filter_map(|host| {
            let reason = deletion::failed_tries(observed, host)?.failure.reason;
            let shown = self.status.exceptions.iter().find(|one| one.host == *host && one.reason == reason.as_str())?;
            Some((shown.since.0, reason))
        });
        let limit = observed.spec.progress_deadline_seconds;
        let Some((since, reason)) = failing.min_by_key(|(since, _)| *since) else {
            return (Verdict::waiting(Reason::Removing, message), None);
        };
        let left = limit.saturating_sub(self.now.duration_since(since).as_secs());
        match u64::try_from(left) {
            Ok(left @ 1..) => (Verdict::waiting(Reason::Removing, message), Some(Duration::from_secs(left))),
            _ => (Verdict::failed(reason, format!("{message}. For {limit} s (spec.progressDeadlineSeconds)")), None),
        }
    }

    fn failed(&self, ready: usize) -> String {
        let view = self.view;
        let reasons = view.hosts.iter().filter_map(|host| match &host.state {
            HostState::Failed(failure) => Some(format!("{}: {} ({})", host.name, failure.reason, failure.message)),
            _ => None,
        });
        let first: Vec<String> = reasons.take(3).collect();
        let is_failed = |state: &HostState| matches!(state, HostState::Failed(_));
        let failed = view.names(is_failed);
        let of_canary = view.hosts.iter().any(|host| is_failed(&host.state) && view.canary.awaits(host.name));
        let is_drain =
            |state: &HostState| matches!(state, HostState::Failed(failure) if failure.reason == Reason::DrainFailed);
        let without_drain = match view.hosts.iter().any(|host| is_drain(&host.state)) {
            // Both in one command: the retry is what goes on without the drain.
            true => format!(
                ". To go on without the drain that failed: {}",
                view.observed.verb_command(verbs::SKIP_DRAIN, &format!("REASON {}={NEW_VALUE}", verbs::RETRY))
            ),
            false => String::new(),
        };
        let pinned = view.hosts.iter().any(|host| host.is_pinned);
        format!(
            "{} failed on {failed}; {}. {}.{} To retry once the cause is fixed: {}{without_drain}",
            if pinned { "the update" } else { self.version() },
            self.progress(ready),
            first.join("; "),
            match () {
                () if self.has_no_way_back() => " Nothing else was ready on all hosts, so it is not taken back.",
                () if of_canary => " It is the canary: no other host is updated.",
                () => "",
            },
            view.observed.verb_command(verbs::RETRY, NEW_VALUE)
        )
    }

    /// `onFailure` is `RollBack`, and there is nothing to go back to.
    fn has_no_way_back(&self) -> bool {
        let is_wanted = self.view.observed.spec.strategy.on_failure == OnFailure::RollBack;
        is_wanted
            && self.view.rollout.as_ref().is_some_and(|active| {
                let is_return = active.record.returned_from.is_some();
                let is_stable =
                    stable::on_record(self.view.before).is_none() || stable::is_of(self.view.before, &active.record);
                !is_return && is_stable
            })
    }

    fn all_suspended(&self) -> Verdict {
        let suspended: Vec<&str> = self.view.targets.suspended.iter().map(|(host, _)| host.name.as_str()).collect();
        let message = format!(
            "every selected host is suspended: {}. To resume one: {}",
            list_names(&suspended),
            self.group_verb(verbs::RESUME_HOST, suspended.first().unwrap_or(&"HOST"))
        );
        Verdict::waiting(Reason::HostSuspended, message)
    }

    /// A person has to say that it is undone: for all hosts with the verb, for one on the host itself.
    fn by_hand(&self, ready: usize) -> Verdict {
        let view = self.view;
        let act = |host: &HostView<'_>| {
            let act = host.observed.view()?.folder.by_hand.as_ref()?;
            (is_by_hand(&host.state)).then(|| format!("{}: {}", host.name, by_hand::words(act)))
        };
        let first: Vec<String> = view.hosts.iter().filter_map(act).take(3).collect();
        let message = format!(
            "{}; changed by hand on {}, and left so until a new version or a redeploy is asked for: {}. {}. \
             To undo it on one host alone, there: landfall-host start, or landfall-host use {} --reason TEXT",
            self.progress(ready),
            view.names(is_by_hand),
            first.join("; "),
            self.redeploy_command("To deploy again on all hosts"),
            self.version(),
        );
        Verdict::waiting(Reason::ChangedByHand, message)
    }

    fn unreadable(&self, hosts: &[&str]) -> Verdict {
        let observed = self.view.observed;
        let message = format!(
            "status.rollout.intent is missing, and hosts that may be in an update do not answer: {}; no new update begins until they \
             answer. If none of them is in an update: {}",
            list_names(hosts),
            observed.verb_command(verbs::RETRY, NEW_VALUE)
        );
        Verdict::waiting(Reason::StatusUnreadable, message)
    }

    /// Command that sets a verb for a host on the group.
    fn group_verb(&self, verb: &str, host: &str) -> String {
        let observed = self.view.observed;
        verb_command("hostgroups", &observed.namespace, &observed.spec.host_group_ref.name, verb, host)
    }

    fn unreachable(&self, ready: usize) -> (Verdict, Option<Duration>) {
        let message = format!(
            "{}; no answer from {} (causes: status.exceptions); they are updated when they answer. To leave one out: {}",
            self.progress(ready),
            self.view.names(is_away),
            self.group_verb(verbs::SUSPEND_HOST, self.first(is_away))
        );
        self.until_deadline(Reason::HostsUnreachable, true, message)
    }

    /// Hosts on which this Deployment may not act, with nothing left to do on the others.
    fn set_aside(&self, ready: usize) -> Verdict {
        let causes = self.view.hosts.iter().filter_map(|host| match &host.state {
            HostState::Refused(failure) => Some(failure),
            _ => None,
        });
        let reason = causes.clone().next().map_or(Reason::HostsAhead, |failure| failure.reason);
        let first: Vec<&str> = causes.take(3).map(|failure| failure.message.as_str()).collect();
        Verdict::failed(reason, format!("{}; {}", self.progress(ready), first.join("; ")))
    }

    /// Pinned hosts whose version can't be deployed, with nothing left to do on the others.
    fn unmet_pins(&self, ready: usize) -> (Verdict, Option<Duration>) {
        let causes = self.view.hosts.iter().filter_map(|host| match &host.state {
            HostState::UnmetPin(failure) => Some(failure),
            _ => None,
        });
        let Some(first) = causes.clone().find(|failure| failure.is_terminal()).or(causes.clone().next()) else {
            return self.under_way(ready);
        };
        let hosts = self.view.names(is_unmet_pin);
        let message = format!("{}; the pin of {hosts} can't be met: {}", self.progress(ready), first.message);
        match first.is_terminal() {
            true => (Verdict::failed(first.reason, message), Some(PIN_INTERVAL)),
            false => {
                let (verdict, next) = self.until_deadline(first.reason, true, message);
                (verdict, Some(next.map_or(PIN_INTERVAL, |next| next.min(PIN_INTERVAL))))
            }
        }
    }

    /// All hosts but those are ready, or do not answer.
    fn too_slow(&self, ready: usize) -> (Verdict, Option<Duration>) {
        let cause = self.view.hosts.iter().find_map(|host| match &host.state {
            HostState::Slow(failure) => Some(failure.message.as_str()),
            _ => None,
        });
        let message = format!(
            "{}; the line is too slow for the release on {}: {}. It is tried again. To leave one out: {}",
            self.progress(ready),
            self.view.names(is_slow),
            cause.unwrap_or_default(),
            self.group_verb(verbs::SUSPEND_HOST, self.first(is_slow))
        );
        self.until_deadline(Reason::UploadTooSlow, true, message)
    }

    fn under_way(&self, ready: usize) -> (Verdict, Option<Duration>) {
        let view = self.view;
        let is_down = |state: &HostState| matches!(state, HostState::Healing { .. } | HostState::Down);
        let is_updating = |state: &HostState| matches!(state, HostState::Updating { .. });
        let is_unstaged = |state: &HostState| matches!(state, HostState::Staging | HostState::Unstaged);
        let updating = view.number(is_updating);
        let staging = view.number(is_unstaged);
        let waiting = view.number(|state| matches!(state, HostState::Pending | HostState::Unknown));
        let progress = self.progress(ready);
        if updating + staging + waiting == 0 && view.number(is_down) > 0 {
            return self.until_deadline(Reason::Healing, true, self.healing(&progress));
        }
        if updating + staging + waiting == 0 && view.number(is_not_ready) > 0 {
            return self.until_deadline(Reason::HostsNotReady, true, self.not_ready(&progress));
        }
        if let Some(limit) = self.group_limit() {
            let message = format!("{progress}; {}", self.too_few_available(&limit));
            if limit.never_met {
                return (Verdict::failed(Reason::MinAvailableTooHigh, message), None);
            }
            return match limit.waits_for_person() {
                true => look_again(self.until_deadline(Reason::TooFewAvailable, true, message)),
                // The others' updates have deadlines of their own.
                false => (Verdict::working(Reason::TooFewAvailable, message), Some(LOOK_AGAIN)),
            };
        }
        if rolling::is_held_back(view) {
            return match view.number(is_blocking) {
                0 => self.canary_held_back(&progress),
                _ => self.held_back(&progress),
            };
        }
        if updating + staging == 0
            && let Some(host) = view.hosts.iter().find(|host| view.canary.awaits(host.name) && is_stuck(&host.state))
        {
            return self.canary_stuck(&progress, host);
        }
        let doing = match (updating, staging) {
            (0, 0) => "waiting for the next update".to_owned(),
            (0, _) => format!("staging on {}", view.names(is_unstaged)),
            (n, 0) => format!("{n} updating: {}", view.names(is_updating)),
            (n, _) => format!("{n} updating: {}; staging on {}", view.names(is_updating), view.names(is_unstaged)),
        };
        self.until_deadline(Reason::RollingOut, false, format!("{progress}; {doing}"))
    }

    /// Hosts where nothing serves wait for the canary, and use up `maxUnavailable`.
    fn canary_held_back(&self, progress: &str) -> (Verdict, Option<Duration>) {
        let view = self.view;
        let is_idle = |host: &&HostView<'_>| !host.is_available() && !view.canary.allows(host.name);
        let idle: Vec<&str> = view.hosts.iter().filter(is_idle).map(|host| host.name).collect();
        let message = format!(
            "{progress}; the canary is not updated: maxUnavailable {} is used up by hosts where nothing serves, which wait for it: {}. To go on \
             without the canary: {}",
            rolling::max_unavailable(view),
            list_names(&idle),
            self.promote()
        );
        self.until_deadline(Reason::RollingOut, true, message)
    }

    /// The command that promotes the canary.
    fn promote(&self) -> String {
        let value = self.view.rollout.as_ref().map(|active| stamp::wanted(&active.rollout)).unwrap_or_default();
        self.view.observed.verb_command(verbs::PROMOTE, &value)
    }

    /// A canary host is not updated, or not ready, for a cause that is no update of it; the others wait.
    fn canary_stuck(&self, progress: &str, host: &HostView<'_>) -> (Verdict, Option<Duration>) {
        let (reason, why) = match &host.state {
            HostState::NotReady(_) => (Reason::HostsNotReady, "its readiness probe fails"),
            HostState::Down | HostState::Healing { .. } => (Reason::Healing, "its process ended and is started again"),
            HostState::ByHand { .. } => (Reason::ChangedByHand, "it was changed by hand"),
            HostState::Slow(_) => (Reason::UploadTooSlow, "its line is too slow for the release"),
            HostState::Refused(failure) => (failure.reason, failure.message.as_str()),
            _ => (Reason::HostsUnreachable, "no answer"),
        };
        let message = format!(
            "{progress}; all others wait for the canary {}: {why}. To leave it out: {}. To go on without it: {}",
            host.name,
            self.group_verb(verbs::SUSPEND_HOST, host.name),
            self.promote()
        );
        self.until_deadline(reason, true, message)
    }

    fn healing(&self, progress: &str) -> String {
        let is_down = |state: &HostState| matches!(state, HostState::Healing { .. } | HostState::Down);
        let names = self.view.names(is_down);
        let mut down = self.view.hosts.iter().filter(|host| is_down(&host.state));
        let failure = down.find_map(|host| Some((host.name, host.observed.heal_failure.as_ref()?)));
        let last_try = failure.map_or(String::new(), |(host, failure)| {
            format!("; the last try on {host}: {} ({})", failure.reason, failure.message)
        });
        format!("the process on {names} ended and is started again{last_try}; {progress}")
    }

    fn not_ready(&self, progress: &str) -> String {
        // As the exceptions show it.
        let hosts = self.view.hosts.iter().filter(|host| is_not_ready(&host.state));
        let first = hosts.clone().take(3).map(|host| {
            let shown = self.status.exceptions.iter().find(|exception| exception.host == host.name);
            let message = shown.map_or("", |exception| exception.message.as_str());
            format!("{} ({})", host.name, message.strip_prefix(PROBE_FAILS).unwrap_or(message))
        });
        let first: Vec<String> = first.collect();
        let more = match hosts.count().saturating_sub(first.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "the readiness probe fails on {}{more}; the process is left running. {progress}. {}",
            first.join(", "),
            self.redeploy_command("To start it again")
        )
    }

    fn redeploy_command(&self, words: &str) -> String {
        let record = self.view.rollout.as_ref().map(|active| &active.record);
        rollback::redeploy_command(self.view.observed, record, words)
    }

    /// What `minAvailable` of the group leaves, where it holds the rollout.
    fn group_limit(&self) -> Option<GroupLimit<'_>> {
        min_available::limit(self.view).filter(|_| self.hold == Some(Hold::TooFewAvailable))
    }

    fn too_few_available(&self, limit: &GroupLimit<'_>) -> String {
        let group = &self.view.observed.spec.host_group_ref.name;
        if limit.never_met {
            let why = limit.never_met(self.view.targets.group.hosts.len());
            return format!("no host is updated: HostGroup {group}: {why}");
        }
        let waits = format!("no further host is updated for now: {}; it goes on when more are", limit.used_up(group));
        match limit.remedy() {
            Some(Remedy::Suspend(host)) => {
                let command = self.group_verb(verbs::SUSPEND_HOST, host);
                format!("{waits}. To leave a dead machine out of the count: {command}")
            }
            Some(Remedy::Lower { dead, to }) => {
                let to = if to == 0 { "null".to_owned() } else { to.to_string() };
                let namespace = &self.view.observed.namespace;
                format!(
                    "{waits}. Bring {dead} back, or keep fewer while it is away: kubectl -n {namespace} patch \
                     hostgroups.landfall.dev/{group} --type=merge -p '{{\"spec\":{{\"minAvailable\":{to}}}}}'"
                )
            }
            None => waits,
        }
    }

    /// Hosts that are unavailable for another cause than an update use up `maxUnavailable`.
    fn held_back(&self, progress: &str) -> (Verdict, Option<Duration>) {
        let view = self.view;
        let is_down = |state: &HostState| matches!(state, HostState::Healing { .. } | HostState::Down);
        let stopped = view.number(|state| *state == HostState::ByHand { serves: false });
        let reason = match view.number(is_away) {
            0 if stopped == view.number(is_blocking) => Reason::ChangedByHand,
            0 if view.number(is_down) == 0 && view.number(is_not_ready) > 0 => Reason::HostsNotReady,
            0 => Reason::Healing,
            _ => Reason::HostsUnreachable,
        };
        let message = format!(
            "{progress}; no further host is updated: maxUnavailable {} is used up by {}{}. To continue without one: {}",
            rolling::max_unavailable(view),
            view.names(is_blocking),
            if reason == Reason::ChangedByHand { ", stopped by hand" } else { "" },
            self.group_verb(verbs::SUSPEND_HOST, self.first(is_blocking))
        );
        self.until_deadline(reason, true, message)
    }

    /// Seconds without progress that are no fault, and the fields that say so. A started process has its own time to become ready.
    fn limit(&self) -> (i64, &'static str) {
        let deadline = self.view.observed.spec.progress_deadline_seconds;
        let verifies = |state: &HostState| matches!(state, HostState::Updating { phase: Phase::Verifying, lost: None });
        let verifying = self.view.hosts.iter().filter(|host| verifies(&host.state));
        match verifying.filter_map(|host| Some(host.target.as_ref()?.run.healthy_deadline_seconds)).max() {
            Some(healthy) => {
                (deadline.saturating_add(healthy), "spec.progressDeadlineSeconds and run.healthyDeadlineSeconds")
            }
            None => (deadline, "spec.progressDeadlineSeconds"),
        }
    }

    fn first(&self, fits: impl Fn(&HostState) -> bool) -> &str {
        self.view.hosts.iter().find(|host| fits(&host.state)).map_or("HOST", |host| host.name)
    }

    /// In progress, until no host has passed a phase for `progressDeadlineSeconds`; then Stalled. The rollout goes on in either case.
    fn until_deadline(&self, reason: Reason, known_bad: bool, message: String) -> (Verdict, Option<Duration>) {
        let (limit, by) = self.limit();
        let since = self.status.rollout.as_ref().map_or(self.now, |rollout| rollout.progressed_at.0);
        let elapsed = self.now.duration_since(since).as_secs();
        if elapsed >= limit {
            let reason = if reason == Reason::RollingOut { Reason::ProgressDeadlineExceeded } else { reason };
            let observed = self.view.observed;
            let message = format!(
                "{message}. No progress for {limit} s ({by}); it goes on all the same. What keeps each host: \
                 status.exceptions, or landfall status -n {} lfd/{}",
                observed.namespace, observed.name
            );
            return (Verdict::failed(reason, message), None);
        }
        let next = Duration::from_secs(u64::try_from(limit - elapsed).unwrap_or(1));
        (Verdict::InProgress { known_bad, reason, message }, Some(next))
    }
}

fn all_are(hosts: usize) -> String {
    if hosts == 1 { "the host is".to_owned() } else { format!("all {hosts} hosts are") }
}

fn look_again((verdict, next): (Verdict, Option<Duration>)) -> (Verdict, Option<Duration>) {
    (verdict, Some(next.map_or(LOOK_AGAIN, |next| next.min(LOOK_AGAIN))))
}

/// The host does not answer, in its update or not.
fn is_away(state: &HostState) -> bool {
    matches!(state, HostState::Unreachable(_) | HostState::Updating { lost: Some(_), .. })
}

/// The host uses up `maxUnavailable` for another cause than an update.
fn is_blocking(state: &HostState) -> bool {
    let down = |state: &HostState| matches!(state, HostState::Healing { .. } | HostState::Down | HostState::Unknown);
    is_away(state) || is_not_ready(state) || down(state) || *state == HostState::ByHand { serves: false }
}

/// It is neither ready nor to be updated now.
fn is_stuck(state: &HostState) -> bool {
    is_blocking(state) || is_slow(state) || is_by_hand(state) || is_refused(state)
}

/// The Deployment may not act there, and the others go on.
fn is_refused(state: &HostState) -> bool {
    matches!(state, HostState::Refused(_))
}

/// The version of its pin can't be deployed, and the others go on.
fn is_unmet_pin(state: &HostState) -> bool {
    matches!(state, HostState::UnmetPin(_))
}

fn is_slow(state: &HostState) -> bool {
    matches!(state, HostState::Slow(_))
}

fn is_by_hand(state: &HostState) -> bool {
    matches!(state, HostState::ByHand { .. })
}

fn is_not_ready(state: &HostState) -> bool {
    matches!(state, HostState::NotReady(_))
}

/// The spec names something that does not exist yet: waiting before the deadline, Stalled after it, and resumed whenever it appears.
pub fn waiting(observed: &Observed, failure: &Failure, now: Timestamp) -> (Verdict, Option<Duration>) {
    let before = observed.before();
    let of = |kind: &str| before.conditions.iter().find(|condition| condition.type_ == kind);
    let same = of(READY).filter(|ready| ready.reason == failure.reason.as_str());
    let look_again = recheck_after(failure.reason, same, now);
    if failure.is_terminal() {
        return (Verdict::failed(failure.reason, &failure.message), Some(look_again));
    }
    let stalled = of(STALLED).is_some_and(|condition| condition.reason == failure.reason.as_str());
    let began = of(RECONCILING).map(|condition| condition.last_transition_time.0);
    let since = began.max(before.rollout.as_ref().map(|rollout| rollout.progressed_at.0)).unwrap_or(now);
    let limit = observed.spec.progress_deadline_seconds;
    let over = now.duration_since(since).as_secs() >= limit;
    // A changed spec starts the wait again.
    let same_spec = before.observed_generation == observed.generation;
    if same_spec && (stalled || over && began.is_some()) {
        let message = format!("{}; waited {limit} s; the rollout goes on when it appears", failure.message);
        return (Verdict::failed(failure.reason, message), Some(look_again));
    }
    let until_deadline = u64::try_from(limit - now.duration_since(since).as_secs()).unwrap_or(1).max(1);
    let look_again = look_again.min(Duration::from_secs(until_deadline));
    (Verdict::waiting(failure.reason, &failure.message), Some(look_again))
}

/// Delay until the next check; it grows with the time waited. Most of what is waited for wakes the Deployment when it appears.
fn recheck_after(reason: Reason, since: Option<&Condition>, now: Timestamp) -> Duration {
    let longest = if matches!(reason, Reason::HostClaimed | Reason::ProjectNotFound) { 60 } else { 600 };
    let waited = since.map_or(0, |condition| now.duration_since(condition.last_transition_time.0).as_secs());
    Duration::from_secs(u64::try_from(waited / 4).unwrap_or(0).clamp(3, longest))
}
