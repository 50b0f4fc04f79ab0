//! Histories of one Deployment by chance: fleets with zones, hosts that go, return, are suspended and lose their process, updates that fail,
//! specs and verbs that change meanwhile, an operator that is killed between plan, commit and act. Whatever happens: never more hosts are away
//! by our hand than declared, no host is begun after a stop, an abort, a pause or before its canary, none at its target is restarted, nothing is
//! done twice, and every history ends as declared or with a named reason.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::{
    deployment::{Canary, CanaryPause, HostSelection, OnFailure, RolloutIntent, RolloutOutcome, UpdateOrder},
    hostgroup::SuspendedHost,
};
use crate::model::rollout::RolloutId;

/// Cases without PROPTEST_CASES, which `make night` sets.
const CASES: u32 = 300;

struct Walk {
    simulation: Simulation,
    names: Vec<String>,
    /// What is on hosts that do not answer.
    down: BTreeMap<String, FolderCheck>,
    /// Hosts that were updated, by rollout and attempt: none is twice.
    started: BTreeSet<(String, String, i64)>,
    /// A number for the next value of a verb.
    stamps: usize,
}

impl Walk {
    fn new(hosts: usize, zones: usize) -> Self {
        let mut simulation = Simulation::new(&vec![HostOutcome::Ready; hosts], 1, 0);
        let group = simulation.observed.group.as_mut().unwrap();
        for (n, host) in group.hosts.iter_mut().enumerate() {
            host.labels.insert("zone".into(), format!("z{}", n % zones));
        }
        let names = simulation.outcomes.keys().cloned().collect();
        Self { simulation, names, down: BTreeMap::new(), started: BTreeSet::new(), stamps: 0 }
    }

    fn before(&self) -> DeploymentStatus {
        self.simulation.observed.status.clone().unwrap_or_default()
    }

    fn intent(&self) -> RolloutIntent {
        self.before().rollout.as_ref().and_then(|rollout| rollout.intent.clone()).unwrap_or_default()
    }

    /// One decision. `dies`: how many of its acts are done before the operator is killed; all without.
    fn decide(&mut self, dies: Option<usize>) -> bool {
        let now = self.simulation.now;
        let plan = plan(&self.simulation.observed, now);
        let (before, updating) = (self.before(), self.intent().updating);
        let changed = self.simulation.observed.status.as_ref() != Some(&plan.status) || !plan.actions.is_empty();
        self.simulation.observed.status = Some(plan.status);
        let number = dies.unwrap_or(usize::MAX);
        for action in plan.actions.into_iter().take(number) {
            self.check(&action, &before, &updating);
            self.simulation.action(action);
        }
        if dies.is_some() {
            self.crash();
        }
        changed
    }

    fn check(&self, action: &Action, before: &DeploymentStatus, updating: &[String]) {
        let Action::Assign(Assignment { host, goal: Goal::Run { heal: false, target, .. }, .. }) = action else {
            return;
        };
        self.simulation.check_budget(action, updating);
        let (observed, intent) = (&self.simulation.observed, self.intent());
        let status = self.before();
        let rollout = status.rollout.as_ref().unwrap();
        assert!(intent.updating.contains(host), "{host}: an update is on record before it is done");
        if updating.contains(host) {
            return;
        }
        // It begins now.
        assert!(
            !observed.spec.paused && !observed.annotations.contains_key(verbs::PAUSE),
            "{host} is begun in a pause"
        );
        assert!(!intent.aborted, "{host} is begun after an abort");
        let is_same =
            before.rollout.as_ref().is_some_and(|old| (&old.id, old.attempt) == (&rollout.id, rollout.attempt));
        let allowed = self.simulation.failures_allowed();
        // A host that a person took out of service is in no count.
        let failed = |name: &&String| self.is_in_service(name) && self.simulation.has_failed(name);
        let failed = self.names.iter().filter(failed).count();
        assert!(!is_same || failed <= allowed, "{host} is begun although too many have failed");
        if let Some(canary) = intent.canary.as_ref().filter(|_| observed.spec.strategy.canary.is_some()) {
            assert!(canary.promoted || canary.hosts.contains(host), "{host} is begun before the canary is promoted");
        }
        let folder = &observed.host(host).view().unwrap().folder;
        assert!(!steps::is_reached(folder, target), "{host} is restarted although it is at its target");
        if observed.host(host).is_serving() {
            self.check_batch(host, before, is_same);
            self.check_zone(host, target, updating);
        }
    }

    /// With `pauseSeconds` a host that serves begins with its batch, after the pause.
    fn check_batch(&self, host: &str, before: &DeploymentStatus, is_same: bool) {
        let pause = self.simulation.observed.spec.strategy.rolling_update.pause_seconds;
        let before = before.rollout.as_ref().and_then(|rollout| rollout.intent.clone()).unwrap_or_default();
        if pause == 0 || !is_same {
            return;
        }
        let open =
            self.intent().updating.into_iter().find(|name| before.updating.contains(name) && self.is_in_service(name));
        assert!(open.is_none(), "{host} joins a batch in which {open:?} is still updated");
        let ended = before.batch_ended_at.map(|Time(at)| self.simulation.now.duration_since(at).as_secs());
        assert!(ended.is_none_or(|seconds| seconds >= pause), "{host} begins {ended:?} s after the last batch");
    }

    fn is_in_service(&self, host: &str) -> bool {
        !self.simulation.observed.group.as_ref().unwrap().suspended.iter().any(|one| one.host == host)
    }

    fn zone(&self, host: &str) -> &str {
        let hosts = &self.simulation.observed.group.as_ref().unwrap().hosts;
        &hosts.iter().find(|one| one.name == host).unwrap().labels["zone"]
    }

    /// A host that serves begins while no other of its zone is updated, or no other zone has hosts to go; by zones while no other zone is open.
    fn check_zone(&self, host: &str, target: &Target, updating: &[String]) {
        let (observed, intent, zone) = (&self.simulation.observed, self.intent(), self.zone(host));
        let rolling = &observed.spec.strategy.rolling_update;
        if rolling.spread_by.is_none() {
            return;
        }
        let open: Vec<&String> =
            intent.updating.iter().filter(|name| *name != host && self.is_in_service(name)).collect();
        if rolling.order == UpdateOrder::ByZone {
            let before: Vec<&str> =
                open.iter().filter(|name| updating.contains(name)).map(|name| self.zone(name)).collect();
            assert!(
                before.is_empty() || before.contains(&zone),
                "{host} begins while zones {before:?} are not finished"
            );
            return;
        }
        let canary =
            intent.canary.as_ref().filter(|canary| observed.spec.strategy.canary.is_some() && !canary.promoted);
        let waits = |name: &&String| {
            let one = observed.host(name);
            let serves = one.is_serving() && one.task.is_none() && self.is_in_service(name);
            let folder = one.view().map(|view| &view.folder);
            let has_to_go =
                folder.is_some_and(|folder| steps::is_staged(folder, target) && !steps::is_reached(folder, target));
            serves && has_to_go && canary.is_none_or(|canary| canary.hosts.contains(name))
        };
        let other =
            self.names.iter().filter(|name| self.zone(name) != zone && !intent.updating.contains(name)).find(waits);
        let same = open.iter().find(|name| self.zone(name) == zone);
        assert!(other.is_none() || same.is_none(), "{host} begins beside {same:?} of its zone, and {other:?} waits");
    }

    fn crash(&mut self) {
        for host in self.simulation.observed.hosts.values_mut() {
            let updates = host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run);
            if let (true, FolderCheck::Facts(view)) = (updates, &mut host.check) {
                view.folder.process.iter_mut().for_each(|process| process.alive = false);
            }
        }
        self.simulation.restart();
    }

    fn record(&self, rollout: &str) -> RolloutRecord {
        let revision = RolloutId::read(rollout).unwrap().revision;
        let found = self.simulation.observed.records.iter().find(|record| record.revision == revision);
        found.unwrap_or_else(|| panic!("{rollout} is acted on, and its record is not in the store")).clone()
    }

    /// The task on a host ends, well or not.
    fn finish(&mut self, host: &str, fails: bool) {
        let Some(task) = self.simulation.observed.hosts.get_mut(host).and_then(|one| one.task.take()) else { return };
        let target = match task.goal.kind {
            GoalKind::Stage | GoalKind::Run | GoalKind::Heal => {
                let record = self.record(&task.goal.rollout);
                Target::new(&self.simulation.observed, &record, &task.goal.rollout, task.goal.attempt, 0)
            }
            _ => return,
        };
        let one = self.simulation.observed.hosts.get_mut(host).unwrap();
        let FolderCheck::Facts(check) = &mut one.check else { return };
        match task.goal.kind {
            GoalKind::Stage => {
                check.folder.releases.retain(|release| *release != target.release);
                check.folder.releases.push(target.release.clone());
            }
            GoalKind::Run => {
                let key = (host.to_owned(), target.rollout.clone(), target.attempt);
                assert!(self.started.insert(key), "{host} is updated twice in {}.{}", target.rollout, target.attempt);
                check.folder = run(&target, host, check.folder.clone(), !fails);
                if fails {
                    self.simulation.observed.failures.push(HostFailure {
                        rollout: target.rollout.clone(),
                        attempt: target.attempt,
                        host: host.into(),
                        reason: Reason::ProcessDied,
                        phase: task.phase,
                        message: "it failed".into(),
                        at: Timestamp::UNIX_EPOCH,
                        process: None,
                    });
                }
            }
            _ => check.folder = run(&target, host, check.folder.clone(), true),
        }
    }

    /// A host stops answering, or answers again.
    fn toggle(&mut self, host: &str) {
        let known = self.simulation.observed.hosts.entry(host.to_owned()).or_default();
        match self.down.remove(host) {
            Some(check) => {
                self.simulation.outcomes.insert(host.to_owned(), HostOutcome::Ready);
                known.check = check;
            }
            None => {
                self.simulation.outcomes.insert(host.to_owned(), HostOutcome::Unreachable);
                let updates = known.task.take().is_some_and(|task| task.goal.kind == GoalKind::Run);
                let lost = FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer"));
                let mut check = std::mem::replace(&mut known.check, lost);
                if let (true, FolderCheck::Facts(view)) = (updates, &mut check) {
                    view.folder.process.iter_mut().for_each(|process| process.alive = false);
                }
                self.down.insert(host.to_owned(), check);
            }
        }
    }

    fn suspend(&mut self, host: &str) {
        let suspended = &mut self.simulation.observed.group.as_mut().unwrap().suspended;
        match suspended.iter().position(|one| one.host == host) {
            Some(at) => drop(suspended.remove(at)),
            None => {
                suspended.push(SuspendedHost { host: host.into(), reason: None, since: Time(Timestamp::UNIX_EPOCH) })
            }
        }
    }

    /// A process that was ready ends, after its update was seen to be over.
    fn kill(&mut self, host: &str) {
        if self.intent().updating.iter().any(|name| name == host) {
            return;
        }
        let Some(known) = self.simulation.observed.hosts.get_mut(host) else { return };
        let FolderCheck::Facts(view) = &mut known.check else { return };
        if known.task.is_none() {
            view.folder.process.iter_mut().for_each(|process| process.alive = false);
        }
    }

    fn stamp(&mut self, verb: &str, value: String) {
        self.simulation.observed.annotations.insert(verb.into(), value);
    }

    fn new_stamp(&mut self, verb: &str) {
        self.stamps += 1;
        self.stamp(verb, self.stamps.to_string());
    }

    /// A verb for the current attempt.
    fn stamp_current(&mut self, verb: &str) {
        if let Some(rollout) = self.before().rollout.as_ref() {
            self.stamps += 1;
            self.stamp(verb, format!("{}.{}/{}", rollout.id, rollout.attempt, self.stamps));
        }
    }

    fn happen(&mut self, event: Event) {
        let at = |names: &[String], index: prop::sample::Index| index.get(names).clone();
        match event {
            Event::Decide => drop(self.decide(None)),
            Event::Die(acts) => drop(self.decide(Some(acts))),
            Event::Crash => self.crash(),
            Event::Finish(index, fails) => {
                let running = self.simulation.running();
                if !running.is_empty() {
                    self.finish(&at(&running, index), fails);
                }
            }
            Event::Toggle(index) => self.toggle(&at(&self.names, index)),
            Event::Suspend(index) => self.suspend(&at(&self.names, index)),
            Event::Kill(index) => self.kill(&at(&self.names, index)),
            Event::Want(version) => self.simulation.want(&format!("v{version}")),
            Event::Pause(paused) => self.simulation.observed.spec.paused = paused,
            Event::PauseVerb(true) => self.stamp(verbs::PAUSE, "a reason".into()),
            Event::PauseVerb(false) => drop(self.simulation.observed.annotations.remove(verbs::PAUSE)),
            Event::Verb(verb) => self.new_stamp(verb),
            Event::VerbOfCurrent(verb) => self.stamp_current(verb),
            Event::Strategy(strategy) => self.simulation.observed.spec.strategy = *strategy,
            Event::Later(seconds) => self.pass(seconds),
        }
    }

    fn pass(&mut self, seconds: i64) {
        self.simulation.now = self.simulation.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// Everything answers and nothing fails from now on, until nothing changes; answers the reason.
    fn settle(&mut self) -> String {
        for host in self.down.keys().cloned().collect::<Vec<_>>() {
            self.toggle(&host);
        }
        let mut quiet = 0;
        for _ in 0..2000 {
            let changed = self.decide(None);
            let running = self.simulation.running();
            running.iter().for_each(|host| self.finish(host, false));
            quiet = if changed || !running.is_empty() { 0 } else { quiet + 1 };
            if quiet > 3 {
                return self.simulation.reason();
            }
            self.pass(400);
        }
        panic!("it never ends: {:#?}", self.before());
    }

    /// What the reason says is so.
    fn check_end(&self, reason: &str) {
        let (observed, status, intent) = (&self.simulation.observed, self.before(), self.intent());
        let is_paused = observed.spec.paused || observed.annotations.contains_key(verbs::PAUSE);
        let outcome = status.history.first().map(|entry| entry.outcome);
        let is_so = match reason {
            "Deployed" => {
                status.hosts.ready == status.hosts.total && status.version.as_ref() == Some(&observed.spec.version)
            }
            "Paused" => is_paused,
            "Aborted" => intent.aborted && outcome == Some(RolloutOutcome::Aborted),
            "AwaitingPromotion" => {
                let manual =
                    observed.spec.strategy.canary.as_ref().is_some_and(|canary| canary.pause.seconds.is_none());
                manual && intent.canary.is_some_and(|canary| !canary.promoted)
            }
            // Hosts where nothing serves wait for a canary that serves, and use up the budget.
            "ProgressDeadlineExceeded" => intent.canary.is_some_and(|canary| !canary.promoted),
            "HostsFailed" => self.simulation.failed() > 0,
            "RolledBack" => {
                let is_back = intent.returned_from.is_some_and(|from| from.version == observed.spec.version);
                is_back && status.hosts.ready == status.hosts.total
            }
            "HostSuspended" => status.hosts.total == 0,
            "NoHosts" => observed.spec.strategy.canary.is_some() && status.hosts.skipped > 0,
            _ => false,
        };
        assert!(is_so, "it ends with {reason}: {status:#?}");
    }

    /// A person mends all that a person can, and then it is deployed.
    fn mend(&mut self) {
        self.simulation.observed.spec.paused = false;
        self.simulation.observed.annotations.remove(verbs::PAUSE);
        self.simulation.observed.group.as_mut().unwrap().suspended.clear();
        for _ in 0..6 {
            match self.settle().as_str() {
                "Deployed" => return,
                "AwaitingPromotion" | "ProgressDeadlineExceeded" => self.stamp_current(verbs::PROMOTE),
                _ => self.new_stamp(verbs::RETRY),
            }
        }
        panic!("it is not deployed: {:#?}", self.before());
    }
}

#[derive(Clone, Debug)]
enum Event {
    Decide,
    /// A decision that is put on record, and so many of its acts; then the operator is killed.
    Die(usize),
    Crash,
    Finish(prop::sample::Index, bool),
    Toggle(prop::sample::Index),
    Suspend(prop::sample::Index),
    Kill(prop::sample::Index),
    Want(usize),
    Pause(bool),
    PauseVerb(bool),
    Verb(&'static str),
    VerbOfCurrent(&'static str),
    Strategy(Box<crate::api::deployment::Strategy>),
    Later(i64),
}

fn canary() -> impl Strategy<Value = Option<Canary>> {
    let hosts =
        prop_oneof![Just(None), Just(Some(HostSelection { names: Some(vec!["web-00".into()]), selector: None })),];
    let pause = prop_oneof![Just(CanaryPause::default()), Just(CanaryPause { seconds: Some(300), manual: None }),];
    prop::option::of((hosts, prop::option::of(1..3_i32), pause).prop_map(|(hosts, max_hosts, pause)| Canary {
        hosts,
        max_hosts,
        pause,
    }))
}

fn strategy() -> impl Strategy<Value = crate::api::deployment::Strategy> {
    let zones = prop_oneof![
        Just((None, UpdateOrder::Spread)),
        Just((Some("zone".to_owned()), UpdateOrder::Spread)),
        Just((Some("zone".to_owned()), UpdateOrder::ByZone)),
    ];
    let pause = prop_oneof![2 => Just(0_i64), 1 => Just(60)];
    let on_failure =
        prop_oneof![3 => Just(OnFailure::Stop), 3 => Just(OnFailure::RollBack), 1 => Just(OnFailure::Continue)];
    let failures = (0..3_i32, on_failure);
    (1..4_i32, failures, canary(), zones, pause).prop_map(|(most, failures, canary, zones, pause)| {
        let (max_failures, on_failure) = failures;
        let mut strategy = crate::api::deployment::Strategy { max_failures, on_failure, canary, ..Default::default() };
        strategy.rolling_update.max_unavailable = IntOrString::Int(most);
        (strategy.rolling_update.spread_by, strategy.rolling_update.order) = zones;
        strategy.rolling_update.pause_seconds = pause;
        strategy
    })
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    let verb = || prop_oneof![Just(verbs::RETRY), Just(verbs::REDEPLOY), Just(verbs::ABORT), Just(verbs::PROMOTE)];
    prop_oneof![
        24 => Just(Event::Decide),
        2 => (0..4_usize).prop_map(Event::Die),
        1 => Just(Event::Crash),
        16 => (index(), prop::bool::weighted(0.1)).prop_map(|(index, fails)| Event::Finish(index, fails)),
        2 => index().prop_map(Event::Toggle),
        1 => index().prop_map(Event::Suspend),
        2 => index().prop_map(Event::Kill),
        2 => (1..5_usize).prop_map(Event::Want),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::PauseVerb),
        1 => verb().prop_map(Event::Verb),
        3 => prop_oneof![Just(verbs::ABORT), Just(verbs::PROMOTE), Just(verbs::PROMOTE)].prop_map(Event::VerbOfCurrent),
        2 => strategy().prop_map(|strategy| Event::Strategy(Box::new(strategy))),
        3 => prop_oneof![Just(1_i64), Just(60), Just(400)].prop_map(Event::Later),
    ]
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_rollout_it_keeps_its_rules_and_ends_with_a_name(
        hosts in 1..9_usize,
        zones in 1..4_usize,
        first in strategy(),
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut walk = Walk::new(hosts, zones);
        walk.simulation.observed.spec.strategy = first;
        for event in events {
            walk.happen(event);
        }
        let reason = walk.settle();
        walk.check_end(&reason);
        walk.mend();
        walk.check_end("Deployed");
    }
}
